"""pybreaker's view of a machine: a storage to read, and state objects whose calls go through the gate.

Everything that pybreaker's own states and storages decide is decided by the machine instead.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pybreaker

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.resilience.decide.circuit import MODES, Mode
from backendkit.resilience.machine import Machine


def mode_of(value: object) -> Mode:
    """Return the mode that a name, or a state object, stands for.

    Raises:
        InvalidArgument: none; also a ValueError.
    """
    wanted = getattr(value, "name", value)
    for mode in MODES:
        if wanted == mode:
            return mode
    raise InvalidArgument("state", f"must be one of {', '.join(MODES)}", value)


class MachineStorage(pybreaker.CircuitBreakerStorage):
    """What code written for pybreaker reads of a storage. Counters tell the window and cannot be set."""

    def __init__(self, machine: Machine) -> None:
        super().__init__("backendkit")
        self._machine = machine

    @property
    def state(self) -> str:
        """The mode."""
        return self._machine.mode

    @state.setter
    def state(self, state: str) -> None:
        self._machine.force(mode_of(state))

    @property
    def counter(self) -> int:
        """Failures in the window."""
        return self._machine.window()[1]

    @property
    def success_counter(self) -> int:
        """Calls in the window that did not fail."""
        calls, failed, _ = self._machine.window()
        return calls - failed

    @property
    def opened_at(self) -> datetime | None:
        """When the circuit last opened; None: never."""
        at_us = self._machine.opened_wall_us
        return datetime.fromtimestamp(at_us / SECOND_US, UTC) if at_us else None

    @opened_at.setter
    def opened_at(self, datetime: datetime) -> None:
        pass


class _Delegating(pybreaker.CircuitBreakerState):
    """A state whose calls are the breaker's."""

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._breaker.call(func, *args, **kwargs)

    def call_async(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._breaker.call_async(func, *args, **kwargs)  # type: ignore[no-untyped-call] # pybreaker leaves it without hints

    def before_call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        pass

    def on_success(self) -> None:
        pass

    def on_failure(self, exc: BaseException) -> None:
        pass


class _Closed(_Delegating, pybreaker.CircuitClosedState):
    pass


class _Open(_Delegating, pybreaker.CircuitOpenState):  # type: ignore[misc] # `before_call` there returns what it called
    pass


class _HalfOpen(_Delegating, pybreaker.CircuitHalfOpenState):  # type: ignore[misc] # `on_failure` there always raises
    pass


def state_object(breaker: pybreaker.CircuitBreaker, mode: Mode) -> pybreaker.CircuitBreakerState:
    """Return a state object for a mode; the first three are also pybreaker's classes."""
    if mode == "closed":
        return _Closed(breaker)
    if mode == "open":
        return _Open(breaker)
    if mode == "half-open":
        return _HalfOpen(breaker, prev_state=None)
    return _Delegating(breaker, mode)


def refuse_foreign(options: dict[str, Any]) -> None:
    """Refuse what pybreaker offers and this cannot keep: its storages, and replacing the exception that trips.

    Raises:
        InvalidArgument: one of them was asked for.
    """
    if options.pop("state_storage", None) is not None:
        raise InvalidArgument(
            "state_storage",
            "must be None: a pybreaker storage cannot take a permit atomically",
            "a storage",
            "leave it out",
        )
    if options.pop("throw_new_error_on_trip", False):
        raise InvalidArgument(
            "throw_new_error_on_trip",
            "must be False: the caller gets the exception that was raised",
            value=True,
            fix="catch the function's own exceptions, and CircuitOpen for rejections",
        )


def consecutive_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take pybreaker's numbers out of `options` and return what they mean here."""
    found: dict[str, Any] = {}
    if (fail_max := options.pop("fail_max", None)) is not None:
        failures = checks.whole("fail_max", fail_max, least=1)
        found |= {"window": failures, "minimum_calls": failures}
        found |= {"failure_rate": 1.0, "trial_failure_rate": 1e-6}
    if (timeout := options.pop("reset_timeout", None)) is not None:
        found["open_for"] = timeout
        found["open_growth"] = 1
    if (threshold := options.pop("success_threshold", None)) is not None:
        found["trials"] = checks.whole("success_threshold", threshold, least=1)
    return found
