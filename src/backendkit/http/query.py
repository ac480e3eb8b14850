"""Query strings for a model: a name that is repeated means a list where the model wants one, else the last one counts."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

_SEVERAL = (list, tuple, set, frozenset, collections.deque, Sequence)


def collected(model: type[BaseModel], given: Iterable[tuple[str, list[str]]]) -> dict[str, Any]:
    """Return the values that `model` is to be made from, as FastAPI picks them for its parameters.

    Args:
        model: what is wanted.
        given: names, each with all its values in the order in which they came.
    """
    several = {
        name
        for key, field in model.model_fields.items()
        if _is_several(field.annotation)
        for name in _names(key, field)
    }
    return {name: values if name in several else values[-1] for name, values in given if values}


def _is_several(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        return any(_is_several(option) for option in get_args(annotation))
    kind = origin or annotation
    return (
        isinstance(kind, type)
        and kind is not str
        and issubclass(kind, _SEVERAL)
        and kind is not bytes
    )


def _names(key: str, field: FieldInfo) -> list[str]:
    wanted = field.validation_alias or field.alias
    if isinstance(wanted, AliasChoices):
        return [key, *[choice for choice in wanted.choices if isinstance(choice, str)]]
    return [key, wanted] if isinstance(wanted, str) else [key]
