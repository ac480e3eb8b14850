"""Error classes: which the process has, and whether one may go by its code and its status."""

from __future__ import annotations

from collections.abc import Iterator

from backendkit.core.errors import AppError, InvalidArgument
from backendkit.errors.told import CODE, attribute


def check(kind: type[AppError]) -> None:
    """Raise `InvalidArgument` unless code and status of `kind` are what they should be."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    code: object = attribute(kind, "code")
    status: object = attribute(kind, "status")
    if not isinstance(code, str) or not CODE.fullmatch(code):
        raise InvalidArgument(f"code of {name}", "must be UPPER_SNAKE, 1..64 characters", code)
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise InvalidArgument(f"status of {name}", "must be in 400..599", status)


def defined() -> Iterator[type[AppError]]:
    """Walk the error classes that live in a module; one inside a function belongs to nobody else."""
    return _below(AppError)


def _below(kind: type[AppError]) -> Iterator[type[AppError]]:
    for child in kind.__subclasses__():
        if "<locals>" not in child.__qualname__:
            yield child
        yield from _below(child)
