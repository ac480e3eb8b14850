"""FastAPI's and Starlette's exceptions, told by the kit's registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.websockets import WebSocket, WebSocketState

from backendkit.core import context
from backendkit.errors import (
    AppError,
    ClientDisconnected,
    Errors,
    MalformedBody,
    Rendered,
    UnsupportedMediaType,
    from_status,
    validation_error,
)
from backendkit.http.messages import encoded, place
from backendkit.http.reporting import note, report

Handler: TypeAlias = Callable[[Any, Any], Awaitable[Response | None]]

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What an `Allow` can name, in its order."""


def learn(errors: Errors) -> None:
    """Teach `errors` what the framework's exceptions mean; a rule that it has already stays."""
    errors.map(HTTPException, _from_http, replace=False)
    errors.map(RequestValidationError, _from_validation, replace=False)
    errors.map(ClientDisconnect, ClientDisconnected, replace=False)


class Handlers:
    """The exception handlers of one application, as Starlette wants them.

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
        }
        defaults = (None, http_exception_handler, request_validation_exception_handler)
        return {kind: handler for kind, handler in ours.items() if own.get(kind) in defaults}

    async def tell_http(self, conn: HTTPConnection, exc: HTTPException) -> Response | None:
        """Answer a framework's error; one below 400 is no error, and left to the framework."""
        if exc.status_code < 400:
            return await http_exception_handler(conn, exc)  # type: ignore[arg-type]  # it looks only at `exc`
        if exc.status_code != 405 or not isinstance(conn, Request):
            return await self.tell(conn, exc)
        error = self._errors.resolve(exc)
        allowed = _allowed(conn, error.headers.pop("Allow", error.headers.pop("allow", "")))
        if allowed:
            error.headers["Allow"] = allowed
        return await self.tell(conn, error)

    async def tell(self, conn: HTTPConnection, exc: Exception) -> Response | None:
        """Answer with what the registry says, and report what nobody has named."""
        rendered = self._errors.render(exc, conn.headers.get("accept"), context.request_id())
        if rendered.status == 500:
            if not self._answers or isinstance(conn, WebSocket):
                raise exc
            report(exc, place(conn.scope))  # now: Starlette drops the traceback of what was handled
        error = self._errors.resolve(exc)
        if rendered.status > 500:
            note(error, place(conn.scope))
        if isinstance(conn, WebSocket):
            return await _refuse(conn, rendered, error.code)
        return _response(rendered, head=conn.scope["method"] == "HEAD")


def _response(rendered: Rendered, *, head: bool = False) -> Response:
    response = Response(b"" if head else rendered.body, rendered.status)
    response.raw_headers = encoded(rendered.headers)
    return response


async def _refuse(socket: WebSocket, rendered: Rendered, code: str) -> Response | None:
    """Deny a socket that is not open yet as a request is denied; close one that is, with the error's code."""
    fresh = socket.application_state is WebSocketState.CONNECTING
    if fresh and "websocket.http.response" in socket.scope.get("extensions", {}):
        return _response(rendered)
    if socket.application_state is not WebSocketState.DISCONNECTED:
        await socket.close(1011 if rendered.status >= 500 else 1008, code)
    return None


def _allowed(request: Request, known: str) -> str:
    """Return the methods of all routes at this path; the router itself names only those of the first."""
    methods = {method.strip() for method in known.split(",") if method.strip()}
    for method in METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    return ", ".join(sorted(methods))


def _from_http(exc: HTTPException) -> AppError:
    cause = exc.__cause__
    if cause is not None and exc.detail == _UNREADABLE:
        return cause if isinstance(cause, AppError) else MalformedBody(type(cause).__name__)
    return from_status(exc.status_code, exc.detail, exc.headers)


_UNREADABLE = "There was an error parsing the body"


def _from_validation(exc: RequestValidationError) -> AppError:
    found = exc.errors()
    # FastAPI hands a body over unread if its Content-Type is not JSON's, and finds that bytes are no object.
    if isinstance(exc.body, bytes) and any(tuple(error["loc"]) == ("body",) for error in found):
        return UnsupportedMediaType()
    return validation_error(found, body=exc.body)
