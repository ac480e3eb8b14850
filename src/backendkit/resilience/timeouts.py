"""No longer waiting for what takes too long."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, Task
from concurrent import futures
from contextvars import copy_context
from typing import Any

from backendkit.core import checks, context
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.resilience import marks
from backendkit.resilience.alarms import AlarmClocks
from backendkit.resilience.errors import BulkheadFull, CallTimeout, NothingStarted
from backendkit.resilience.layers import OpeningPolicy
from backendkit.resilience.steps import Args, Function, Kwargs, Step


class Timeout(OpeningPolicy):
    """Gives each call so much time, or what is left until the deadline in force where that is less.

    - `async def`: cancelled at that moment, exactly, and `CallTimeout` is raised once it has ended. A cancellation from
      elsewhere stays one.
    - `def`: cannot be interrupted. What returns late is returned all the same, and a breaker around it counts it as slow.
    - `def` with a `pool`: runs in a thread of the pool, in a copy of the context. At that moment the caller gets
      `CallTimeout`, and the call goes on; a `Bulkhead` around it holds its slot until it has ended.

    Below, the moment is the deadline in force: stores and clients take it for their own. Of a stream it bounds the
    time to the first item.

    Args:
        after: the time of one call.
        pool: where to run functions; None: in the caller's thread.
        clock: None: the machine's; a loop's timers follow the loop's own time.

    Raises:
        InvalidArgument: `after` is not a positive duration.
    """

    def __init__(
        self,
        after: Duration,
        *,
        pool: futures.Executor | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._after_us = checks.duration_us("after", after)
        self._pool = pool
        self._clock: Clock = SystemClock() if clock is None else clock
        self._alarms = AlarmClocks()

    @property
    def after_us(self) -> int:
        """The time of one call, in microseconds."""
        return self._after_us

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""
        if self._pool is not None:
            return self._around_pooled(inner, self._pool)
        now_us = self._clock.mono_us

        def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            moment = now_us() + self._given_us()
            token = context.narrow(moment)
            try:
                return inner(func, args, kwargs)
            finally:
                context.widen(token)
                now = now_us()
                if now >= moment:
                    marks.tell_late(now)

        marks.mark_tardy(timed)
        return timed

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        now_us, alarms = self._clock.mono_us, self._alarms

        async def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            given_us = self._given_us()
            loop = asyncio.get_running_loop()
            clock = alarms.of(loop)
            watch = _Watch(asyncio.current_task())
            token = context.narrow(now_us() + given_us)
            alarm = clock.set(loop, loop.time() + given_us / SECOND_US, watch.ring)
            try:
                return await inner(func, args, kwargs)
            except CancelledError:
                if watch.is_own():
                    raise CallTimeout(given_us) from None
                raise
            finally:
                clock.stop(alarm)
                watch.end()
                context.widen(token)

        return timed

    def _around_pooled(self, inner: Step, pool: futures.Executor) -> Step:
        def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            given_us = self._given_us()
            token = context.narrow(self._clock.mono_us() + given_us)
            try:
                work = pool.submit(copy_context().run, inner, func, args, kwargs)
            finally:
                context.widen(token)
            return _awaited(work, given_us)

        return timed

    def _given_us(self) -> int:
        deadline = context.deadline_us()
        if deadline is None:
            return self._after_us
        left = deadline - self._clock.mono_us()
        if left <= 0:
            raise NothingStarted(f"the deadline was over {-left} us ago; nothing was started")
        return min(left, self._after_us)


class _Watch:
    """Cancels a task when its time is over, and tells this cancellation from others, as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_rang", "_task")

    def __init__(self, task: Task[Any] | None) -> None:
        if task is None:
            raise RuntimeError("a timeout of a coroutine needs a task to run in")
        self._task: Task[Any] | None = task
        self._cancelling = task.cancelling()
        self._rang = False

    def ring(self) -> None:
        """The time is over."""
        if self._task is not None:
            self._rang = True
            self._task.cancel()

    def is_own(self) -> bool:
        """Tell whether nobody else cancelled the task, and take the cancellation back."""
        if not self._rang or self._task is None:
            return False
        self._rang = False
        return self._task.uncancel() <= self._cancelling

    def end(self) -> None:
        """Let go of the task; a cancellation that the call swallowed is taken back."""
        if self._rang and self._task is not None:
            self._task.uncancel()
        self._task = None


def _awaited(work: futures.Future[Any], given_us: int) -> Any:
    """Wait for work in a pool.

    Raises:
        CallTimeout: it goes on without us.
        BulkheadFull: it never began, because every thread of the pool was busy.
    """
    futures.wait([work], timeout=given_us / SECOND_US)
    if not work.done():
        if work.cancel():
            raise BulkheadFull("pool", 0)
        raise CallTimeout(given_us, work)
    return work.result()
