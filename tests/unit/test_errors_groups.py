"""Exception groups: what several exceptions mean together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from backendkit.errors import (
    AppError,
    Conflict,
    Errors,
    InvalidArgument,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
)
from backendkit.errors.groups import MOST_LEAVES


@pytest.fixture
def errors() -> Errors:
    """A registry with one rule."""
    errors = Errors()
    errors.map(LookupError, NotFound)
    return errors


def group(*found: BaseException) -> BaseExceptionGroup[BaseException]:
    """Return a group; an ExceptionGroup where it can be one."""
    return BaseExceptionGroup("several", found)


def line(issue: str) -> dict[str, str]:
    """Return a line."""
    return {"issue": issue}


def test_one_known_error_is_itself(errors: Errors) -> None:
    """A task group wraps the one error that ended it."""
    known = Conflict("reason")
    assert errors.resolve(group(known)) is known
    assert errors.resolve(group(group(group(known)))) is known
    assert known.__cause__ is None  # the group holds it: a cause would be a circle


def test_one_mapped_exception_is_told_by_its_rule(errors: Errors) -> None:
    """As if it had come alone."""
    leaf = KeyError("k")
    error = errors.resolve(group(leaf))
    assert type(error) is NotFound
    assert error.__cause__ is leaf


def test_several_validation_failures_are_one(errors: Errors) -> None:
    """With all lines, in order, whatever the nesting, up to a hundred."""
    first, second, third = (ValidationFailed(details=[line(name)]) for name in "abc")
    error = errors.resolve(group(first, group(second), third))
    assert type(error) is ValidationFailed
    assert error.details == [line("a"), line("b"), line("c")]
    many = group(*(ValidationFailed(details=[line("x")] * 60) for _ in range(3)))
    assert len(errors.resolve(many).details) == 100


def test_of_several_known_errors_the_most_severe_is_told(errors: Errors) -> None:
    """By status; the first among equals."""
    worst = ServiceUnavailable()
    assert (
        errors.resolve(group(NotFound(), worst, ValidationFailed(), ServiceUnavailable())) is worst
    )


@pytest.mark.parametrize(
    "unknown",
    [
        ZeroDivisionError(),
        AppError(),
        InvalidArgument("a", "b", 1),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
    ],
)
def test_an_unknown_one_wins(errors: Errors, unknown: BaseException) -> None:
    """Over errors that are more severe by number, too: nobody has foreseen it."""
    found = group(ServiceUnavailable(), group(unknown), ValidationFailed())
    error = errors.resolve(found)
    assert type(error) is AppError
    assert error.status == 500
    assert error.__cause__ is found


def test_a_base_exception_with_a_rule_is_known(errors: Errors) -> None:
    """A group with one is no ExceptionGroup, and is read all the same."""
    errors.map(KeyboardInterrupt, ServiceUnavailable)
    found = group(KeyboardInterrupt(), NotFound())
    assert not isinstance(found, ExceptionGroup)
    assert type(errors.resolve(found)) is ServiceUnavailable


def test_depth_and_width_are_no_trouble(errors: Errors) -> None:
    """Without recursion; beyond a thousand the next one could be anything."""
    found = group(NotFound())
    for _ in range(5000):
        found = group(found)
    assert type(errors.resolve(found)) is NotFound
    assert type(errors.resolve(group(*(NotFound() for _ in range(MOST_LEAVES))))) is NotFound
    assert type(errors.resolve(group(*(NotFound() for _ in range(MOST_LEAVES + 1))))) is AppError
    while isinstance(
        found, BaseExceptionGroup
    ):  # or the interpreter would take it apart recursively
        found = found.exceptions[0]  # type: ignore[assignment]  # the last one is a leaf


class Hollow(ExceptionGroup[Exception]):
    """A group that shows nothing."""

    @property
    def exceptions(self) -> Sequence[Exception]:  # type: ignore[override]  # wrong on purpose
        """Nothing."""
        return ()


def test_a_group_that_shows_nothing_is_unknown(errors: Errors) -> None:
    """A subclass may hide what it holds."""
    assert type(errors.resolve(Hollow("x", [NotFound()]))) is AppError


def test_a_task_group_is_told_by_what_ended_it(errors: Errors) -> None:
    """The case that every asyncio application meets."""

    async def fail() -> None:
        raise Conflict

    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            tasks.create_task(asyncio.Event().wait())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(both())
    assert errors.render(caught.value).status == 409


def test_a_group_without_end_is_unknown() -> None:
    """A subclass may hand out itself."""

    class Endless(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> Any:
            return (self,)

    assert Errors().render(Endless("x", [NotFound()])).status == 500
