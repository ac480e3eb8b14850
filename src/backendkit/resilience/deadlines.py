"""How long the work at hand may take altogether, however many steps and retries it has.

A deadline is a moment in the context (`core.context.until`): nested ones take the minimum, and what waits below, a
retry's pause, a timeout, a store, takes the smaller of its own bound and what is left. It interrupts nothing by
itself; nothing starts after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import Token
from typing import Any, TypeVar, cast

from backendkit.core import checks, context
from backendkit.core.checks import Duration
from backendkit.core.clock import Clock, SystemClock, nanoseconds_of
from backendkit.resilience import streams
from backendkit.resilience.errors import NothingStarted
from backendkit.resilience.layers import Policy
from backendkit.resilience.steps import Args, Function, Kwargs, Step

T = TypeVar("T")


class Deadline(Policy):
    """Gives a function, or a block, so much time. One object serves any number of calls, threads and tasks.

    Args:
        after: the time from the start of a call; of a generator, from its first item.
        clock: None: the machine's; its monotonic reading counts.

    Raises:
        InvalidArgument: `after` is not a positive duration.
    """

    def __init__(self, after: Duration, *, clock: Clock | None = None) -> None:
        self._after_us = checks.duration_us("after", after)
        self._now_ns = nanoseconds_of(SystemClock() if clock is None else clock)

    @contextmanager
    def running(self) -> Generator[int]:
        """Set the deadline for a block; yields the moment that holds, in microseconds of the monotonic clock.

        Raises:
            NothingStarted: a `DeadlineExceeded`: one that is already in force is over; the block does not run.
        """
        with context.until(self._moment()) as moment:
            yield moment

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""

        def limited(func: Function, args: Args, kwargs: Kwargs) -> Any:
            token = self._begin()
            try:
                return inner(func, args, kwargs)
            finally:
                context.widen(token)

        return limited

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        begin = self._begin

        async def limited(func: Function, args: Args, kwargs: Kwargs) -> Any:
            token = begin()
            try:
                return await inner(func, args, kwargs)
            finally:
                context.widen(token)

        return limited

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""

        def begin(*_: object) -> streams.Passage:
            return _Within(self._moment())

        return streams.passed(inner, begin)

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""

        async def begin(*_: object) -> streams.Passage:
            return _Within(self._moment())

        return streams.passed_async(inner, begin)

    def _begin(self) -> Token[int | None]:
        """Set the deadline of what starts now, unless it may not start."""
        now = self._now_ns() // 1000
        moment, token = context.narrow(now + self._after_us)
        if moment <= now:
            context.widen(token)
            raise NothingStarted(
                f"the deadline was over {now - moment} us ago; nothing was started"
            )
        return token

    def _moment(self) -> int:
        """Return the end of what starts now, unless it may not start."""
        token = self._begin()
        moment = context.deadline_us()
        context.widen(token)
        return cast("int", moment)


class _Within(streams.Passage):
    """A stream each of whose steps runs under a deadline, which so never leaks to its consumer."""

    def __init__(self, moment: int) -> None:
        self._moment = moment

    def step(self, take: Callable[..., T], *args: Any) -> T:
        with context.until(self._moment):
            return take(*args)

    async def step_async(self, step: Awaitable[T]) -> T:
        with context.until(self._moment):
            return await step
