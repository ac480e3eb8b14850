"""Reading a request into a pydantic model; what is wrong with it is told like FastAPI tells it."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from backendkit.errors import validation_error
from backendkit.http.body import parse_typed

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
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False), place="body", body=value) from error


def query(model: type[M]) -> M:
    """Return the current request's query parameters as a `model`; one that is repeated arrives as a list.

    Raises:
        ValidationFailed: they do not fit the model (422).
    """
    values = {
        name: several if len(several) > 1 else several[0] for name, several in request.args.lists()
    }
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False), place="query") from error
