"""Plain drivers of ASGI and WSGI applications: no server, no client library, every byte as the application gave it."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """A response, with header names in lower case."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    def all(self, name: str) -> list[str]:
        """Return the values of all headers called `name`."""
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str | None:
        """Return the value of the only header called `name`, or None."""
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def error(self) -> Any:
        """The envelope's content, checked as far as any can be."""
        assert self.one("content-type") == "application/json", (self.status, self.body)
        assert self.one("content-length") == str(len(self.body))
        error = json.loads(self.body)["error"]
        assert list(error) == ["code", "message", "details", "requestId", "timestamp"]
        assert error["requestId"] == self.one("x-request-id")
        return error


@dataclass
class Report:
    """One record of an unhandled error."""

    exc: BaseException
    text: str
    has_traceback: bool


class _Catcher(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.reports: list[Report] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            exc, traceback = record.exc_info[1], record.exc_info[2]
            self.reports.append(Report(exc, record.getMessage(), traceback is not None))


@contextmanager
def caught_reports() -> Iterator[list[Report]]:
    """Collect every record with an exception, of whatever logger."""
    catcher = _Catcher()
    logging.getLogger().addHandler(catcher)
    try:
        yield catcher.reports
    finally:
        logging.getLogger().removeHandler(catcher)


class Driver:
    """What tests ask of an application."""

    last: Answer

    def __init__(self, app: Any) -> None:
        self.app = app

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the application's answer."""
        raise NotImplementedError

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the answer to a GET."""
        return self.request("GET", path, headers)

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Answer:
        """Return the answer to a POST."""
        return self.request("POST", path, {"Content-Type": content_type}, body)


class Asgi(Driver):
    """Drives an ASGI application."""

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the application's answer."""
        return asyncio.run(self._request(method, path, headers, body))

    def many(self, requests: Sequence[tuple[str, Mapping[str, str]]]) -> list[Answer]:
        """Return the answers to GETs that run at once."""

        async def all_at_once() -> list[Answer]:
            return await asyncio.gather(
                *[self._request("GET", path, headers, b"") for path, headers in requests]
            )

        return asyncio.run(all_at_once())

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str] | None, body: bytes
    ) -> Answer:
        answer = self.last = Answer()
        raw_path, _, query = path.partition("?")
        given = {"host": "test", **(headers or {})}
        if body:
            given["content-length"] = str(len(body))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": raw_path,
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
            "state": {},
        }
        half = len(body) // 2
        pieces = [(body[:half], True), (body[half:], False)]

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.Event().wait()
            piece, more = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": more}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert not answer.status, "a second response start"
                answer.status = message["status"]
                answer.headers = [(k.decode(), v.decode("latin-1")) for k, v in message["headers"]]
                assert all(k == k.lower() for k, _ in answer.headers)
            else:
                assert answer.status, "a body before its start"
                assert not answer.complete, "a body after its end"
                answer.body += message.get("body", b"")
                answer.complete = not message.get("more_body", False)

        await self.app(scope, receive, send)
        return answer


class Wsgi(Driver):
    """Drives a WSGI application."""

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Return the application's answer."""
        pieces = self.open(path, headers, method=method, body=body)
        answer = self.last
        try:
            answer.body = b"".join(pieces)
            answer.complete = True
        finally:
            pieces.close()
        return answer

    def open(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: bytes = b"",
    ) -> Any:
        """Begin a request; return the application's iterable, as an iterator with `close`."""
        answer = self.last = Answer()
        raw_path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": raw_path,
            "QUERY_STRING": query,
            "SERVER_NAME": "test",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "test",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "CONTENT_LENGTH": str(len(body)) if body else "",
        }
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value

        def start_response(status: str, found: Any, exc_info: Any = None) -> Any:
            assert not answer.status or exc_info, "a second start without exc_info"
            answer.status = int(status.split(maxsplit=1)[0])
            answer.headers = [(name.lower(), value) for name, value in found]
            return None

        return _Pieces(self.app(environ, start_response))


class _Pieces:
    """An iterator that closes, as a server would, what it walks."""

    def __init__(self, body: Any) -> None:
        self._body = body
        self._iterator = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece: bytes = next(self._iterator)
        return piece

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
