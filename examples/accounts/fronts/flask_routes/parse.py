"""From a Flask request to the models of `wire/`; what does not fit is answered like FastAPI's own validation."""

from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from backendkit.errors import validation_error

Model = TypeVar("Model", bound=BaseModel)


def body_as(model: type[Model]) -> Model:
    """Read the JSON body."""
    return _parsed(model, request.get_json(), "body")


def query_as(model: type[Model]) -> Model:
    """Read the query; of a parameter that is given twice the last one counts."""
    return _parsed(model, {name: request.args.getlist(name)[-1] for name in request.args}, "query")


def path_as(model: type[Model], **values: str) -> Model:
    """Read the variable parts of the path."""
    return _parsed(model, values, "path")


def _parsed(model: type[Model], data: Any, place: str) -> Model:  # noqa: ANN401  # whatever the client sent
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # `from None`: the chain would carry what the client sent into a log.
        raise validation_error(error.errors(), place=place, body=data) from None
