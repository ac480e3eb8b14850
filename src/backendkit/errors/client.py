"""The other side: an error response of a remote service, back as the exception that was raised there.

    from backendkit.errors import raise_for_error

    raise_for_error(httpx.post(...), errors)        # raises SeatTaken(seat="12A")

Reads the envelope and RFC 9457 problems. Any other body is told by its status alone: a proxy's HTML page of a 502 is
an `UpstreamError`. What comes from a remote service is not trusted: it is read up to 256 KiB, it never
chooses a class whose status is not the response's, and whatever it holds, nothing but an `AppError` is raised.

Parameters come from the member `params`, if the service sends it (`Errors(params=True)`), with their types. Else they
are read back out of the message, as texts, by the class's template, and only where there is one way to read it: the
message already holds them, so that nothing has to be added to a body whose shape was promised. A parameter that the
template does not name is the service's own affair, for its logs; neither way carries it.

Neither httpx nor requests is imported: a response has `status_code`, `headers` and a body, or is a tuple of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import AppError
from backendkit.errors.foreign import from_status
from backendkit.errors.registry import Errors
from backendkit.errors.remote import Remote, kinds_in_use, parse, remade
from backendkit.errors.texts import mapping
from backendkit.errors.tree import UpstreamError

MOST_BYTES = 256 * 1024
"""Bytes of a body that are read; a larger one is told by its status."""

LONGEST_WAIT = 366 * 24 * 3600
"""Seconds of a Retry-After that are believed: a year."""


class ResponseLike(Protocol):
    """What httpx and requests have in common. The body is `iter_bytes()`, `iter_content(size)` or `content`."""

    @property
    def status_code(self) -> int:
        """The status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...


Headers: TypeAlias = "Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]"

Response: TypeAlias = "ResponseLike | tuple[int, Headers, bytes]"
"""A response of httpx or requests, or status, headers and body."""


def raise_for_error(
    response: Response, errors: Errors | None = None, *, clock: Clock | None = None
) -> None:
    """Raise the error that `response` tells of; return if its status is below 400.

    Args:
        response: a response of httpx or requests whose body has been read, or can be; or `(status, headers, body)`.
        errors: the classes that may be raised; None: all that are defined in a module, except where two share a code.
        clock: by which the date of a Retry-After is reckoned if the response has no Date; None: the machine's.

    Raises:
        AppError: of the class with the remote code, if the class has the response's status; else of the class that
            stands for the status, with the remote code. `retry_after` is what Retry-After says, in seconds, as a
            number or a date. `reason` names the remote request, for logs.
    """
    error = from_response(response, errors, clock=clock)
    if error is not None:
        raise error


def from_response(
    response: Response, errors: Errors | None = None, *, clock: Clock | None = None
) -> AppError | None:
    """Return the error that `response` tells of, or None if its status is below 400; arguments as for `raise_for_error`."""
    try:
        parts = _parts(response)
    except Exception as broken:  # noqa: BLE001 - a response may be of any library, or of none
        unreadable = UpstreamError(f"a response that cannot be read: {type(broken).__name__}")
        unreadable.__cause__ = broken
        return unreadable
    if 100 <= parts.status < 400:
        return None
    if not 400 <= parts.status <= 599:
        return UpstreamError("a response without a status of HTTP")
    retry_after = _retry_after(parts, clock)
    remote = parse(parts.body, parts.header("content-type")) if parts.body else None
    if remote is None:
        error = from_status(parts.status)
        error.reason = f"remote answered {parts.status}"
        error.retry_after = retry_after
        return error
    return _told(remote, parts.status, errors, retry_after)


def _told(
    remote: Remote, status: int, errors: Errors | None, retry_after: float | None
) -> AppError:
    kinds = kinds_in_use() if errors is None else errors.kinds
    kind = kinds.get(remote.code)
    request = f", request {remote.request_id}" if remote.request_id else ""
    reason = f"remote answered {status} {remote.code}{request}"
    return remade(remote, kind, status, reason, retry_after)


class _Parts(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


def _parts(response: Any) -> _Parts:
    if isinstance(response, tuple):
        status, headers, body = cast("tuple[Any, Any, bytes]", response)
    else:
        status, headers = response.status_code, response.headers
        body = _body(response) if isinstance(status, int) and status >= 400 else b""
    if not isinstance(status, int):
        raise TypeError("the status is no number")
    read = bytes(body) if len(body) <= MOST_BYTES else b""
    return _Parts(int(status), _lowered(headers), read)


def _lowered(headers: Any) -> dict[str, str]:
    """Return headers by lower-case name, the first of each; those that are no text are left out."""
    out: dict[str, str] = {}
    by_name = mapping(headers)
    pairs: Iterable[tuple[object, object]] = by_name.items() if by_name else headers
    for name, value in islice(pairs, 1000):
        key, text = _latin(name), _latin(value)
        if key is not None and text is not None:
            out.setdefault(key.lower(), text.strip())
    return out


def _latin(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def _body(response: Any) -> bytes:
    """Return a body of at most `MOST_BYTES`, piece by piece: one that is compressed, or still comes in, may be endless.

    Empty where it is larger, or cannot be read: an asynchronous stream, a broken connection.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        for chunk in _chunks(response):
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BYTES:
                return b""
    except Exception:  # noqa: BLE001 - the status is known, and enough
        return b""
    return b"".join(chunks)


def _chunks(response: Any) -> Iterable[bytes]:
    by_bytes: Callable[[], Iterable[bytes]] | None = getattr(response, "iter_bytes", None)
    if by_bytes is not None:
        return by_bytes()
    by_content: Callable[[int], Iterable[bytes]] | None = getattr(response, "iter_content", None)
    return by_content(64 * 1024) if by_content is not None else (response.content,)


_SECONDS = re.compile(r"[0-9]{1,10}")


def _retry_after(parts: _Parts, clock: Clock | None) -> float | None:
    """Return the seconds of a Retry-After: a number, or the distance of a date from the response's own Date."""
    text = parts.header("retry-after")
    if _SECONDS.fullmatch(text):
        return float(min(int(text), LONGEST_WAIT))
    until = _date(text)
    if until is None:
        return None
    now = _date(parts.header("date"))
    if now is None:
        now = (clock or SystemClock()).wall_us() / SECOND_US
    return min(max(until - now, 0.0), float(LONGEST_WAIT))


def _date(text: str) -> float | None:
    """Return an HTTP-date (RFC 9110 section 5.6.7, all three forms) as seconds since 1970."""
    if not text or len(text) > 64:
        return None
    from email.utils import mktime_tz, parsedate_tz  # noqa: PLC0415 - 8 ms that few responses need

    try:
        parsed = parsedate_tz(text)
        return float(mktime_tz(parsed)) if parsed is not None else None
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
