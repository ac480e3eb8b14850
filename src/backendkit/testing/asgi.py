"""ASGI applications, called in process: requests, streams, clients that leave, websockets, lifespans.

Each exchange runs the application in a task of its own, as a server does, and passes messages between the two. What
the application raises to its server is raised here when the exchange ends. No wait is endless.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from backendkit.core.checks import Duration, duration_us
from backendkit.core.clock import SECOND_US
from backendkit.http.messages import App, Message, Scope, encoded
from backendkit.testing.answers import Answer, BrokenProtocol, body_and_headers
from backendkit.testing.blocking import BlockingAsgiClient
from backendkit.testing.sockets import AsgiSocket
from backendkit.testing.talk import Talk


class AsgiClient:
    """Calls an ASGI application, from asynchronous code; `sync` serves any other.

    Args:
        app: any ASGI application; a FastAPI or Starlette application is one. Its lifespan runs only inside `lifespan`.
        client: the address that connections come from.
        scheme: `http` or `https`.
        timeout: seconds, by the event loop, after which an application that does not go on fails the test.
    """

    __slots__ = ("_address", "_app", "_scheme", "_state", "_timeout")

    def __init__(
        self,
        app: App,
        *,
        client: str = "127.0.0.1",
        scheme: str = "http",
        timeout: Duration = 10,
    ) -> None:
        self._app = app
        self._address = client
        self._scheme = scheme
        self._timeout = duration_us("timeout", timeout) / SECOND_US
        self._state: dict[str, Any] = {}

    @property
    def sync(self) -> BlockingAsgiClient:
        """The same for synchronous tests: each request runs on an event loop of its own."""
        return BlockingAsgiClient(self)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the whole answer to a request.

        Args:
            method: like `GET`.
            path: with its query, escaped as it would travel.
            headers: names in any case; `Host` and `Content-Length` are added.
            json: what to send as JSON, with its Content-Type; None: `body`.
            body: what to send as it stands; it arrives in two pieces.

        Raises:
            Exception: whatever the application raises to its server.
            BrokenProtocol: the answer is none that a server could send.
            TimeoutError: the application does not go on.
        """
        async with self.stream(method, path, headers=headers, json=json, body=body) as stream:
            async for _ in stream:
                pass
        return stream.answer

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the answer to a GET."""
        return await self.request("GET", path, headers=headers)

    async def post(
        self,
        path: str,
        *,
        json: object = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to a POST."""
        return await self.request("POST", path, headers=headers, json=json, body=body)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> AsyncGenerator[AsgiStream]:
        """Begin a request; walk what it yields piece by piece. Leaving the block early is a client that hangs up."""
        content, given = body_and_headers(json, body, headers)
        half = len(content) // 2
        first = [
            {"type": "http.request", "body": content[:half], "more_body": True},
            {"type": "http.request", "body": content[half:], "more_body": False},
        ]
        scope = self._scope("http", path, given, method=method, http_version="1.1")
        talk = Talk(self._app, scope, first[1 if not half else 0 :], self._timeout)
        opened = AsgiStream(talk, Answer(head=method == "HEAD"))
        async with talk:
            yield opened
            talk.tell({"type": "http.disconnect"})

    @asynccontextmanager
    async def websocket(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        denial: bool = True,
    ) -> AsyncGenerator[AsgiSocket]:
        """Ask for a websocket; what it yields says whether it was accepted. Leaving the block closes it with 1000.

        Args:
            path: with its query.
            headers: names in any case.
            subprotocols: what the client offers.
            denial: whether the server can send a response in place of a bare refusal, as uvicorn can.
        """
        _, given = body_and_headers(None, b"", headers)
        scope = self._scope("websocket", path, given, subprotocols=list(subprotocols))
        if denial:
            scope["extensions"] = {"websocket.http.response": {}}
        talk = Talk(self._app, scope, [{"type": "websocket.connect"}], self._timeout)
        async with talk:
            socket = AsgiSocket(talk)
            await socket.open()
            yield socket
            talk.tell({"type": "websocket.disconnect", "code": 1000, "reason": ""})

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Start the application up, and shut it down at the end of the block.

        Raises:
            BrokenProtocol: it says that its start, or its end, has failed.
        """
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        talk = Talk(self._app, scope, [{"type": "lifespan.startup"}], self._timeout)
        async with talk:
            _completed(await talk.hear())
            yield
            talk.tell({"type": "lifespan.shutdown"})
            _completed(await talk.hear())

    async def together(self, *paths: str) -> list[Answer]:
        """Return the answers to GETs of all these paths, which run at once."""
        return await asyncio.gather(*(self.get(path) for path in paths))

    def _scope(self, kind: str, path: str, headers: dict[str, str], **more: Any) -> Scope:
        bare, _, query = path.partition("?")
        secure = self._scheme == "https"
        scheme = ("wss" if secure else "ws") if kind == "websocket" else self._scheme
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "path": unquote(bare),
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": scheme,
            "headers": encoded(headers.items()),
            "client": (self._address, 50_000),
            "server": ("testserver", 443 if secure else 80),
            "state": dict(self._state),
            **more,
        }


class AsgiStream:
    """A response that comes in: an asynchronous iterator over its pieces.

    Attributes:
        answer: what has come so far; status and headers once `begin` or the first piece is there.
    """

    __slots__ = ("_talk", "answer")

    def __init__(self, talk: Talk, answer: Answer) -> None:
        self._talk = talk
        self.answer = answer

    async def begin(self) -> Answer:
        """Wait for status and headers."""
        while not self.answer.status and (message := await self._talk.hear()) is not None:
            self._take(message)
        return self.answer

    def __aiter__(self) -> AsgiStream:
        return self

    async def __anext__(self) -> bytes:
        while not self.answer.complete and (message := await self._talk.hear()) is not None:
            if piece := self._take(message):
                return piece
        raise StopAsyncIteration

    def disconnect(self) -> None:
        """Hang up now: the application is told when it next asks; messages that it sends go nowhere."""
        self._talk.tell({"type": "http.disconnect"})
        self._talk.deafen()

    def _take(self, message: Message) -> bytes:
        answer = self.answer
        if message["type"] == "http.response.start":
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]]
            if any(name != name.lower() for name, _ in headers):
                raise BrokenProtocol(f"header names must be in lower case: {headers!r}")
            answer.begin(message["status"], headers)
            return b""
        piece: bytes = message.get("body", b"")
        answer.take(piece, more=message.get("more_body", False))
        return piece


def _completed(message: Message | None) -> None:
    if message is not None and message["type"].endswith("failed"):
        raise BrokenProtocol(f"{message['type']}: {message.get('message', '')}")
