"""Asking once more where the first answer is late, and taking whichever comes first.

Cuts the tail of latencies at the price of a few more calls ("The Tail at Scale", Dean and Barroso, 2013).
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections import deque
from collections.abc import Iterable
from copy import copy
from typing import Any

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.resilience.budgets import Budget, Unlimited
from backendkit.resilience.judge import Chosen, Classifier
from backendkit.resilience.layers import Policy
from backendkit.resilience.policy import PPM, share
from backendkit.resilience.steps import Args, Function, Kwargs, Step

_OBSERVED = 100
"""Durations from which the usual delay is taken: the last so many."""

_FEWEST = 20
"""Below so many durations nothing is known and nothing is hedged."""


class Hedge(Policy):
    """Calls a coroutine function once more where the first call takes long; the first answer wins.

    The others are cancelled and awaited, for `patience` at most. An error that `on` names is no answer as long as another
    call still runs; if all fail, the first call's error is raised. Each call runs in a task of its own, in a copy of the
    context. A `def`, and streams of either kind, pass as they are. Hedge only what may happen twice.

    Args:
        after: how long to wait for an answer before the next call; None: as long as `quantile` of the last 100 answers
            took, and no hedge before there were 20.
        quantile: above 0 and at most 1.
        copies: calls beside the first, 1..10.
        budget: what they are paid from, best the one that retries have; None: they cost nothing.
        on: which errors are worth waiting for another answer.
        patience: how long losers may take to end.
        clock: None: the machine's; measures answers. Delays follow the loop's own time.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self,
        after: Duration | None = None,
        *,
        quantile: float = 0.95,
        copies: int = 1,
        budget: Budget | None = None,
        on: Iterable[Classifier] = (Exception,),
        patience: Duration = 1.0,
        clock: Clock | None = None,
    ) -> None:
        self._after_us = None if after is None else checks.duration_us("after", after, least_us=0)
        self._quantile_ppm = share("quantile", quantile)
        self._copies = checks.whole("copies", copies, least=1, most=10)
        self._budget: Budget | Unlimited = Unlimited() if budget is None else budget
        self._on = Chosen(on, "a classifier of hedges raised, whose error is the answer")
        self._patience_us = checks.duration_us("patience", patience, least_us=0)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._counts_calls = True
        self._took_us: deque[int] = deque(maxlen=_OBSERVED)

    @property
    def delay(self) -> float | None:
        """Seconds to wait for an answer now; None: nothing is known yet."""
        delay = self._delay_us()
        return None if delay is None else delay / SECOND_US

    def inside(self, budgets: Iterable[Budget | Unlimited]) -> Hedge:
        """Return this hedge for a place inside retries with these budgets: who counted a call does not count it again."""
        if self._budget not in budgets:
            return self
        hedge = copy(self)
        hedge._counts_calls = False  # noqa: SLF001 - of its own kind
        return hedge

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""

        async def hedged(func: Function, args: Args, kwargs: Kwargs) -> Any:
            self._budget.calls += self._counts_calls
            race = _Race(self._on)
            started = self._clock.mono_us()
            try:
                for number in range(self._copies + 1):
                    if number and not self._budget.take():
                        break
                    race.start(inner(func, args, kwargs))
                    delay_us = None if number == self._copies else self._delay_us()
                    if delay_us is None or await race.answered(delay_us / SECOND_US):
                        break
                await race.answered(None)
            finally:
                await race.end(self._patience_us / SECOND_US)
            result = race.result()
            self._took_us.append(self._clock.mono_us() - started)
            return result

        return hedged

    def _delay_us(self) -> int | None:
        if self._after_us is not None:
            return self._after_us
        if len(self._took_us) < _FEWEST:
            return None
        took = sorted(self._took_us)
        return took[(len(took) - 1) * self._quantile_ppm // PPM]


class _Race:
    """The calls that run for one answer."""

    def __init__(self, on: Chosen) -> None:
        self._on = on
        self._all: list[Task[Any]] = []
        self._winner: Task[Any] | None = None

    def start(self, call: Any) -> None:
        """Begin another call."""
        self._all.append(asyncio.ensure_future(call))

    async def answered(self, seconds: float | None) -> bool:
        """Wait that long for an answer; True: there is one, or none is to be expected any more."""
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        while (running := [task for task in self._all if not task.done()]) and not self._won():
            left = None if end is None else end - loop.time()
            if left is not None and left <= 0:
                return False
            await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        return self._won() or not running

    def result(self) -> Any:
        """Return the answer, or raise what the first call raised."""
        return (self._winner or self._all[0]).result()

    async def end(self, patience: float) -> None:
        """Cancel what still runs and wait for it to end, so long at most."""
        running = [task for task in self._all if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=patience)
        for task in self._all:
            if task.done() and not task.cancelled():
                task.exception()  # it is known; nobody need be told that it was never looked at

    def _won(self) -> bool:
        for task in self._all:
            if self._winner is None and task.done() and self._is_answer(task):
                self._winner = task
        return self._winner is not None

    def _is_answer(self, task: Task[Any]) -> bool:
        if task.cancelled():
            return True  # by itself: nobody else has cancelled it yet
        error = task.exception()
        return error is None or not (isinstance(error, Exception) and error in self._on)
