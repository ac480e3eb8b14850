"""A response cache with conditional requests for any ASGI application: plain middleware.

A response that comes in one piece, or says how long it is, is held back until it is whole, tagged, stored if the rule
allows, and answered as the request's conditions say. All else passes through as it comes: streams, event streams,
large files, websockets.
"""

from __future__ import annotations

from backendkit.http.cache_rule import (
    ERRORS,
    NOTHING,
    CacheRule,
    Stored,
    changes,
    find,
    judge,
    keep,
    url_key,
)
from backendkit.http.messages import App, Message, Receive, Scope, Send, encoded
from backendkit.http.response_store import AwaitingWorld
from backendkit.http.responses import UNCACHED, Asked, Response


class AsgiCache:
    """Stores responses and answers conditional requests.

    Args:
        app: any ASGI application. Compression belongs inside: a tag is of the bytes that are sent.
        rule: what is stored.
    """

    __slots__ = ("_refreshing", "_world", "app", "rule")

    def __init__(self, app: App, rule: CacheRule) -> None:
        self.app = app
        self.rule = rule
        self._world = None if rule.store is None else AwaitingWorld(rule.store.aio)
        self._refreshing: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = asked_of(scope)
        stored = NOTHING
        if self._world is not None and self.rule.shares(asked):
            stored = await find(self.rule, asked, self._world)
            verdict = judge(self.rule, asked, stored)
            if verdict == "refuse":
                await reply(send, UNCACHED)
                return
            if verdict != "fetch":
                await reply(send, stored.aged().answer(asked))
                if verdict == "serve stale":
                    await self._refresh(scope, asked, stored)
                return
        await self._fetch(scope, receive, send, asked, stored)

    async def _fetch(
        self, scope: Scope, receive: Receive, send: Send, asked: Asked, stored: Stored
    ) -> None:
        held = _Held(send, self.rule.max_body, whole=asked.method in ("GET", "HEAD"))
        helps = stored.helps
        try:
            await self.app(scope, receive, held.send)
        except Exception:
            if not helps or held.begun:
                raise
            await reply(send, stored.aged().answer(asked))
            return
        if held.response is not None:
            if helps and held.response.status in ERRORS:
                await reply(send, stored.aged().answer(asked))
                return
            response = held.response if asked.method == "HEAD" else held.response.tagged()
            if self._world is not None:
                await keep(self.rule, asked, response, stored, self._world)
            await reply(send, response.answer(asked))
        if self._world is not None and changes(asked, held.status):
            await self._world.invalidate(url_key(asked.url))

    async def _refresh(self, scope: Scope, asked: Asked, stored: Stored) -> None:
        """Fetch anew what was served stale; the client has its answer already."""
        place = str(stored.place)
        if place in self._refreshing or self._world is None:
            return
        self._refreshing.add(place)
        try:
            held = _Held(_nowhere, self.rule.max_body, whole=True)
            plain = [pair for pair in scope["headers"] if not pair[0].startswith(b"if-")]
            inner = {**scope, "method": "GET", "headers": plain}
            await self.app(inner, _no_body, held.send)
            if held.response is not None:
                response = held.response.tagged()
                again = asked._replace(method="GET")
                await keep(self.rule, again, response, stored, self._world)
        finally:
            self._refreshing.discard(place)


class _Held:
    """A response on its way out, held back where it can be."""

    __slots__ = ("_body", "_most", "_send", "_start", "_whole", "begun", "response", "status")

    def __init__(self, send: Send, most: int, *, whole: bool) -> None:
        self._send = send
        self._most = most
        self._whole = whole
        self._start: Message | None = None
        self._body: list[bytes] = []
        self.begun = False
        self.status = 500
        self.response: Response | None = None

    async def send(self, message: Message) -> None:
        """Take a message, or pass it on."""
        kind = message["type"]
        if kind == "http.response.start" and self._start is None and not self.begun:
            self.status = message["status"]
            if self._whole:
                self._start = message
                return
        elif kind == "http.response.body" and self._start is not None:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._finish()
                return
            if self._fits():
                return
            await self._let_go(more=True)
            return
        elif self._start is not None:  # trailers, a path to send, whatever else a server can do
            await self._let_go(more=None)
        self.begun = True
        await self._send(message)

    def _fits(self) -> bool:
        lengths = [
            value
            for name, value in (self._start or {})["headers"]
            if name.lower() == b"content-length"
        ]
        return bool(lengths) and lengths[0].isdigit() and int(lengths[0]) <= self._most

    def _finish(self) -> None:
        start = self._start or {}
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in start.get("headers", ())
        ]
        self.response = Response(self.status, headers, b"".join(self._body))

    async def _let_go(self, *, more: bool | None) -> None:
        start, self._start = self._start, None
        self.begun = True
        if start is not None:
            await self._send(start)
        if more is not None:
            body = b"".join(self._body)
            await self._send({"type": "http.response.body", "body": body, "more_body": more})


def asked_of(scope: Scope) -> Asked:
    """Return a request, read off its scope."""
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in scope["headers"]
    ]
    host = next((value for name, value in headers if name == "host"), "").lower()
    query = scope.get("query_string", b"").decode("latin-1")
    path = scope.get("raw_path") or scope["path"].encode()
    url = (str(scope.get("scheme", "http")), host, path.decode("latin-1"), query)
    return Asked(scope["method"], url, headers)


async def reply(send: Send, response: Response) -> None:
    """Send a whole response."""
    headers = encoded(response.headers)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _nowhere(message: Message) -> None:
    """Take what nobody waits for."""


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
