"""What is told of an error: an exception's attributes, read once, and in the client's language if there is one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from backendkit.core.errors import AppError, Detail
from backendkit.errors.templates import fields
from backendkit.errors.texts import text_of

if TYPE_CHECKING:
    from backendkit.errors.messages import Language

CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
"""UPPER_SNAKE."""


class Told(NamedTuple):
    """An error as clients may read it, from which a format writes a body.

    Attributes:
        code: UPPER_SNAKE.
        status: 400..599.
        message: for people, in `language`.
        details: lines `{field?, issue, code?, pointer?, in?}`.
        request_id: empty outside a request.
        timestamp: RFC 3339, in UTC, like `2025-11-19T02:48:00Z`.
        language: tags of the languages that message and details are in; None where nothing is translated.
        error: what was raised, or was made of it. Its `reason` and `params` are for logs, not for clients.
    """

    code: str
    status: int
    message: str
    details: Sequence[Detail]
    request_id: str
    timestamp: str
    language: str | None
    error: AppError

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that the class's message names, as JSON has them; others are for logs, and never told."""
        return {name: _plain_value(value) for name, value in public(self.error)}

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.error.retryable is True


def public(error: AppError) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that clients may see: those that the message of the error's class names anyway."""
    params = error.params
    template = cast("object", type(error).message)
    for name in fields(template) if isinstance(template, str) else ():  # it may be a property
        if name in params:
            yield name, params[name]


def tell(error: AppError, request_id: str, timestamp: str, language: Language | None) -> Told:
    """Read an error; may raise anything where its attributes are not what they should be."""
    code: Any = error.code
    text: Any = error.text
    if not (
        isinstance(code, str) and isinstance(text, str)
    ):  # a subclass may have made anything of them
        raise TypeError("code and message must be texts")
    details: Any = error.details
    if not isinstance(details, list):  # clients were promised one
        details = plain_lines(details)
    tags = None
    if language is not None:
        text, details, tags = language.tell(error, text)
    status = error.status
    if not (type(status) is int and 400 <= status <= 599):
        status = status_of(error)
    return Told(code, status, text, details, request_id, timestamp, tags, error)


def tell_plainly(error: AppError, request_id: str, timestamp: str) -> Told:
    """Read what can be read of an error whose attributes cannot be shown as they are; never raises."""
    plain = AppError()
    plain.status = status_of(error)
    code = attribute(error, "code")
    named = CODE.fullmatch(code) if isinstance(code, str) else None
    if named is not None:
        plain.code = named.group()  # not `str(code)`, which a subclass of `str` may make to raise
        text = attribute(error, "text")
        text = attribute(error, "message") if text is None else text
        plain.message = plain.message if text is None else text_of(text)
    plain.details = plain_lines(attribute(error, "details"))
    rid = text_of(request_id)
    return Told(plain.code, plain.status, plain.message, plain.details, rid, timestamp, None, plain)


def plain_lines(details: object) -> list[Detail]:
    """Return lines of details as plain dicts of texts, whatever they are; never raises."""
    try:
        return list(_plain_details(details))
    except Exception:  # noqa: BLE001 - a mapping of somebody else's may raise anything
        return []


def status_of(error: AppError) -> int:
    """Return an error's status, 500 where that is none of an error; never raises."""
    status = attribute(error, "status")
    if not isinstance(status, int):
        return 500
    number = int.__int__(status)  # a plain one, whatever a subclass makes of comparing
    return number if 400 <= number <= 599 else 500


def attribute(error: AppError | type[AppError], name: str) -> object:
    """Return an attribute, or None where reading it raises, as a property may."""
    try:
        return getattr(error, name)
    except Exception:  # noqa: BLE001 - a property may raise anything
        return None


def headers_of(error: AppError) -> tuple[tuple[str, str], ...]:
    """Return the error's own headers that may be sent as they are: no line can be broken, no body mislabelled."""
    if error.retry_after is None and not error.headers and not error.cookies:
        return ()
    return tuple(_safe_headers(error))


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset(
    {
        "connection",
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "keep-alive",
        "repr-digest",
        "trailer",
        "transfer-encoding",
    }
)
"""What speaks of a body or a connection, and an error made elsewhere does not know of these."""

_LONGEST_WAIT = 2**31 - 1
"""Seconds: what caches must be able to hold (RFC 9111 section 1.2.2)."""


def _safe_headers(error: AppError) -> Iterator[tuple[str, str]]:
    retry_after = error.retry_after
    if retry_after is not None and _is_wait(retry_after):
        yield "Retry-After", str(math.ceil(min(max(retry_after, 0), _LONGEST_WAIT)))
    for name, value in error.headers.items():
        if not (_is_text(name) and _is_text(value)):
            continue
        lower = name.lower()
        if lower in _OURS or (lower == "retry-after" and retry_after is not None):
            continue
        if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value):
            yield name, value.strip()
    for line in error.cookies:  # the one header that may not be joined (RFC 9110 section 5.3)
        if _is_text(line) and _HEADER_VALUE.fullmatch(line):
            yield "Set-Cookie", line


def _is_wait(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_LARGEST_BITS = 330  # a hundred digits: what readers of JSON may be expected to hold


def _plain_value(value: object) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool):
        return value
    if type(value) is int and value.bit_length() <= _LARGEST_BITS:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    return text_of(value)


def _plain_details(details: object) -> Iterable[dict[str, str]]:
    if not isinstance(details, list | tuple):
        return
    for detail in cast("list[object]", details)[:100]:
        if isinstance(detail, Mapping):
            pairs = islice(cast("Mapping[object, object]", detail).items(), 20)
            yield {text_of(name): text_of(value) for name, value in pairs}
        else:
            yield {"issue": text_of(detail)}
