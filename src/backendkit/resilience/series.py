"""The attempts of one call: what is repeated, when, and when no more.

Every rule is asked by tenacity's engine, in its order: whether to repeat at all, how long to pause, whether it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from tenacity import BaseRetrying, Future, RetryCallState, RetryError, TryAgain

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.events import Hooks
from backendkit.resilience.asked import asked_us
from backendkit.resilience.budgets import Budget, Unlimited
from backendkit.resilience.errors import CircuitOpen
from backendkit.resilience.events import CallRetried
from backendkit.resilience.judge import Chosen, Complaint
from backendkit.resilience.steps import Args, Function, Kwargs, Step

Pause: TypeAlias = Callable[[RetryCallState], float]
"""A wait of tenacity's: seconds to pause after the attempt that just ended."""


@dataclass(slots=True)
class Terms:
    """What one `Retry` was told; see there."""

    name: str
    on: Chosen
    attempts: int
    backoff: Pause
    budget: Budget | Unlimited
    within_us: int | None
    longest_us: int
    failed_result: Callable[[Any], bool] | None
    stop: Callable[[RetryCallState], bool]
    before: Callable[[RetryCallState], Any] | None
    hooks: Hooks
    clock: Clock
    complain: Complaint

    @property
    def are_short(self) -> bool:
        """Whether the first attempt may be an ordinary call."""
        return self.failed_result is None and self.before is None

    def repeats(self, error: BaseException) -> bool:
        """Tell whether what raised this may be repeated."""
        return isinstance(error, Exception) and (isinstance(error, TryAgain) or error in self.on)

    def repeats_result(self, result: object) -> bool:
        """Tell whether what returned this may be repeated. A function that raises says no and is reported once."""
        try:
            return self.failed_result is not None and bool(self.failed_result(result))
        except Exception as raised:  # noqa: BLE001 - a function of the user's never changes what the caller gets
            self.complain(raised)
            return False


class Series:
    """The attempts of one call.

    Args:
        terms: of the retry.
        inner: the step to repeat.
        call: its arguments.
        started_us: when the first attempt began.
        first: what that failed with, where it is over.
    """

    def __init__(
        self,
        terms: Terms,
        inner: Step,
        call: tuple[Function, Args, Kwargs],
        started_us: int,
        first: Exception | None = None,
    ) -> None:
        self._terms = terms
        self._inner = inner
        self._call = call
        self._started_us = started_us
        self._first = first
        self._replaying = first is not None
        self._asks_too_much = False
        self._last: Future | None = None

    def of(self, engine: BaseRetrying) -> Any:
        """Return a copy of an engine that asks this series."""
        return engine.copy(
            before=self._begin,
            retry=self._is_repeated,
            wait=self._pause,
            stop=self._is_over,
            retry_error_callback=_last_outcome,
        )

    def attempt(self) -> Any:
        """Make an attempt, or tell again how the one before ended."""
        return self._past() if self._is_past else self._inner(*self._call)

    async def attempt_async(self) -> Any:
        """Do the same and await it."""
        return self._past() if self._is_past else await self._inner(*self._call)

    def _begin(self, state: RetryCallState) -> None:
        if state.attempt_number == 1:
            # The engine believes that it began just now.
            late_us = self._terms.clock.mono_us() - self._started_us
            state.start_time -= late_us / SECOND_US
        if self._terms.before is not None:
            self._terms.before(state)

    @property
    def _is_past(self) -> bool:
        """Whether no attempt begins: the first is over, or a pause was longer than it should have been."""
        end = self._end_us()
        overslept = self._last is not None and end is not None and self._now() >= end
        return self._replaying or overslept

    def _past(self) -> Any:
        first, self._first = self._first, None
        if first is not None:
            raise first
        assert self._last is not None  # noqa: S101 - what `_is_past` says
        return self._last.result()

    def _is_repeated(self, state: RetryCallState) -> bool:
        if self._replaying:
            self._replaying = False
            return True  # it was asked before the engine started
        outcome = _outcome(state)
        error = outcome.exception()
        if error is None:
            return self._terms.repeats_result(outcome.result())
        return self._terms.repeats(error)

    def _pause(self, state: RetryCallState) -> float:
        outcome = _outcome(state)
        told = outcome.exception() or outcome.result()
        asked = asked_us(told, self._terms.clock.wall_us())
        self._asks_too_much = asked is not None and asked > self._terms.longest_us
        return float(self._terms.backoff(state)) if asked is None else asked / SECOND_US

    def _is_over(self, state: RetryCallState) -> bool:
        terms, outcome = self._terms, _outcome(state)
        pause_us = round(state.upcoming_sleep * SECOND_US)
        if (
            state.attempt_number >= terms.attempts
            or self._is_too_long(pause_us, outcome.exception())
            or terms.stop(state)
            or not terms.budget.take()
        ):
            return True
        self._last = outcome
        if terms.hooks:
            told: object = outcome.exception() or outcome.result()
            cause = type(told)
            named = f"{cause.__module__}.{cause.__qualname__}"
            terms.hooks.emit(CallRetried(terms.name, state.attempt_number, pause_us, named))
        return False

    def _is_too_long(self, pause_us: int, error: BaseException | None) -> bool:
        end = self._end_us()
        if end is None and isinstance(error, CircuitOpen):
            return True
        if isinstance(error, CircuitOpen) and error.retry_after is None:
            return True
        return self._asks_too_much or (end is not None and self._now() + pause_us >= end)

    def _end_us(self) -> int | None:
        """Return the moment from which on no attempt begins; None: there is none."""
        deadline, within = context.deadline_us(), self._terms.within_us
        if within is None:
            return deadline
        own = self._started_us + within
        return own if deadline is None else min(own, deadline)

    def _now(self) -> int:
        return self._terms.clock.mono_us()


def _outcome(state: RetryCallState) -> Future:
    assert state.outcome is not None  # noqa: S101 - the engine asks after an attempt
    return state.outcome


def _last_outcome(state: RetryCallState) -> Any:
    outcome = _outcome(state)
    if isinstance(outcome.exception(), TryAgain):
        RetryError(outcome).reraise()  # what `raise TryAgain from error` meant
    return outcome.result()
