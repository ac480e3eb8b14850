"""Reading a request into a pydantic model; what is wrong with it is told like FastAPI tells it."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from backendkit.errors import validation_error
from backendkit.errors.validation import UNKNOWN
from backendkit.http.body import parse_typed
from backendkit.http.query import collected

M = TypeVar("M", bound=BaseModel)


def body(model: type[M]) -> M:
    """Return the current request's JSON body as a `model`.

    Raises:
        UnsupportedMediaType: the Content-Type is not JSON's (415).
        MalformedBody: it is not JSON (400).
        ValidationFailed: it does not fit the model (422).
    """
    raw = request.get_data()
    if not raw:
        raise validation_error([{"type": "missing", "loc": ()}], place="body")
    value = parse_typed(raw, request.headers.get("Content-Type"))
    return _validated(model, value, "body", body=value)


def query(model: type[M]) -> M:
    """Return the current request's query parameters as a `model`.

    One that is repeated arrives as a list where the field is one; where it is not, the last one counts.

    Raises:
        ValidationFailed: they do not fit the model (422).
    """
    return _validated(model, collected(model, request.args.lists()), "query")


def path(model: type[M]) -> M:
    """Return the variable parts of the current request's path as a `model`.

    Raises:
        ValidationFailed: they do not fit the model (422).
    """
    return _validated(model, dict(request.view_args or {}), "path")


def _validated(model: type[M], value: Any, place: str, body: Any = UNKNOWN) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
    # Outside of the handler: the chain would carry what the client sent into a log.
    raise validation_error(found, place=place, body=body)
