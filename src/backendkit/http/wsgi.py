"""The WSGI frame: around any WSGI application, a request id and an envelope for whatever gets out of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from backendkit.core import context
from backendkit.errors import Errors
from backendkit.http import reporting
from backendkit.http.ids import RequestIds
from backendkit.http.messages import KEY
from backendkit.http.reporting import Report, note

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
    """A request id for every request, an envelope for every error.

    Args:
        app: any WSGI application.
        errors: the registry by which exceptions are told.
        ids: how requests are named; None: by `X-Request-ID`.
        propagate: asked when something went unhandled; True raises it to the server, unanswered and unreported.
        report: told what went unhandled; None: log, current OpenTelemetry span, Sentry.
    """

    __slots__ = ("app", "errors", "ids", "propagate", "report")

    def __init__(
        self,
        app: App,
        errors: Errors,
        *,
        ids: RequestIds | None = None,
        propagate: Callable[[], bool] = bool,
        report: Report = reporting.report,
    ) -> None:
        self.app = app
        self.errors = errors
        self.ids = ids or RequestIds()
        self.propagate = propagate
        self.report = report

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request; one that a frame is already around passes through."""
        if KEY in environ:
            return self.app(environ, start_response)
        request = context.Request(self.ids.choose(environ.get(self.ids.environ_key)))
        environ[KEY] = request
        response = _Response(self, environ, start_response, request)
        token = context.enter(request)
        try:
            body = self.app(environ, response.start)
            if _is_file(body, environ):
                request.ended = True  # the server sends the file by itself; wrapped, it could not
                return body
            return response.begin(body)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the client gets an envelope
            return response.failed(exc)
        finally:
            context.suspend(request, token)


class _Response:
    """One response on its way out; each step of its iterable runs with the request current."""

    __slots__ = (
        "_close",
        "_environ",
        "_first",
        "_frame",
        "_iterator",
        "_length",
        "_request",
        "_sent",
        "_start_response",
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
        self._sent = False
        self._first: bytes | None = None
        self._close: Callable[[], object] | None = None

    def begin(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Take the first piece, which shows whether there is a response at all; return what to send."""
        self._close = getattr(body, "close", None)
        self._iterator = iter(body)
        self._first = first = next(self._iterator, b"")
        if self._length == str(len(first)):
            return _Whole(first, self)
        return self

    def start(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Begin the response with the request's id in it."""
        name = self._frame.ids.header
        lower = name.lower()
        kept: Headers = []
        for pair in headers:
            key = pair[0].lower()
            if key == "content-length":
                self._length = pair[1]
            if key != lower:
                kept.append(pair)
        kept.append((name, self._request.id))
        if exc_info is None:
            return self._start_response(status, kept)
        return self._start_response(status, kept, exc_info)

    def failed(self, exc: Exception) -> Iterable[bytes]:
        """Answer `exc` in place of what the application began to say, and report it if nobody has handled it."""
        frame, environ = self._frame, self._environ
        rendered = frame.errors.render(exc, environ.get("HTTP_ACCEPT"), self._request.id)
        if self._sent or rendered.status == 500:
            if frame.propagate():
                self.close()
                raise exc
            frame.report(exc, place(environ))
        elif rendered.status > 500:
            note(frame.errors.resolve(exc), place(environ))
        if self._sent:
            # Servers cut the connection on this and log no second traceback: for them it is a client that left.
            raise BrokenPipeError(errno.EPIPE, "the response failed after it began") from exc
        info = (type(exc), exc, exc.__traceback__)
        self.start(status_line(rendered.status), list(rendered.headers), info)
        return _Whole(b"" if environ.get("REQUEST_METHOD") == "HEAD" else rendered.body, self)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        first = self._first
        if first is not None:
            self._first = None
            self._sent = bool(first)
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
        return piece

    def close(self) -> None:
        """End the request, and let the application clean up; once."""
        if self._request.ended:
            return
        token = context.enter(self._request)
        try:
            if self._close is not None:
                self._close()
        except Exception as exc:
            # The body is out; what fails now can only be told to operators.
            if self._frame.propagate():
                raise
            self._frame.report(exc, place(self._environ))
        finally:
            context.leave(self._request, token)


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


def _is_file(body: Iterable[bytes], environ: Environ) -> bool:
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
