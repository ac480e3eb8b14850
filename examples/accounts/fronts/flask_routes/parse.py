"""The variable parts of a path, read into a model; for bodies and queries `backendkit.flask` has what it takes."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from backendkit.errors import validation_error

Model = TypeVar("Model", bound=BaseModel)


def path(model: type[Model], **values: str) -> Model:
    """Return the variable parts of the path as a `model`.

    Raises:
        ValidationFailed: they do not fit the model.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # `from None`: the chain would carry what the client sent into a log.
        raise validation_error(error.errors(), place="path") from None
