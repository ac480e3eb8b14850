"""What came of a call: a value or an error, held as data so that it can cross threads, tasks and flows."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeAlias, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Value(Generic[T_co]):
    """The call returned."""

    __slots__ = ("value",)

    def __init__(self, value: T_co) -> None:
        self.value = value

    def unwrap(self) -> T_co:
        """Return the value."""
        return self.value

    def __repr__(self) -> str:
        return f"Value({type(self.value).__name__})"  # the value may be secret


class Error:
    """The call raised. Kept as data because a StopIteration inside a coroutine would become a RuntimeError."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def unwrap(self) -> NoReturn:
        """Raise the error, the same object."""
        try:
            raise self.error
        finally:
            del self  # else the traceback's frame keeps the error, which keeps the traceback

    def __repr__(self) -> str:
        return f"Error({type(self.error).__name__})"


Outcome: TypeAlias = Value[T_co] | Error
"""A value or an error; `unwrap()` returns the one or raises the other."""
