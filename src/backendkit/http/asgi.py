"""The ASGI frame: around any ASGI application, a request id and an envelope for whatever gets out of it.

One layer, because each costs: the id is chosen, the context set, every response start given its header, and an
exception that nobody handled is told as an envelope while that is still possible.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, TypeAlias

from backendkit.core import context
from backendkit.errors import Errors, Rendered, from_status
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


Unhandled: TypeAlias = Literal["answer", "reraise", "leave"]
"""What a frame does about an exception that no rule knows: `answer` it and report it; answer it and raise it again
without reporting, for a test or an outer watcher; or `leave` it alone, for an outer handler."""


class AsgiFrame:
    """A request id for every request, an envelope for every error.

    Frames nest: the outermost names the request; each answers, by its own registry, what gets out of its application
    before a response has begun, so that an inner one lets the layers between them see a response, not an exception.

    Args:
        app: any ASGI application.
        errors: the registry by which exceptions are told.
        ids: how requests are named; None: by `X-Request-ID`.
        unhandled: see `Unhandled`.
        report: told of what went unhandled; by default the log, the current OpenTelemetry span, Sentry.
    """

    __slots__ = ("app", "errors", "ids", "report", "unhandled")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        ids: RequestIds | None = None,
        unhandled: Unhandled = "answer",
        report: Report = report,
    ) -> None:
        self.app = app
        self.errors = errors
        self.ids = ids or RequestIds()
        self.unhandled = unhandled
        self.report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespans pass through."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if KEY in scope:
            await self._guard(scope, receive, send, None)
            return
        request = context.Request(self.ids.choose(header(scope["headers"], self.ids.key)))
        scope[KEY] = request
        token = context.enter(request)
        try:
            await self._guard(scope, receive, send, request)
        finally:
            context.leave(request, token)

    async def _guard(
        self, scope: Scope, receive: Receive, send: Send, request: context.Request | None
    ) -> None:
        """Run the application; `request` is None in a frame that is not the outermost."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, send, request)
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as caught:
            await self._failed(original(caught), exchange)

    async def _failed(self, exc: Exception, exchange: _Exchange) -> None:
        """Answer `exc` if nothing has been, report it if nobody has handled it, or raise it."""
        if exchange.started and exchange.nested:
            raise exc
        rendered = exchange.render(exc)
        if exchange.started or rendered.status == 500:
            if self.unhandled == "leave" or (self.unhandled == "reraise" and exchange.nested):
                raise exc
            if self.unhandled == "answer":
                self.report(exc, place(exchange.scope))
        elif rendered.status > 500:
            note(self.errors.resolve(exc), place(exchange.scope))
        if not exchange.started:
            await exchange.answer(rendered)
        # Else the status is out. A body that is complete was only followed by a failing background task; of one that
        # is not, the server sees that its end is missing, and cuts the connection so that the client sees it too.
        if self.unhandled == "reraise" and (exchange.late or rendered.status == 500):
            raise exc


class _Exchange:
    """One response on its way out, as one frame sees it."""

    __slots__ = ("_frame", "_held", "_request", "_send", "late", "scope", "started")

    def __init__(
        self, frame: AsgiFrame, scope: Scope, send: Send, request: context.Request | None
    ) -> None:
        self.scope = scope
        self.started = False
        self.late = False
        self._frame = frame
        self._request = request
        self._send = send
        self._held: Message | None = None

    @property
    def nested(self) -> bool:
        """Whether another frame is around this one, which names the request and reports what comes late."""
        return self._request is None

    def render(self, exc: BaseException) -> Rendered:
        self.late = self.started
        scope = self.scope
        accept = header(scope["headers"], b"accept")
        return self._frame.errors.render(exc, accept, scope[KEY].id)

    async def send(self, message: Message) -> None:
        """Pass a message on; a start gets the id, a bare standard phrase becomes an envelope."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if message["status"] >= 400 and _may_be_phrase(headers):
                self._held = message
                return
            self.started = True
            if self._request is not None:
                message = {**message, "headers": self._with_id(headers, self._request.id)}
        elif self._held is not None:
            await self._release(self._held, message)
            return
        await self._send(message)

    async def answer(self, rendered: Rendered) -> None:
        """Send a whole response; without its body where the request was a HEAD."""
        self.started = True
        self._held = None
        await self._start(
            {
                "type": "http.response.start",
                "status": rendered.status,
                "headers": encoded(rendered.headers),
            }
        )
        body = b"" if self.scope["method"] == "HEAD" else rendered.body
        await self._send({"type": "http.response.body", "body": body})

    async def _release(self, start: Message, message: Message) -> None:
        """Answer in place of a framework that only had a phrase to say, else let the held start go."""
        self._held = None
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and body.decode("latin-1") in phrases(start["status"]):
            kept = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
            await self.answer(self.render(from_status(start["status"], headers=kept)))
            return
        self.started = True
        await self._start(start)
        await self._send(message)

    async def _start(self, start: Message) -> None:
        if self._request is not None:
            start = {**start, "headers": self._with_id(start["headers"], self._request.id)}
        await self._send(start)

    def _with_id(self, headers: RawHeaders, request_id: str) -> list[tuple[bytes, bytes]]:
        key = self._frame.ids.key
        kept = [pair for pair in headers if pair[0].lower() != key]
        kept.append((key, request_id.encode()))
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
