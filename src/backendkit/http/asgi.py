"""The ASGI frame: around any ASGI application, a request id and an envelope for whatever gets out of it.

One layer, because each costs: the id is chosen, the context set, every response start given its header, and an
exception that nobody handled is told as an envelope while that is still possible.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from backendkit.core import context
from backendkit.errors import ClientDisconnected, Errors, Rendered, from_status
from backendkit.errors.foreign import phrases
from backendkit.http import reporting
from backendkit.http.body import checked
from backendkit.http.ids import RequestIds
from backendkit.http.messages import (
    AFTERMATH,
    KEY,
    Aftermath,
    App,
    Message,
    RawHeaders,
    Receive,
    Scope,
    Send,
    encoded,
    header,
    place,
)
from backendkit.http.reporting import Report, note

Unhandled: TypeAlias = Literal["answer", "reraise", "leave"]
"""What a frame does about an exception that no rule knows: `answer` it and report it; answer it and raise it again
without reporting, for a test or an outer watcher; or `leave` it alone, for an outer handler."""


class AsgiFrame:
    """A request id for every request, an envelope for every error.

    Frames nest, as where one application is mounted in another: the outermost names the request; each answers, by its own
    registry, what gets out of its application before a response has begun.

    Args:
        app: any ASGI application.
        errors: the registry by which exceptions are told.
        ids: how requests are named; None: by `X-Request-ID`.
        unhandled: see `Unhandled`.
        strict_json: whether a JSON body that only Python takes for JSON is refused, see `http.body`.
        report: told of what went unhandled; by default the log, the current OpenTelemetry span, Sentry.
    """

    __slots__ = ("app", "errors", "ids", "report", "strict_json", "unhandled")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        ids: RequestIds | None = None,
        unhandled: Unhandled = "answer",
        strict_json: bool = True,
        report: Report = reporting.report,
    ) -> None:
        self.app = app
        self.errors = errors
        self.ids = ids or RequestIds()
        self.unhandled = unhandled
        self.strict_json = strict_json
        self.report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespans pass through."""
        if scope["type"] == "lifespan" or KEY in scope:
            await self._inside(scope, receive, send)
            return
        request = context.Request(self.ids.choose(header(scope["headers"], self.ids.key)))
        scope[KEY] = request
        aftermath = scope[AFTERMATH] = Aftermath()
        token = context.enter(request)
        try:
            if scope["type"] != "http":
                await self.app(scope, receive, send)
                return
            if self.strict_json:
                receive = checked(scope, receive)
            exchange = _Exchange(self, scope, send, request, nested=False)
            try:
                await self.app(scope, receive, exchange.send)
            except Exception as caught:  # noqa: BLE001 - whatever it is, the client gets an envelope
                await self._failed(original(caught), exchange, place(scope))
        finally:
            for end in aftermath.on_end:
                await end()
            context.leave(request, token)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run where another frame is around this one, or where there is no request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, send, scope[KEY], nested=True)
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as caught:  # noqa: BLE001 - as above
            await self._failed(original(caught), exchange, place(scope))

    async def _failed(self, exc: Exception, exchange: _Exchange, where: str) -> None:
        """Answer `exc`, and report it or raise it if nobody has handled it."""
        if exchange.started:
            self._late(exc, exchange, where)
            return
        rendered = exchange.render(exc)
        unhandled = rendered.status == 500
        if unhandled and (
            self.unhandled == "leave" or (self.unhandled == "reraise" and exchange.nested)
        ):
            raise exc
        if unhandled and self.unhandled == "answer":
            self.report(exc, where)
        elif rendered.status > 500:
            note(self.errors.resolve(exc), where)
        await exchange.answer(rendered)
        if unhandled and self.unhandled == "reraise":
            raise exc

    def _late(self, exc: Exception, exchange: _Exchange, where: str) -> None:
        """Report `exc`, for which there is no answer any more: the status is out.

        If the body is complete, a background task has failed, and the client need not know. If it is not, the server
        sees that its end is missing when the application returns, and cuts the connection so that the client sees it too.
        """
        if exchange.replaced:
            return  # a framework has said what it had to say, and raises only to end the application
        if exchange.nested or self.unhandled != "answer":
            raise exc
        if not isinstance(self.errors.resolve(exc), ClientDisconnected):
            self.report(exc, where)


class _Exchange:
    """One response on its way out, as one frame sees it."""

    __slots__ = (
        "_aftermath",
        "_frame",
        "_head",
        "_headers",
        "_held",
        "_request",
        "_send",
        "nested",
        "replaced",
        "started",
    )

    def __init__(
        self, frame: AsgiFrame, scope: Scope, send: Send, request: context.Request, *, nested: bool
    ) -> None:
        # Not the scope itself: frameworks put into it what holds `send`, and the circle would wait for the collector.
        self._aftermath: Aftermath = scope[AFTERMATH]
        self._head = scope["method"] == "HEAD"
        self._headers: RawHeaders = scope["headers"]
        self.started = False
        self.replaced = False
        self.nested = nested
        self._frame = frame
        self._request = request
        self._send = send
        self._held: Message | None = None

    def render(self, exc: BaseException) -> Rendered:
        """Return what tells `exc` to this request's client."""
        accept = header(self._headers, b"accept")
        return self._frame.errors.render(exc, accept, self._request.id)

    async def send(self, message: Message) -> None:
        """Pass a message on; a start gets the id, a bare standard phrase becomes an envelope."""
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if message["status"] >= 400 and _may_be_phrase(headers):
                self._held = message
                return
            self.started = True
            if not self.nested:
                message = {**message, "headers": self._with_id(message["status"], headers)}
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
        body = b"" if self._head else rendered.body
        await self._send({"type": "http.response.body", "body": body})

    async def _release(self, start: Message, message: Message) -> None:
        """Answer in place of a framework that only had a phrase to say, else let the held start go."""
        self._held = None
        body: bytes = message.get("body", b"")
        if not message.get("more_body") and body.decode("latin-1") in phrases(start["status"]):
            kept = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
            self.replaced = start["status"] < 500
            await self.answer(self.render(from_status(start["status"], headers=kept)))
            return
        self.started = True
        await self._start(start)
        await self._send(message)

    async def _start(self, start: Message) -> None:
        if not self.nested:
            start = {**start, "headers": self._with_id(start["status"], start["headers"])}
        await self._send(start)

    def _with_id(self, status: int, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        key = self._frame.ids.key
        kept = [*headers]
        for name, _ in kept:
            if name == key:  # the application has set one of its own
                kept = [pair for pair in kept if pair[0] != key]
                break
        kept.append((key, self._request.id.encode()))
        for more in self._aftermath.on_start:
            kept += more(status)
        return kept


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
