"""The ASGI frame: around any ASGI application, a request id and an envelope for whatever gets out of it.

One layer, because each costs: the id is chosen, the context set, every response start given its headers, the deadline
kept, the access line written, and an exception that nobody handled told as an envelope while that is still possible.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from backendkit.core import context
from backendkit.errors import ClientDisconnected, Errors
from backendkit.http import reporting
from backendkit.http.body import checked
from backendkit.http.deadline import Deadlines, in_time
from backendkit.http.exchange import LEFT, Exchange, NoResponse
from backendkit.http.layers import Layers
from backendkit.http.messages import (
    KEY,
    ROOT,
    App,
    Receive,
    Scope,
    Send,
    ended,
    header,
    place,
)
from backendkit.http.reporting import Report, note
from backendkit.http.sockets import Socket

Unhandled: TypeAlias = Literal["answer", "reraise", "leave"]
"""What a frame does about an exception that no rule knows: `answer` it and report it; answer it and raise it again
without reporting, for a test or an outer watcher; or `leave` it alone, for an outer handler."""


class AsgiFrame:
    """A request id for every request, an envelope for every error, and the layers that are asked for.

    Frames nest, as where one application is mounted in another: the outermost names the request and adds its layers; each
    answers, by its own registry, what gets out of its application before a response has begun.

    Args:
        app: any ASGI application.
        errors: the registry by which exceptions are told.
        layers: what else the frame does; None: ids alone.
        unhandled: see `Unhandled`.
        strict_json: whether a JSON body that only Python takes for JSON is refused, see `http.body`.
        report: told of what went unhandled; by default the log, the current OpenTelemetry span, Sentry.
        route: returns the template of the route that served a request, for the access line.
    """

    __slots__ = ("app", "errors", "layers", "report", "route", "strict_json", "unhandled")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        layers: Layers | None = None,
        unhandled: Unhandled = "answer",
        strict_json: bool = True,
        report: Report = reporting.report,
        route: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self.app = app
        self.errors = errors
        self.layers = layers or Layers()
        self.unhandled: Unhandled = unhandled
        self.strict_json = strict_json
        self.report = report
        self.route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; lifespans pass through."""
        if scope["type"] != "http" or KEY in scope:
            await self._elsewhere(scope, receive, send)
            return
        layers, path = self.layers, scope["path"]
        access, pages, ids = layers.access, layers.health, layers.ids
        # Written out, here and below, what would be a call elsewhere: each costs every request.
        request = context.Request(ids.choose(header(scope["headers"], ids.key)))
        scope[KEY] = request
        exchange = Exchange(self, scope, receive, send, request)
        if access is not None:
            exchange.clock = layers.clock
            exchange.begun_us = layers.clock.mono_us()
        token = context.enter(request)
        try:
            here = exchange.path
            if pages is not None and here in pages.paths and scope["method"] in {"GET", "HEAD"}:
                await exchange.answer(await pages.answer_async(here))
            else:
                hears = scope["method"] != "GET"
                receives = self._receiving(scope, exchange) if hears else exchange.receive
                work = self.app(scope, receives, exchange.send)
                await (
                    work if layers.deadlines is None else self._timed(layers.deadlines, scope, work)
                )
            if not exchange.started and not exchange.left:
                await self._failed(NoResponse(), exchange, place(scope))
        except Exception as caught:  # noqa: BLE001 - whatever it is, the client gets an envelope
            await self._failed(original(caught), exchange, place(scope))
        finally:
            if request.aftermath is not None:
                await ended(request.aftermath, self.report, scope)
            context.leave(request, token)
            if access is not None:
                spent = (exchange.done_us or layers.clock.mono_us()) - exchange.begun_us
                route = None if self.route is None else self.route(scope)
                method, status, size = scope["method"], exchange.outcome, exchange.size
                access.write(request, method, path, status, spent, route=route, size=size)

    def _request(self, scope: Scope) -> context.Request:
        ids = self.layers.ids
        return context.Request(ids.choose(header(scope["headers"], ids.key)))

    def _receiving(self, scope: Scope, exchange: Exchange) -> Receive:
        return checked(scope, exchange.receive) if self.strict_json else exchange.receive

    def _timed(self, deadlines: Deadlines, scope: Scope, work: Awaitable[None]) -> Awaitable[None]:
        """Let the application work for as long as it may."""
        budget = deadlines.budget_us(header(scope["headers"], deadlines.key))
        if budget is None:
            return work
        request: context.Request = scope[KEY]
        request.deadline_us = self.layers.clock.mono_us() + budget
        return in_time(budget, work)

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what is no request, or a websocket, or a request that another frame has begun."""
        if scope["type"] != "websocket" or KEY in scope:
            await self._inside(scope, receive, send)
            return
        scope[KEY] = request = self._request(scope)
        await self._socket(scope, receive, send, request)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run where another frame is around this one, or where there is no request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[ROOT] = scope.get("root_path", "")
        exchange = Exchange(self, scope, receive, send, scope[KEY])
        exchange.nested = True
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as caught:  # noqa: BLE001 - as above
            await self._failed(original(caught), exchange, place(scope))

    async def _failed(self, exc: Exception, exchange: Exchange, where: str) -> None:
        """Answer `exc`, and report it or raise it if nobody has handled it."""
        if exchange.started:
            self._late(exc, exchange, where)
            return
        rendered = exchange.render(exc)
        unhandled = rendered.status == 500
        if unhandled and (
            self.unhandled == "leave" or (self.unhandled == "reraise" and exchange.nested)
        ):
            exchange.status = 500
            raise exc
        if unhandled and self.unhandled == "answer":
            self.report(exc, where)
        elif rendered.status > 500:
            note(self.errors.resolve(exc), where)
        await exchange.answer(rendered)
        if unhandled and self.unhandled == "reraise":
            raise exc

    def _late(self, exc: Exception, exchange: Exchange, where: str) -> None:
        """Report `exc`, for which there is no answer any more: the status is out.

        If the body is complete, a background task has failed, and the client need not know. If it is not, the server
        sees that its end is missing when the application returns, and cuts the connection so that the client sees it too.
        """
        if exchange.replaced:
            return  # a framework has said what it had to say, and raises only to end the application
        if exchange.nested or self.unhandled != "answer":
            raise exc
        error = self.errors.resolve(exc)
        if error.status == 504:
            note(error, where)
        elif not isinstance(error, ClientDisconnected):
            self.report(exc, where)

    async def _socket(
        self, scope: Scope, receive: Receive, send: Send, request: context.Request
    ) -> None:
        """Serve a websocket: an error denies or closes it."""
        begun = self.layers.clock.mono_us()
        socket = Socket(self, scope, receive, send, request)
        token = context.enter(request)
        try:
            await self.app(scope, socket.receive, socket.send)
            if socket.state == "new":
                await self._refuse(NoResponse(), socket, scope)
        except Exception as caught:  # noqa: BLE001 - as above
            await self._refuse(original(caught), socket, scope)
        finally:
            if request.aftermath is not None:
                await ended(request.aftermath, self.report, scope)
            context.leave(request, token)
            if self.layers.access is not None:
                route = None if self.route is None else self.route(scope)
                spent, path = self.layers.clock.mono_us() - begun, scope["path"]
                status = socket.status or LEFT
                self.layers.access.write(request, "WEBSOCKET", path, status, spent, route=route)

    async def _refuse(self, exc: Exception, socket: Socket, scope: Scope) -> None:
        """Deny or close a socket for `exc`, and report it or raise it if nobody has handled it."""
        if exc is socket.lost:  # the server says that there is nobody to send to
            return
        rendered, error = socket.render(exc), self.errors.resolve(exc)
        unhandled = rendered.status == 500
        if unhandled and self.unhandled == "leave":
            raise exc
        if unhandled and self.unhandled == "answer":
            self.report(exc, place(scope))
        elif rendered.status > 500:
            note(error, place(scope))
        if rendered.status != LEFT:
            await socket.refuse(rendered, error.code)
        if unhandled and self.unhandled == "reraise":
            raise exc


def original(exc: Exception) -> Exception:
    """Return the error behind Starlette's "response already started", which hides it, sometimes twice."""
    while isinstance(exc, RuntimeError) and "response already started" in str(exc):
        cause = exc.__cause__ or exc.__context__
        if not isinstance(cause, Exception):
            break
        exc = cause
    return exc
