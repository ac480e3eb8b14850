"""What a remote service says of its error, cleaned; and the error made of it. Trusts nothing that it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple, NoReturn

from backendkit.core.errors import AppError, Detail, InvalidArgument, MissingExtra
from backendkit.errors.foreign import MOST_DETAILS, from_status
from backendkit.errors.kinds import defined
from backendkit.errors.templates import fields, fill, read_back
from backendkit.errors.texts import LONGEST_TEXT, listing, mapping
from backendkit.errors.told import CODE

LONGEST_NUMBER = 100
"""Digits of a number that is read; `int` takes time in proportion to their square."""


class Remote(NamedTuple):
    """A remote error, as far as it can be believed.

    Attributes:
        code: UPPER_SNAKE.
        message: text, empty if there is none.
        details: lines.
        params: as sent, scalars only; None: none were sent.
        request_id: `[A-Za-z0-9._:-]{1,128}`, or empty.
    """

    code: str
    message: str
    details: list[Detail]
    params: Mapping[str, Any] | None
    request_id: str


def parse(body: bytes, content_type: str) -> Remote | None:
    """Return what an envelope or a problem says; None for anything else."""
    if content_type and not _JSON.match(content_type):
        return None
    try:
        text = body.decode("utf-8-sig")
        data = json.loads(text, parse_constant=_refused, parse_int=_whole, parse_float=_fraction)
    except (ValueError, RecursionError):
        return None
    whole = mapping(data)
    envelope = mapping(whole.get("error"))
    if envelope:
        return read(envelope, message="message", details="details", request_id="requestId")
    return read(whole, message="detail", details="errors", request_id="instance")


def read(data: Mapping[str, Any], *, message: str, details: str, request_id: str) -> Remote | None:
    """Return what a mapping says, by the names that its shape gives to things; None if it has no code like ours."""
    code, rid = data.get("code"), data.get(request_id)
    if not isinstance(code, str) or not CODE.fullmatch(code):
        return None
    params = data.get("params")
    return Remote(
        code=code,
        message=_clean(data.get(message)),
        details=list(_details(data.get(details))),
        params=None if params is None else dict(_scalars(mapping(params))),
        request_id=rid if isinstance(rid, str) and _REQUEST_ID.fullmatch(rid) else "",
    )


def kinds_in_use() -> dict[str, type[AppError]]:
    """Return all error classes that live in a module, by code; a code that two of them have means neither."""
    names: dict[str, str] = {}
    found: dict[str, type[AppError]] = {"INTERNAL_ERROR": AppError}
    twice: set[str] = set()
    for kind in defined():
        code = vars(kind).get("code")
        if isinstance(code, str):
            name = f"{kind.__module__}.{kind.__qualname__}"
            if names.setdefault(code, name) != name:
                twice.add(code)
            found[code] = kind
    return {code: kind for code, kind in found.items() if code not in twice}


def remade(
    remote: Remote,
    kind: type[AppError] | None,
    status: int,
    reason: str,
    retry_after: float | None,
) -> AppError:
    """Return the error of class `kind`, if that may stand for `status`; else one that stands for the status."""
    if kind is None or kind.status != status or issubclass(kind, (InvalidArgument, MissingExtra)):
        error = from_status(status)
        error.code = remote.code
        error.message = remote.message or error.message
    else:
        params = _params(remote, kind)
        error = _made(kind, reason, remote.details, params, retry_after)
        error.params = params
        _say(error, remote.message)
    error.reason, error.details, error.retry_after = reason, list(remote.details), retry_after
    return error


_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def _details(lines: Any) -> Iterator[Detail]:
    for line in listing(lines)[:MOST_DETAILS]:
        pairs = [pair for pair in islice(mapping(line).items(), 20) if isinstance(pair[1], str)]
        if pairs:
            yield {_clean(name): _clean(value) for name, value in pairs}


def _scalars(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in islice(params.items(), 100):
        if isinstance(value, str):
            yield name, _clean(value)
        elif value is None or isinstance(value, bool | int | float):
            yield name, value


def _clean(value: Any) -> str:
    """Return a text of bounded length that can be encoded; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    return value[:LONGEST_TEXT].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _params(remote: Remote, kind: type[AppError]) -> dict[str, Any]:
    names = fields(kind.message)
    if remote.params is not None:
        return {name: remote.params[name] for name in names if name in remote.params}
    return dict(read_back(kind.message, remote.message) or {})


def _made(
    kind: type[AppError],
    reason: str,
    details: list[Detail],
    params: dict[str, Any],
    retry_after: float | None,
) -> AppError:
    """Make an instance in the way that its class allows: as ours do, by its parameters alone, or past its `__init__`."""

    def bare() -> AppError:
        error = kind.__new__(kind)
        AppError.__init__(error, reason)
        return error

    ways: tuple[Callable[[], AppError], ...] = (
        lambda: kind(reason, details=details, retry_after=retry_after, **params),
        lambda: kind(**params),
        bare,
    )
    for way in ways:
        with suppress(Exception):
            error = way()
            if type(error) is kind:
                return error
    return from_status(kind.status)


def _say(error: AppError, message: str) -> None:
    """Let the error say what the remote service said, where it would say it otherwise, in another language for one."""
    if message and fill(error.message, error.params) != message and error.text != message:
        # It becomes a template, whose braces have to be doubled if it will be filled.
        error.message = message.replace("{", "{{").replace("}", "}}") if error.params else message


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("a number of more digits than are read")
    return int(digits)


def _fraction(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number beyond what can be held")
    return number
