"""What a policy inside tells a breaker around it, without a word passing between them on the usual way.

Both are moments of the monotonic clock in the context of the call: whoever measures from an earlier moment on knows
that they belong to its call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_MOST_WAITS = 8
"""So many are remembered; a call that waited more often than that passes for slower than it was."""

_late: ContextVar[int] = ContextVar("backendkit_late", default=-1)
_waits: ContextVar[tuple[tuple[int, int], ...]] = ContextVar("backendkit_waits", default=())


def tell_late(now_us: int) -> None:
    """Say that a call has just ended later than its timeout allowed."""
    _late.set(now_us)


def was_late(since_us: int) -> bool:
    """Tell whether a call inside was late."""
    return _late.get() >= since_us


def tell_waited(from_us: int, to_us: int) -> None:
    """Say that a call has just waited for its turn, which is no fault of what it calls."""
    _waits.set((*_waits.get()[1 - _MOST_WAITS :], (from_us, to_us)))


def waited_us(since_us: int) -> int:
    """Return how long calls inside waited for their turn."""
    return sum(end - start for start, end in _waits.get() if start >= since_us)


def mark_tardy(step: Callable[..., Any]) -> None:
    """Mark a step that may say that it was late; `functools.wraps` hands the mark on."""
    step.__dict__[_TARDY] = True


def is_tardy(step: Callable[..., Any]) -> bool:
    """Tell whether a step may say that it was late."""
    return hasattr(step, _TARDY)


_TARDY = "__backendkit_tardy__"
