"""WSGI applications, called in process as PEP 3333 says; every byte as the application gave it."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from backendkit.http.wsgi import App, Environ, ExcInfo, Headers
from backendkit.testing.answers import Answer, BrokenProtocol, body_and_headers
from backendkit.testing.blocking import BlockingClient


class WsgiClient(BlockingClient):
    """Calls a WSGI application; safe to use from several threads.

    Args:
        app: any WSGI application; a Flask application is one.
        client: the address that requests come from.
        scheme: `http` or `https`.
    """

    __slots__ = ("_address", "_app", "_scheme")

    def __init__(self, app: App, *, client: str = "127.0.0.1", scheme: str = "http") -> None:
        self._app = app
        self._address = client
        self._scheme = scheme

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the whole answer to a request; arguments as for `AsgiClient.request`.

        Raises:
            Exception: whatever the application raises to its server.
            BrokenProtocol: the answer is none that a server could send.
        """
        with self.stream(method, path, headers=headers, json=json, body=body) as pieces:
            for _ in pieces:
                pass
        return pieces.answer

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: object = None,
        body: bytes = b"",
    ) -> Generator[WsgiStream]:
        """Begin a request; walk what it yields piece by piece, or leave early as a client does that hangs up."""
        content, given = body_and_headers(json, body, headers)
        answer = Answer(head=method == "HEAD")
        environ = self._environ(method, path, content, given)

        def start(status: str, found: Headers, exc_info: ExcInfo | None = None, /) -> Any:
            if answer.body:
                if exc_info is not None and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
                raise BrokenProtocol("a start after the body began")
            if exc_info is not None:
                answer.status = 0
            answer.begin(int(status[:3]), [(name.lower(), value) for name, value in found])
            return partial(answer.take, more=True)

        opened = WsgiStream(answer, self._app(environ, start))
        try:
            yield opened
        finally:
            opened.close()

    def _environ(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Environ:
        bare, _, query = path.partition("?")
        environ: Environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            # PEP 3333 wants bytes in the guise of Latin-1 here.
            "PATH_INFO": unquote_to_bytes(bare).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "443" if self._scheme == "https" else "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self._address,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self._scheme,
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            plain = key in {"CONTENT_TYPE", "CONTENT_LENGTH"}
            environ[key if plain else f"HTTP_{key}"] = value
        return environ


class WsgiStream:
    """A response that comes in: an iterator over its pieces.

    Attributes:
        answer: what has come so far; status and headers once the first piece is there.
    """

    __slots__ = ("_body", "_closed", "_iterator", "answer")

    def __init__(self, answer: Answer, body: Any) -> None:
        self.answer = answer
        self._body = body
        self._iterator = iter(body)
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece: bytes = next(self._iterator)
        except StopIteration:
            if not self.answer.status:
                raise BrokenProtocol("the application has not begun a response") from None
            if not self.answer.complete:
                self.answer.finish()
            raise
        self.answer.take(piece, more=True)
        return piece

    def close(self) -> None:
        """Close what the application returned, as a server does at the end, or when the client is gone; once."""
        close = getattr(self._body, "close", None)
        if close is not None and not self._closed:
            self._closed = True
            close()
