"""Rate limiting for any WSGI application: plain middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from backendkit.core.flow import step
from backendkit.errors import Errors
from backendkit.http.limits import FREE, BlockingWorld, LimitRule, Ruling, admit, settle
from backendkit.http.visits import WsgiVisit
from backendkit.http.wsgi import App, Environ, ExcInfo, Headers, StartResponse, status_line

WORLD = BlockingWorld()


class WsgiLimits:
    """Limits the requests of an application.

    Args:
        app: any WSGI application.
        rule: what is limited.
        errors: by which denials are told; None: a registry with the defaults.
    """

    __slots__ = ("app", "errors", "rule")

    def __init__(self, app: App, rule: LimitRule, *, errors: Errors | None = None) -> None:
        self.app = app
        self.rule = rule
        self.errors = errors or Errors()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        ruling = step(admit(self.rule, WsgiVisit(environ), WORLD))
        if ruling.error is not None:
            rendered = self.errors.render(
                ruling.error,
                environ.get("HTTP_ACCEPT"),
                accept_language=environ.get("HTTP_ACCEPT_LANGUAGE"),
            )
            start_response(status_line(rendered.status), list(rendered.headers))
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else rendered.body]
        if ruling is FREE:
            return self.app(environ, start_response)
        response = _Response(ruling, start_response)
        try:
            body = self.app(environ, response.start)
        except BaseException:
            response.end()
            raise
        return body if ruling.seat is None else _Settling(body, response)


class _Response:
    """A response on its way out, which gets the headers and tells its status."""

    __slots__ = ("_ruling", "_start", "_status")

    def __init__(self, ruling: Ruling, start: StartResponse) -> None:
        self._ruling = ruling
        self._start = start
        self._status = 500

    def start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Begin the response with the headers in it."""
        self._status = int(status[:3])
        headers = [*headers, *self._ruling.headers]
        if exc_info is None:
            return self._start(status, headers)
        return self._start(status, headers, exc_info)

    def end(self) -> None:
        """Settle what was reserved."""
        step(settle(self._ruling, self._status, WORLD))


class _Settling:
    """A body at whose end what was reserved is settled."""

    __slots__ = ("_body", "_response")

    def __init__(self, body: Iterable[bytes], response: _Response) -> None:
        self._body = body
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Let the application clean up, and settle."""
        try:
            close: Callable[[], object] | None = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._response.end()
