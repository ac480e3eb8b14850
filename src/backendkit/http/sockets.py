"""Websockets as a frame sees them: an error before they are open denies them, one after that closes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from backendkit.core import context
from backendkit.errors import Forbidden, Rendered
from backendkit.http.messages import Message, Receive, Scope, Send, accepted, encoded, local_path

if TYPE_CHECKING:
    from backendkit.http.asgi import AsgiFrame

LONGEST_REASON = 123
"""Bytes that a close frame has for its reason (RFC 6455 section 5.5.1)."""

POLICY_VIOLATION = 1008
INTERNAL_ERROR = 1011


class Socket:
    """One websocket.

    Attributes:
        state: what has been said to the client; `left` once it is known that the client is gone.
        status: what stands for it in the access line: 101 if it was opened, else what it was denied with.
        lost: what the server raised when it was given something to send to a client that is gone.
    """

    __slots__ = (
        "_accept",
        "_denial",
        "_frame",
        "_https",
        "_path",
        "_receive",
        "_request",
        "_send",
        "lost",
        "state",
        "status",
    )

    def __init__(
        self,
        frame: AsgiFrame,
        scope: Scope,
        receive: Receive,
        send: Send,
        request: context.Request,
    ) -> None:
        self._frame = frame
        self._receive = receive
        self._send = send
        self._request = request
        self._path = local_path(scope)
        self._https = scope.get("scheme") == "wss"
        self._denial = "websocket.http.response" in scope.get("extensions", {})
        self._accept = accepted(scope["headers"])
        self.state: Literal["new", "open", "over", "left"] = "new"
        self.status = 0
        self.lost: OSError | None = None

    def render(self, exc: BaseException) -> Rendered:
        """Return what tells `exc` to this socket's client, should it be denied."""
        accept, language = self._accept
        return self._frame.errors.render(exc, accept, self._request.id, accept_language=language)

    async def receive(self) -> Message:
        """Pass a message in, and notice a client that leaves."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.state = "left"
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on, with what an answer has in its headers, and a reason that fits into its frame."""
        kind = message["type"]
        if kind == "websocket.close" and self.state == "new" and self._denial:
            await self.deny(self.render(Forbidden()))  # what the server would say in its own words
            return
        if kind == "websocket.accept":
            self.state, self.status = "open", 101
            message = {**message, "headers": self._welcome(message)}
        elif kind == "websocket.close":
            self.status = self.status or 403
            self.state = "over"
            message = {**message, "reason": reason(message.get("reason"))}
        elif kind == "websocket.http.response.start":
            self.state, self.status = "over", message["status"]
            message = {**message, "headers": self._completed(message)}
        try:
            await self._send(message)
        except OSError as error:
            self.lost, self.state = error, "left"
            raise

    async def refuse(self, rendered: Rendered, code: str) -> None:
        """Deny a socket that is not open yet as a request is denied; close one that is, with the error's code."""
        if self.state == "new" and self._denial:
            await self.deny(rendered)
        elif self.state in {"new", "open"}:
            number = INTERNAL_ERROR if rendered.status >= 500 else POLICY_VIOLATION
            await self.send({"type": "websocket.close", "code": number, "reason": code})

    async def deny(self, rendered: Rendered) -> None:
        """Answer the handshake as any request is answered."""
        kind, headers = "websocket.http.response.start", encoded(rendered.headers)
        await self.send({"type": kind, "status": rendered.status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": rendered.body})

    def _welcome(self, accept: Message) -> list[tuple[bytes, bytes]]:
        key = self._frame.layers.ids.key
        headers = [pair for pair in accept.get("headers", ()) if pair[0].lower() != key]
        headers.append((key, self._request.id.encode()))
        if self._request.aftermath is not None:
            headers += self._request.aftermath.added(101)
        return headers

    def _completed(self, start: Message) -> list[tuple[bytes, bytes]]:
        layers = self._frame.layers
        key = layers.ids.key
        given = [pair for pair in start.get("headers", ()) if pair[0].lower() != key]
        policy = layers.policy(self._request, self._path)
        if policy is not None:
            present = [name.lower() for name, _ in given]
            given += policy.missing_raw(present, start["status"], https=self._https)
        return [*given, (key, self._request.id.encode())]


def reason(given: object) -> str:
    """Return a close frame's reason: a text of at most 123 bytes; what is no text has nothing to say there."""
    if not isinstance(given, str):
        return ""
    raw = given.encode("utf-8", "replace")
    return given if len(raw) <= LONGEST_REASON else raw[:LONGEST_REASON].decode("utf-8", "ignore")
