"""The WSGI frame: around any WSGI application, a request id and an envelope for whatever gets out of it.

One layer, as the ASGI frame is. A deadline is part of the context here and interrupts nothing; a client that has left shows when the
server closes the response before its end.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from backendkit.core import context
from backendkit.errors import Errors, Rendered
from backendkit.http import reporting
from backendkit.http.exchange import LEFT, NoResponse
from backendkit.http.layers import Layers
from backendkit.http.messages import KEY
from backendkit.http.reporting import Report, note
from backendkit.http.security import kept_private

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)
Headers: TypeAlias = list[tuple[str, str]]


class StartResponse(Protocol):
    """What a WSGI server passes in (PEP 3333)."""

    def __call__(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Begin the response."""
        ...


App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]


class WsgiFrame:
    """A request id for every request, an envelope for every error, and the layers that are asked for.

    Args:
        app: any WSGI application.
        errors: the registry by which exceptions are told.
        layers: what else the frame does; None: ids alone.
        propagate: asked when something went unhandled; True raises it to the server, unanswered and unreported.
        report: told what went unhandled; by default the log, the current OpenTelemetry span, Sentry.
        route: returns the template of the route that served a request, for the access line.
    """

    __slots__ = ("app", "errors", "layers", "propagate", "report", "route")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        layers: Layers | None = None,
        propagate: Callable[[], bool] = bool,
        report: Report = reporting.report,
        route: Callable[[Environ], str | None] | None = None,
    ) -> None:
        self.app = app
        self.errors = errors
        self.layers = layers or Layers()
        self.propagate = propagate
        self.report = report
        self.route = route

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request; one that a frame is already around passes through."""
        if KEY in environ:
            return self.app(environ, start_response)
        layers = self.layers
        request = context.Request(layers.ids.choose(environ.get(layers.ids.environ_key)))
        environ[KEY] = request
        response = _Response(self, environ, start_response, request)
        token = context.enter(request)
        try:
            pages, deadlines = layers.health, layers.deadlines
            if (
                pages is not None
                and environ.get("PATH_INFO", "") in pages.paths  # the rarer, and the cheaper to ask
                and pages.has(environ["REQUEST_METHOD"], _path(environ))
            ):
                return response.answer(pages.answer(_path(environ)))
            if deadlines is not None:
                budget = deadlines.budget_us(environ.get(deadlines.environ_key))
                if budget is not None:
                    request.deadline_us = layers.clock.mono_us() + budget
            body = self.app(environ, response.start)
            if _is_file(body, environ):
                response.end()  # the server sends the file by itself; wrapped, it could not
                return body
            return response.begin(body)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the client gets an envelope
            return response.failed(exc)
        finally:
            context.suspend(request, token)


class _Response:
    """One response on its way out; each step of its iterable runs with the request current."""

    __slots__ = (
        "_begun",
        "_close",
        "_environ",
        "_first",
        "_frame",
        "_iterator",
        "_length",
        "_request",
        "_route",
        "_sent",
        "_size",
        "_start_response",
        "_status",
        "_whole",
        "_write",
    )

    def __init__(
        self,
        frame: WsgiFrame,
        environ: Environ,
        start_response: StartResponse,
        request: context.Request,
    ) -> None:
        self._frame = frame
        self._environ = environ
        self._start_response = start_response
        self._request = request
        self._length = ""
        self._begun = 0 if frame.layers.access is None else frame.layers.clock.mono_us()
        self._size = 0
        self._status = 0
        self._route: str | None = None
        self._sent = False
        self._whole = False
        self._first: bytes | None = None
        self._close: Callable[[], object] | None = None

    def begin(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Take the first piece, which shows whether there is a response at all; return what to send."""
        self._close = getattr(body, "close", None)
        self._iterator = iter(body)
        self._first = first = next(self._iterator, b"")
        if not self._status:  # servers would say so in plain text, without an id, or break
            raise NoResponse
        if self._length == str(len(first)):
            self._size = len(first)
            self._whole = True
            return _Whole(first, self)
        return self

    def start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Begin the response with the request's id in it."""
        layers, environ = self._frame.layers, self._environ
        name, present = layers.ids.header, [name.lower() for name, _ in headers]
        self._length = (
            headers[present.index("content-length")][1] if "content-length" in present else ""
        )
        if name.lower() in present:  # the application has set one of its own
            headers = [pair for pair in headers if pair[0].lower() != name.lower()]
        self._status = number = int(status[:3])
        if self._frame.route is not None and layers.access is not None:
            # Now: Flask forgets the request when it has called us.
            self._route = self._route or self._frame.route(environ)
        policy = layers.security
        if self._request.outgoing is not None or _path(environ) in layers.overrides:
            policy = layers.policy(self._request, _path(environ))
        sent = [*headers]
        if policy is not None:
            https = environ.get("wsgi.url_scheme") == "https"
            sent += policy.missing(present, number, https=https)
        if self._request.personal:
            sent += kept_private(v for k, v in sent if k.lower() == "cache-control")
        sent.append((name, self._request.id))
        if exc_info is None:
            self._write = self._start_response(status, sent)
        else:
            self._write = self._start_response(status, sent, exc_info)
        return self.write

    def write(self, piece: bytes) -> None:
        """Send a piece at once, as old applications do (PEP 3333): from here on there can be no other answer."""
        self._write(piece)
        self._sent = True
        self._size += len(piece)

    def answer(self, rendered: Rendered, exc_info: ExcInfo | None = None) -> Iterable[bytes]:
        """Begin a whole response; return its body, or none where the request was a HEAD."""
        self.start(status_line(rendered.status), list(rendered.headers), exc_info)
        body = b"" if self._environ.get("REQUEST_METHOD") == "HEAD" else rendered.body
        self._size = len(body)
        return _Whole(body, self)

    def failed(self, exc: Exception) -> Iterable[bytes]:
        """Answer `exc` in place of what the application began to say, and report it if nobody has handled it."""
        frame, environ = self._frame, self._environ
        rendered = frame.errors.render(
            exc,
            environ.get("HTTP_ACCEPT"),
            self._request.id,
            accept_language=environ.get("HTTP_ACCEPT_LANGUAGE"),
        )
        if self._sent or rendered.status == 500:
            if frame.propagate():
                self._status = self._status or 500
                self.close()
                raise exc
            frame.report(exc, place(environ))
        elif rendered.status > 500:
            note(frame.errors.resolve(exc), place(environ))
        if self._sent:
            self.close()  # a server that got no iterable has nothing to close
            # Servers cut the connection on this and log no second traceback: for them it is a client that left.
            raise BrokenPipeError(errno.EPIPE, "the response failed after it began") from exc
        return self.answer(rendered, (type(exc), exc, exc.__traceback__))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first = self._first
        if first is not None:
            self._first = None
            self._sent = bool(first)
            self._size += len(first)
            return first
        token = context.enter(self._request)
        try:
            piece = next(self._iterator)
        except StopIteration:
            raise
        except Exception as exc:  # noqa: BLE001 - as above
            self._iterator = iter(self.failed(exc))
            piece = next(self._iterator, b"")
        finally:
            context.suspend(self._request, token)
        self._sent = self._sent or bool(piece)
        self._size += len(piece)
        return piece

    def close(self) -> None:
        """End the request, and let the application clean up; once."""
        if self._request.ended:
            return
        token = context.enter(self._request)
        try:
            try:
                if self._whole:  # what a generator does after its last piece is still to be done
                    next(self._iterator, b"")
            finally:
                if self._close is not None:
                    self._close()
        except Exception as exc:
            # The body is out; what fails now can only be told to operators.
            if self._frame.propagate():
                raise
            self._frame.report(exc, place(self._environ))
        finally:
            context.leave(self._request, token)
            self._tell()

    def end(self) -> None:
        """End the request where the server sends the body by itself."""
        self._request.end()
        self._tell(int(self._length) if self._length.isdigit() else None)

    def _tell(self, size: int | None = None) -> None:
        """Write the access line."""
        frame = self._frame
        access = frame.layers.access
        if access is None:
            return
        environ, spent = self._environ, frame.layers.clock.mono_us() - self._begun
        access.write(
            self._request,
            environ.get("REQUEST_METHOD", "?"),
            environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
            self._status or LEFT,
            spent,
            route=self._route,
            size=self._size if size is None else size,
        )


class _Whole(list[bytes]):
    """A body that is complete: servers walk it without asking us for each piece."""

    __slots__ = ("close",)

    def __init__(self, body: bytes, response: _Response) -> None:
        super().__init__((body,))
        self.close = response.close


def status_line(status: int) -> str:
    """Return what WSGI wants for a status: `404 Not Found`; the phrase means nothing to anybody."""
    return f"{status} {_phrase(status)}"


def place(environ: Environ) -> str:
    """Return where a request goes, for a record: `GET /users`, without the query, which may hold secrets."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return f"{environ.get('REQUEST_METHOD', '?')} {path!r}"


def _path(environ: Environ) -> str:
    path: str = environ.get("PATH_INFO", "")
    return path


def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
