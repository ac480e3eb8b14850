"""Bodies that an application has promised its clients: one function, and everything else stays.

    def flat(told: Told) -> object:
        return {"status_code": told.status, "message": told.message, "data": None}

    errors = Errors(shape=flat)

Negotiation with `application/problem+json`, headers, request ids, validation and translations are as before.
For an application that has promised nothing yet there is `success`, the counterpart of our envelope for what went well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from json.encoder import JSONEncoder
from typing import Any, Generic, TypedDict, TypeVar

from backendkit.core.errors import InvalidArgument
from backendkit.errors.texts import text_of
from backendkit.errors.told import Told, tell
from backendkit.errors.tree import ValidationFailed

T = TypeVar("T")


class Shape:
    """A format for errors, from a function.

    Args:
        body: returns what the body is to say, as `json.dumps` takes it; what it cannot take becomes text. It is
            tried once, at once. Where it fails later, the envelope is sent in its place.
        media_type: the Content-Type, in lower case, without parameters.

    Raises:
        InvalidArgument: `media_type` is none, or `body` fails on a sample.
    """

    __slots__ = ("_body", "media_type")

    def __init__(
        self, body: Callable[[Told], object], media_type: str = "application/json"
    ) -> None:
        if not _MEDIA_TYPE.fullmatch(media_type):
            raise InvalidArgument("media_type", "must be a type/subtype in lower case", media_type)
        self._body = body
        self.media_type = media_type
        sample = ValidationFailed(details=[{"field": "email", "issue": "Is required"}])
        try:
            self.write(tell(sample, "sample", "2025-11-19T02:48:00Z", None))
        except Exception as error:
            raise InvalidArgument(
                "shape", "must return what JSON can say", type(error).__name__
            ) from error

    def write(self, told: Told) -> str:
        """Return the function's body as JSON text; raises what the function raises, and where JSON cannot say it."""
        return _encode(self._body(told))


_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_encode = JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=text_of
).encode


class Pagination(TypedDict, total=False):
    """Where a page lies in its collection; leave out what is not known."""

    limit: int
    """Items a page, at the most."""
    total: int
    """Items of the whole collection."""
    page: int
    """Number of the page, from 1."""
    next: str | None
    """Cursor or URL of the next page; None: this is the last."""
    previous: str | None
    """Cursor or URL of the page before; None: this is the first."""


class Success(TypedDict, Generic[T]):
    """`{"data", "error", "meta", "pagination"}`, where `error` is always null."""

    data: T
    error: None
    meta: Mapping[str, Any]
    pagination: Pagination | None


def success(
    data: T, *, meta: Mapping[str, Any] | None = None, pagination: Pagination | None = None
) -> Success[T]:
    """Return the body of a successful answer.

    Args:
        data: the answer itself.
        meta: what is true of it as a whole, like a request id; None: an empty object.
        pagination: None where the answer is no page.
    """
    return {"data": data, "error": None, "meta": meta or {}, "pagination": pagination}


def failure(told: Told) -> Mapping[str, object]:
    """Return the body of an error beside `success`: a shape whose `error` is what the envelope has."""
    error = {
        "code": told.code,
        "message": told.message,
        "details": told.details,
        "requestId": told.request_id,
        "timestamp": told.timestamp,
    }
    return {"data": None, "error": error, "meta": {}, "pagination": None}
