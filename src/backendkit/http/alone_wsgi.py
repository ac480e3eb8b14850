"""Each layer of the frame by itself, around any WSGI application; see `alone_asgi`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from backendkit.errors import Errors
from backendkit.http.deadline import Deadlines
from backendkit.http.health import HealthPages
from backendkit.http.layers import AccessWriter, Layers
from backendkit.http.security import API, SecurityHeaders
from backendkit.http.wsgi import (
    App,
    Environ,
    ExcInfo,
    Headers,
    StartResponse,
    WsgiFrame,
    status_line,
)


class WsgiSecurity:
    """Security headers on every response.

    Args:
        app: any WSGI application.
        policy: the headers.
    """

    __slots__ = ("app", "policy")

    def __init__(self, app: App, policy: SecurityHeaders = API) -> None:
        self.app = app
        self.policy = policy

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        https = environ.get("wsgi.url_scheme") == "https"

        def secured(
            status: str, headers: Headers, exc_info: ExcInfo | None = None, /
        ) -> Callable[[bytes], object]:
            names = [name.lower() for name, _ in headers]
            ours = self.policy.missing(names, int(status[:3]), https=https)
            if exc_info is None:
                return start_response(status, [*headers, *ours])
            return start_response(status, [*headers, *ours], exc_info)

        return self.app(environ, secured)


class WsgiHealth:
    """The two pages for probes.

    Args:
        app: any WSGI application.
        pages: the pages.
    """

    __slots__ = ("app", "pages")

    def __init__(self, app: App, pages: HealthPages) -> None:
        self.app = app
        self.pages = pages

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if not self.pages.has(method, path):
            return self.app(environ, start_response)
        page = self.pages.answer(path)
        start_response(status_line(page.status), list(page.headers))
        return [b"" if method == "HEAD" else page.body]


def wsgi_access(app: App, errors: Errors, access: AccessWriter) -> WsgiFrame:
    """Return `app` with access lines; they need the frame, which knows when a response is over."""
    return WsgiFrame(app, errors, layers=Layers(access=access))


def wsgi_deadline(app: App, errors: Errors, deadlines: Deadlines | None = None) -> WsgiFrame:
    """Return `app` with a deadline in the context of each request."""
    return WsgiFrame(app, errors, layers=Layers(deadlines=deadlines or Deadlines()))
