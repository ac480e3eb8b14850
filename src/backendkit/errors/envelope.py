"""The two shapes in which an error travels: our envelope, and RFC 9457 `application/problem+json`.

Written out by hand, string by string, with the C escaper of the standard library: a whole body takes about a
microsecond, a fifth of what `json.dumps` takes for it, and there is no dependency to have or to miss.

The parameters of a message (`seat` of "Seat {seat} is taken") are part of neither shape: a client reads them back
out of the message, as texts. With `params=True` they travel beside it, with their types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from json.encoder import JSONEncoder
from json.encoder import encode_basestring as quote
from typing import Protocol

from backendkit.errors.texts import text_of
from backendkit.errors.told import Told


class Format(Protocol):
    """A shape for errors; any object with these two makes one."""

    @property
    def media_type(self) -> str:
        """The Content-Type of its bodies, in lower case."""
        ...

    def write(self, told: Told) -> str:
        """Return the body as JSON text; may raise anything on what is not as it should be."""
        ...


class Envelope:
    """`{"error": {"code", "message", "details", "requestId", "timestamp"}}`.

    Args:
        params: whether a member `params` follows.
    """

    __slots__ = ("_params",)

    media_type = "application/json"

    def __init__(self, *, params: bool = False) -> None:
        self._params = params

    def write(self, told: Told) -> str:
        """Return the envelope; the status is not part of it."""
        params = f',"params":{_encode(told.params)}' if self._params else ""
        return (
            f'{{"error":{{"code":{quote(told.code)},"message":{quote(told.message)},'
            f'"details":{_lines(told.details)},"requestId":{quote(told.request_id)},'
            f'"timestamp":{quote(told.timestamp)}{params}}}}}'
        )


class Problem:
    """RFC 9457: `type`, `title`, `status`, `detail`, `instance`, and as extensions `code` and `errors`.

    Args:
        docs_url: template of the `type`, like `https://example.com/errors#{code}`; None: `urn:error:<code>`.
        params: whether an extension `params` follows.
    """

    __slots__ = ("_params", "_type")

    media_type = "application/problem+json"

    def __init__(self, docs_url: str | None = None, *, params: bool = False) -> None:
        self._type = docs_url or "urn:error:{code}"
        self._params = params

    def write(self, told: Told) -> str:
        """Return the problem; the timestamp is not part of it."""
        code, error = told.code, told.error
        kind = error.problem_type or self._type.replace("{code}", code)
        params = f',"params":{_encode(told.params)}' if self._params else ""
        if error.extensions:
            params += "," + _encode(dict(error.extensions))[1:-1]
        return (
            f'{{"type":{quote(kind)},"title":{quote(title_of(code))},'
            f'"status":{told.status},"detail":{quote(told.message)},'
            f'"instance":{quote(_instance(told.request_id))},"code":{quote(code)},'
            f'"errors":{_lines(told.details)}{params}}}'
        )


def title_of(code: str) -> str:
    """Return a summary that is the same for every occurrence, as the RFC wants: `SEAT_TAKEN` is "Seat taken"."""
    return code.replace("_", " ").capitalize()


_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _lines(details: Iterable[Mapping[str, str]]) -> str:
    if not details:
        return "[]"
    return "[" + ",".join([_line(detail) for detail in details]) + "]"


def _line(detail: Mapping[str, str]) -> str:
    # Nearly all are texts under five names: no call to see that, no escaping of those again.
    pairs = [
        f"{_NAMES.get(name) or quote(text_of(name))}:{quote(value if type(value) is str else text_of(value))}"
        for name, value in detail.items()
    ]
    return "{" + ",".join(pairs) + "}"


_NAMES = {name: quote(name) for name in ("field", "issue", "code", "pointer", "in")}


def _instance(request_id: str) -> str:
    """A URN where the id is a UUID as UUIDs are written, so that a search for the id finds it; else the id."""
    return f"urn:uuid:{request_id}" if _UUID.fullmatch(request_id) else request_id


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
