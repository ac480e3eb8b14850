"""Flask's and Werkzeug's exceptions, told by the kit's registry."""

from __future__ import annotations

from types import TracebackType
from typing import TypeAlias

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, InternalServerError

from backendkit.core import context
from backendkit.core.errors import AppError
from backendkit.errors import Errors, MalformedBody, from_status
from backendkit.errors.foreign import is_redirect
from backendkit.http.reporting import note, report, report_beside_span
from backendkit.http.wsgi import place

ExcInfo: TypeAlias = tuple[type, BaseException, TracebackType | None] | tuple[None, None, None]


def learn(errors: Errors) -> None:
    """Teach `errors` what the framework's exceptions mean; a rule that it has already stays."""
    errors.map(HTTPException, _from_http, replace=False)


class Handlers:
    """The error handlers of one application."""

    __slots__ = ("_app", "_errors")

    def __init__(self, app: Flask, errors: Errors) -> None:
        self._app = app
        self._errors = errors

    def register(self) -> None:
        """Register ours where the application has none of its own.

        Raises:
            AssertionError: Flask's, if the application has served a request.
        """
        own = self._app.error_handler_spec[None][None]
        for kind, handler in (
            (HTTPException, self.tell_http),
            (Exception, self.tell),
        ):
            if kind not in own:
                self._app.register_error_handler(kind, handler)

    def tell_http(self, exc: HTTPException) -> ResponseReturnValue:
        """Answer what Flask or `abort` raised; a redirect, or a response passed to `abort`, goes out as it is."""
        if exc.response is not None or is_redirect(exc.code):
            return exc  # a WSGI application, which Flask takes
        if isinstance(exc, InternalServerError) and exc.original_exception is not None:
            return self._response(exc.original_exception)  # which Flask has had logged
        answer = self._response(exc)
        if answer.status_code == 500:  # `abort(500)`, or a status that is none: nobody else logs it
            report(exc, place(request.environ))
        return answer

    def tell(self, exc: Exception) -> ResponseReturnValue:
        """Answer what has a name; raise the rest, so that Flask signals `got_request_exception` and comes back."""
        if self._errors.render(exc).status == 500:
            raise exc
        return self._response(exc)

    def log(self, exc_info: ExcInfo) -> None:
        """Stand in for `Flask.log_exception`, which Flask calls once for what nobody handled."""
        exc = exc_info[1]
        if exc is not None and self._errors.render(exc).status == 500:
            tell = report_beside_span if _INSTRUMENTED in request.environ else report
            tell(exc, place(request.environ))

    def _response(self, exc: BaseException) -> Response:
        given = request.headers
        rendered = self._errors.render(
            exc,
            given.get("Accept"),
            context.request_id(),
            accept_language=given.get("Accept-Language"),
        )
        if rendered.status > 500:
            note(self._errors.resolve(exc), place(request.environ))
        return self._app.response_class(
            rendered.body, status=rendered.status, headers=list(rendered.headers)
        )


# OpenTelemetry's Flask instrumentation is told by Flask, at teardown, what went unhandled.
_INSTRUMENTED = "opentelemetry-flask.activation_key"


def _from_http(exc: HTTPException) -> AppError:
    malformed = _malformed(exc)
    if malformed is not None:
        return malformed
    own_words = exc.description != type(exc).description
    detail = exc.description if own_words and not _is_default(exc.description) else None
    return from_status(exc.code or 500, detail, _headers(exc))


def _is_default(description: str | None) -> bool:
    return description is None or description.startswith("Did not attempt to load JSON data")


def _malformed(exc: HTTPException) -> AppError | None:
    """Return what `request.get_json` found, which Flask hides behind a bare 400."""
    cause: BaseException | None = exc
    for _ in range(4):
        if cause is None or isinstance(cause, MalformedBody):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _headers(exc: HTTPException) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in exc.get_headers():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(part.strip() for part in headers["Allow"].split(",")))
    return headers
