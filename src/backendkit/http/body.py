"""Request bodies that say they are JSON, held to it: RFC 8259, and text that can be encoded again.

Python's parser takes more than JSON is: `NaN`, `Infinity`, lone surrogates. All three pass validation of a `float` or a
`str` and come back as a 500, when the answer, or a database driver, is given them. It also raises a
RecursionError where the nesting is deep, and a plain ValueError for an integer of 5,000 digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from backendkit.errors import MalformedBody, UnsupportedMediaType
from backendkit.errors.validation import syntax_issue
from backendkit.http.messages import Message, Receive, Scope, header

LARGEST_CHECKED = 1024 * 1024
"""Bytes of a body up to which `checked` looks into it."""

# The last is a surrogate as UTF-8 never has it, and as `json.loads` takes it all the same.
_SUSPECT = re.compile(rb"NaN|Infinity|\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


def parse(raw: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        MalformedBody: it is none; `details` says where.
    """
    return strictly(raw, json.loads)


def strictly(raw: bytes, loads: Callable[[bytes], Any]) -> Any:
    """Return what `loads` makes of a JSON text, if it is one by the letter.

    Raises:
        MalformedBody: it is none; `details` says where.
    """
    try:
        if _SUSPECT.search(raw):
            value = json.loads(raw, parse_constant=_refuse)
            json.dumps(value, ensure_ascii=False).encode()
        return loads(raw)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from error


def malformed(error: BaseException) -> MalformedBody:
    """Return what tells a client why its body could not be parsed; `error` is what the parser raised."""
    if isinstance(error, MalformedBody):
        return error
    if isinstance(error, json.JSONDecodeError):
        return MalformedBody(str(error), details=[syntax_issue(error.msg, error.pos)])
    issue = next((said for kind, said in _FAULTS if isinstance(error, kind)), "Cannot be read")
    detail = {"issue": issue, "code": "INVALID_JSON", "in": "body"}
    return MalformedBody(type(error).__name__, details=[detail])


# The nearest first: the first two are ValueErrors.
_FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (UnicodeDecodeError, "Not valid UTF-8"),
    (UnicodeEncodeError, "Contains half of a surrogate pair"),
    (RecursionError, "Nested too deeply"),
    (ValueError, "Contains a number that JSON cannot have"),
)


def is_json(content_type: str | None) -> bool:
    """Return whether a Content-Type is `application/json` or `application/...+json`."""
    return content_type == "application/json" or (
        content_type is not None and _JSON.match(content_type) is not None
    )


def parse_typed(raw: bytes, content_type: str | None) -> Any:
    """Return the value of a request's JSON body.

    Raises:
        UnsupportedMediaType: the Content-Type is not JSON's.
        MalformedBody: see `parse`.
    """
    if not is_json(content_type):
        raise UnsupportedMediaType
    return parse(raw)


def checked(scope: Scope, receive: Receive) -> Receive:
    """Return a `receive` that refuses, with `MalformedBody`, a JSON body that only Python takes for JSON.

    Bodies over 1 MiB pass unseen. Costs a search for three byte patterns; only a body that has one of them is parsed.
    """
    if scope["method"] in {"GET", "HEAD"} or not is_json(header(scope["headers"], b"content-type")):
        return receive
    chunks: list[bytes] = []
    size = 0
    refused: MalformedBody | None = None

    async def strict() -> Message:
        nonlocal size, refused
        if (
            refused is not None
        ):  # whoever asks again, as Sentry does, must not wait for what will never come
            raise refused
        message = await receive()
        if message["type"] == "http.request" and size <= LARGEST_CHECKED:
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > LARGEST_CHECKED:
                chunks.clear()
            elif not message.get("more_body"):
                refused = _fault(b"".join(chunks))
                chunks.clear()
                if refused is not None:
                    raise refused
        return message

    return strict


def _fault(raw: bytes) -> MalformedBody | None:
    if _SUSPECT.search(raw):
        try:
            parse(raw)
        except MalformedBody as error:
            return error
    return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
