"""Exception groups: what a group means, of which only one thing can be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from backendkit.core.errors import AppError
from backendkit.errors.foreign import MOST_DETAILS
from backendkit.errors.told import status_of
from backendkit.errors.tree import ValidationFailed

MOST_LEAVES = 1000
"""Exceptions of a group that are looked at; a larger group is unknown, for the next one could be."""


_MOST_STEPS = 100_000


def leaves(whole: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Walk the exceptions of a group; without recursion, for groups nest as deep as they like."""
    stack: list[BaseException] = [whole]
    steps = 0
    while stack:
        steps += 1
        if steps > _MOST_STEPS:  # a subclass may hand out groups without end
            yield RecursionError("a group that does not end")
            return
        exc = stack.pop()
        if isinstance(exc, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", exc)
            stack.extend(reversed(group.exceptions))
        else:
            yield exc


def collapsed(found: Iterable[AppError]) -> AppError | None:
    """Return the one error that several mean together.

    One is itself. Several validation failures are one, with all their lines. Of others the most severe is told. One that is
    unknown outweighs all that are known, as None: what nobody has foreseen must not hide behind a 404.
    """
    errors = list(found)
    if not errors or any(type(error) is AppError for error in errors):
        return None
    if len(errors) > 1 and all(isinstance(error, ValidationFailed) for error in errors):
        lines = [line for error in errors for line in error.details]
        return ValidationFailed(details=lines[:MOST_DETAILS])
    return max(errors, key=status_of)
