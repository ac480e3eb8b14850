"""A response as an application gave it, byte for byte, and the rules of ASGI and WSGI that it has kept so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backendkit.core.errors import AppError
from backendkit.errors import Errors, from_response


class BrokenProtocol(AssertionError):
    """An application, or a frame around it, did what ASGI or WSGI forbids: a second start, a body of another length."""


@dataclass(slots=True)
class Answer:
    """One response; filled as it comes in.

    Attributes:
        status: 0 before there is one.
        headers: names in lower case, in the order of the application; a repeated one appears as often.
        body: what has come so far.
        complete: whether the application has said that the body is at its end.
        head: whether the request was a HEAD, whose answer has the length of a body and no body.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytes = b""
    complete: bool = False
    head: bool = False

    def header(self, name: str) -> str | None:
        """Return the value of the only header of this name, in any case; None: there is none.

        Raises:
            BrokenProtocol: it is there more than once; see `header_all`.
        """
        values = self.header_all(name)
        if len(values) > 1:
            raise BrokenProtocol(f"{name} is sent {len(values)} times: {values!r}")
        return values[0] if values else None

    def header_all(self, name: str) -> list[str]:
        """Return the values of all headers of this name, in any case."""
        wanted = name.lower()
        return [value for key, value in self.headers if key == wanted]

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """Return the body as JSON has it."""
        return json.loads(self.body)

    def error(self, errors: Errors | None = None) -> AppError | None:
        """Return the error that the answer tells of, of the class that was raised; None below 400.

        Args:
            errors: the classes that it may be of; None: all that are defined in a module.
        """
        return from_response((self.status, self.headers, self.body), errors)

    def begin(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Take status and headers.

        Raises:
            BrokenProtocol: the response has begun before, or a header cannot be one.
        """
        if self.status:
            raise BrokenProtocol(f"a second start: {status} after {self.status}")
        for name, value in headers:
            if any(c in name + value for c in "\r\n\0"):
                raise BrokenProtocol(f"a header with a line break: {name!r}")
        self.status, self.headers = status, headers

    def take(self, piece: bytes, *, more: bool) -> None:
        """Take a piece of the body.

        Raises:
            BrokenProtocol: there was no start, or the body was at its end.
        """
        if not self.status:
            raise BrokenProtocol("a body before its start")
        if self.complete:
            raise BrokenProtocol("a body after its end")
        self.body += piece
        if not more:
            self.finish()

    def finish(self) -> None:
        """Take the body as complete.

        Raises:
            BrokenProtocol: it is not as long as Content-Length says.
        """
        self.complete = True
        said = self.header("content-length")
        if said is not None and not self.head and said != str(len(self.body)):
            raise BrokenProtocol(f"Content-Length is {said}, the body has {len(self.body)} bytes")


def body_and_headers(
    json_body: object, body: bytes, headers: Mapping[str, str] | None
) -> tuple[bytes, dict[str, str]]:
    """Return what a request sends: its bytes, and its headers by lower-case name."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if json_body is not None:
        body = json.dumps(json_body, ensure_ascii=False).encode()
        given.setdefault("content-type", "application/json")
    if body:
        given.setdefault("content-length", str(len(body)))
    return body, {"host": "testserver", **given}
