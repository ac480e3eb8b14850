"""The ASGI frame: around any ASGI application, a request id and an envelope for whatever gets out of it.

One layer, because each costs: the id is chosen, the context set, every response start given its header, and an
exception that nobody handled is told as an envelope while that is still possible.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from backendkit.core import context
from backendkit.errors import AppError, Errors, Rendered, from_status
from backendkit.errors.foreign import phrases
from backendkit.http.ids import RequestIds
from backendkit.http.report import Report, note, report

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]

KEY = "backendkit.request"
"""Where scope and environ hold the request that a frame has begun; an inner frame leaves it alone."""


class AsgiFrame:
    """A request id for every request, an envelope for every error.

    Args:
        app: any ASGI application.
        errors: the registry by which exceptions are told.
        ids: how requests are named; None: by `X-Request-ID`.
        reraise: raise what went unhandled after it has been answered, and leave reporting to whoever catches it.
        report: told what went unhandled; None: log, current OpenTelemetry span, Sentry.
    """

    __slots__ = ("app", "errors", "ids", "report", "reraise")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        ids: RequestIds | None = None,
        reraise: bool = False,
        report: Report = report,
    ) -> None:
        self.app = app
        self.errors = errors
        self.ids = ids or RequestIds()
        self.reraise = reraise
        self.report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespans, and requests that a frame is already around, pass through."""
        kind = scope["type"]
        if kind not in {"http", "websocket"} or KEY in scope:
            await self.app(scope, receive, send)
            return
        request = context.Request(self.ids.choose(header(scope["headers"], self.ids.key)))
        scope[KEY] = request
        token = context.enter(request)
        try:
            if kind == "http":
                await self._http(scope, receive, send, request)
            else:
                await self.app(scope, receive, send)
        finally:
            context.leave(request, token)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, request: context.Request
    ) -> None:
        exchange = _Exchange(self, scope, send, request)
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as caught:
            exc = original(caught)
            unhandled = await self._failed(exc, exchange)
            if unhandled and self.reraise:
                raise exc from exc.__cause__

    async def _failed(self, exc: Exception, exchange: _Exchange) -> bool:
        """Answer `exc` if nothing has been, and report it if nobody has handled it; tell whether that is so."""
        rendered = self.errors.render(exc, exchange.accept, exchange.request.id)
        unhandled = exchange.started or rendered.status == 500
        if unhandled and not self.reraise:
            self.report(exc, place(exchange.scope))
        elif rendered.status > 500:
            note(self.errors.resolve(exc), place(exchange.scope))
        if not exchange.started:
            await exchange.answer(rendered)
        # Else the status is out. A body that is complete was only followed by a failing background task; of one that
        # is not, the server sees that its end is missing, and cuts the connection so that the client sees it too.
        return unhandled


class _Exchange:
    """One response on its way out."""

    __slots__ = ("_held", "_ids", "_send", "errors", "request", "scope", "started")

    def __init__(
        self, frame: AsgiFrame, scope: Scope, send: Send, request: context.Request
    ) -> None:
        self.errors = frame.errors
        self.scope = scope
        self.request = request
        self.started = False
        self._ids = frame.ids
        self._send = send
        self._held: Message | None = None

    @property
    def accept(self) -> str | None:
        return header(self.scope["headers"], b"accept")

    async def send(self, message: Message) -> None:
        """Pass a message on; a start gets the id, a bare standard phrase becomes an envelope."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if message["status"] >= 400 and _may_be_phrase(headers):
                self._held = message
                return
            self.started = True
            message = {**message, "headers": self._with_id(headers)}
        elif self._held is not None:
            await self._release(self._held, message)
            return
        await self._send(message)

    async def answer(self, rendered: Rendered) -> None:
        """Send a whole response; without its body where the request was a HEAD."""
        self.started = True
        self._held = None
        headers = self._with_id(encoded(rendered.headers))
        await self._send(
            {"type": "http.response.start", "status": rendered.status, "headers": headers}
        )
        body = b"" if self.scope["method"] == "HEAD" else rendered.body
        await self._send({"type": "http.response.body", "body": body})

    async def _release(self, start: Message, message: Message) -> None:
        """Answer in place of a framework that only had a phrase to say, else let the held start go."""
        self._held = None
        status, body = start["status"], message.get("body", b"")
        if not message.get("more_body") and body.decode("latin-1") in phrases(status):
            kept = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in start["headers"]]
            error: AppError = from_status(status, headers=dict(kept))
            await self.answer(self.errors.render(error, self.accept, self.request.id))
            return
        self.started = True
        await self._send({**start, "headers": self._with_id(start["headers"])})
        await self._send(message)

    def _with_id(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        key = self._ids.key
        kept = [pair for pair in headers if pair[0].lower() != key]
        kept.append((key, self.request.id.encode()))
        return kept


def header(headers: RawHeaders, key: bytes) -> str | None:
    """Return the value of the first header called `key` (lower-case), or None."""
    for name, value in headers:
        if name == key:
            return value.decode("latin-1")
    return None


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def place(scope: Scope) -> str:
    """Return where a connection goes, for a record: `GET /users`, without the query, which may hold secrets."""
    return f"{scope.get('method', 'WEBSOCKET')} {scope.get('path', '?')!r}"


def original(exc: Exception) -> Exception:
    """Return the error behind Starlette's "response already started", which hides it, sometimes twice."""
    while isinstance(exc, RuntimeError) and "response already started" in str(exc):
        cause = exc.__cause__ or exc.__context__
        if not isinstance(cause, Exception):
            break
        exc = cause
    return exc


def _may_be_phrase(headers: RawHeaders) -> bool:
    """Whether a response is short plain text, as frameworks send when nobody told them what to say."""
    short = plain = False
    for name, value in headers:
        if name == b"content-type":
            plain = value.startswith(b"text/plain")
        elif name == b"content-length":
            short = len(value) <= 2 and value != b"0"
    return plain and short
