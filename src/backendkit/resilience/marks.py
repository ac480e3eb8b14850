"""What a policy inside tells a breaker around it, without a word passing between them on the usual way.

Both stand in the context of the call. That a call was late is asked for by whoever goes around one that may say so;
waits are noted with their times, and whoever measures from an earlier moment on knows that they belong to its call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from backendkit.core.clock import Clock, SystemClock

S = TypeVar("S", bound=Callable[..., Any])

_MOST_WAITS = 8
"""So many are remembered; a call that waited more often than that passes for slower than it was."""


class Wait(NamedTuple):
    """A call waited for its turn.

    Attributes:
        clock: whose time it is, as `source` names it.
        start_us: from when.
        end_us: until when.
    """

    clock: object
    start_us: int
    end_us: int


def expect_late() -> None:
    """Begin a call that may be told to be late."""
    _late.set(False)


def tell_late() -> None:
    """Say that a call has just ended later than its timeout allowed."""
    _late.set(True)


def was_late() -> bool:
    """Tell whether a call inside was late."""
    return _late.get()


def tell_waited(clock: Clock, start_us: int, end_us: int) -> None:
    """Say that a call has just waited for its turn, which is no fault of what it calls."""
    _waits.set((*_waits.get()[1 - _MOST_WAITS :], Wait(_source(clock), start_us, end_us)))


def waited_us(clock: Clock, since_us: int) -> int:
    """Return how long calls inside waited for their turn."""
    source = _source(clock)
    return sum(
        wait.end_us - wait.start_us
        for wait in _waits.get()
        if wait.clock is source and wait.start_us >= since_us
    )


def tell_in_line(cancelled: BaseException, refusal: Exception) -> None:
    """Say that a call was cancelled while it waited for its turn: if by a timeout, the caller should get the refusal."""
    cancelled.__dict__[_REFUSAL] = refusal


def refusal_of(cancelled: BaseException) -> Exception | None:
    """Return the refusal of a call that was cancelled in line; None: it had begun."""
    refusal: Exception | None = cancelled.__dict__.get(_REFUSAL)
    return refusal


def mark_tardy(step: Callable[..., Any]) -> None:
    """Mark a step that may say that it was late; `functools.wraps` hands the mark on, too."""
    step.__dict__[_TARDY] = True


def passed_on(inner: S, outer: S) -> S:
    """Return the outer one of two steps, marked as the inner one is."""
    if is_tardy(inner):
        mark_tardy(outer)
    return outer


def is_tardy(step: Callable[..., Any]) -> bool:
    """Tell whether a step may say that it was late."""
    return hasattr(step, _TARDY)


_TARDY = "__backendkit_tardy__"
_REFUSAL = "__backendkit_refusal__"

_late: ContextVar[bool] = ContextVar("backendkit_late", default=False)
_waits: ContextVar[tuple[Wait, ...]] = ContextVar("backendkit_waits", default=())


def _source(clock: Clock) -> object:
    """Return what two clocks have in common if they tell the same time."""
    return SystemClock if type(clock) is SystemClock else clock
