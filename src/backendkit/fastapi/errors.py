"""FastAPI's and Starlette's exceptions, told by the kit's registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from fastapi.exceptions import (
    RequestValidationError,
    ResponseValidationError,
    WebSocketRequestValidationError,
)
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from backendkit.core import context
from backendkit.errors import (
    AppError,
    ClientDisconnected,
    Errors,
    Rendered,
    UnsupportedMediaType,
    from_status,
    validation_error,
)
from backendkit.errors.foreign import is_redirect
from backendkit.http.body import malformed
from backendkit.http.messages import ROOT, accepted, allowed, encoded, place
from backendkit.http.reporting import note, report

Handler: TypeAlias = Callable[[Any, Any], Awaitable[Response]]

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What an `Allow` can name, in its order."""


def learn(errors: Errors) -> None:
    """Teach `errors` what the framework's exceptions mean; a rule that it has already stays."""
    errors.map(HTTPException, _from_http, replace=False)
    errors.map(RequestValidationError, _from_validation, replace=False)
    errors.map(WebSocketRequestValidationError, _from_validation, replace=False)
    errors.map(ClientDisconnect, ClientDisconnected, replace=False)
    errors.map(WebSocketDisconnect, ClientDisconnected, replace=False)


class Handlers:
    """The exception handlers of one application, as Starlette wants them.

    For a websocket they raise: the frame denies or closes it.

    Args:
        errors: the registry.
        answers: whether an unhandled error is answered and reported here, where middleware sees a response, or raised.
    """

    __slots__ = ("_answers", "_errors")

    def __init__(self, errors: Errors, *, answers: bool) -> None:
        self._errors = errors
        self._answers = answers

    def beside(self, own: Mapping[Any, Any]) -> dict[Any, Handler]:
        """Return ours, save where the application has its own: the framework's defaults do not count as such."""
        ours: dict[Any, Handler] = {
            AppError: self.tell,
            HTTPException: self.tell_http,
            RequestValidationError: self.tell,
            WebSocketRequestValidationError: self.tell,
        }
        return {kind: handler for kind, handler in ours.items() if own.get(kind) in _DEFAULTS}

    async def tell_http(self, conn: HTTPConnection, exc: HTTPException) -> Response:
        """Answer a framework's error; a redirect is none, and left to the framework."""
        if (
            conn.scope["type"] == "websocket"
        ):  # connections are Mappings, of which `isinstance` is slow
            raise exc
        if exc.status_code == 405 and isinstance(conn, Request):
            return await self._other_method(conn, exc)
        if is_redirect(exc.status_code):
            return await http_exception_handler(conn, exc)  # type: ignore[arg-type]  # it looks only at `exc`
        return self._answer(conn, exc)

    async def tell(self, conn: HTTPConnection, exc: Exception) -> Response:
        """Answer with what the registry says, and report what nobody has named."""
        if conn.scope["type"] == "websocket":
            raise exc
        return self._answer(conn, exc)

    def _answer(self, conn: HTTPConnection, exc: Exception) -> Response:
        accept, language = accepted(conn.scope["headers"])
        rendered = self._errors.render(exc, accept, context.request_id(), accept_language=language)
        if rendered.status == 500:
            if not self._answers:
                raise exc
            report(
                discreet(exc), place(conn.scope)
            )  # now: Starlette drops the traceback of what was handled
        elif rendered.status > 500:
            note(self._errors.resolve(exc), place(conn.scope))
        return _Answer(rendered, head=conn.scope["method"] == "HEAD")

    async def _other_method(self, request: Request, exc: HTTPException) -> Response:
        """Answer a method that the route does not have: OPTIONS by what there is, HEAD by what GET gives."""
        method = request.method
        error = self._errors.resolve(exc)
        known = error.headers.pop("Allow", error.headers.pop("allow", ""))
        scope = _as_received(request.scope)
        methods = allowed(_methods(request.app.routes, scope, known))
        if method == "OPTIONS" and methods:
            return Response(headers={"Allow": methods})
        if method == "HEAD" and "GET" in methods.split(", "):
            return Bodiless(request.app.router, scope)
        if methods:
            error.headers["Allow"] = methods
        return self._answer(request, error)


_DEFAULTS = (
    None,
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)


class Bodiless(Response):
    """What a GET of the same address would be answered with, without its body."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        super().__init__()
        self._app = app
        self._scope = scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the router once more, as if for a GET."""

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**self._scope, "method": "GET"}, receive, without_body)


def discreet(exc: Exception) -> Exception:
    """Return what may be logged of an error: FastAPI's on a response has the whole response in its text."""
    if not isinstance(exc, ResponseValidationError):
        return exc
    lines = [f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in exc.errors()[:MOST_LINES]]
    return InvalidResponse("; ".join(lines)).with_traceback(exc.__traceback__)


MOST_LINES = 20


class InvalidResponse(Exception):
    """What an endpoint returned does not fit its `response_model`; says where, and not what it was."""


class _Answer(Response):
    """A rendered error. Built without Starlette's constructor, which makes headers that we have."""

    def __init__(self, rendered: Rendered, *, head: bool) -> None:
        self.status_code = rendered.status
        self.body = b"" if head else rendered.body
        self.raw_headers = encoded(rendered.headers)
        self.background = None


def _as_received(scope: Scope) -> Scope:
    """Return the scope as the application got it: a mount that the request went through has added its own prefix."""
    received = scope.get("app_root_path", scope.get("root_path", ""))
    return {**scope, "root_path": scope.get(ROOT, received)}


def _methods(routes: Iterable[BaseRoute], scope: Scope, known: str) -> set[str]:
    """Return the methods of all routes at this path; the router itself names only those of the first."""
    methods = {method.strip() for method in known.split(",") if method.strip()}
    return methods | {
        method for method in METHODS if _is_answered(routes, {**scope, "method": method})
    }


def _is_answered(routes: Iterable[BaseRoute], scope: Scope) -> bool:
    for route in routes:
        match, inside = route.matches(scope)
        if match is Match.FULL:  # a mount matches whatever the method
            if not isinstance(route, Mount | Host):
                return True
            return _is_answered(route.routes or (), {**scope, **inside})
    return False


def _from_http(exc: HTTPException) -> AppError:
    cause = exc.__cause__
    if cause is not None and exc.detail == _UNREADABLE:
        return cause if isinstance(cause, AppError) else malformed(cause)
    return from_status(exc.status_code, exc.detail, exc.headers)


_UNREADABLE = "There was an error parsing the body"


def _from_validation(exc: RequestValidationError | WebSocketRequestValidationError) -> AppError:
    found = exc.errors()
    # FastAPI hands a body over unread if its Content-Type is not JSON's, and finds that bytes are no object.
    body = getattr(exc, "body", None)
    if isinstance(body, bytes) and any(tuple(error["loc"]) == ("body",) for error in found):
        return UnsupportedMediaType()
    return validation_error(found, body=body)
