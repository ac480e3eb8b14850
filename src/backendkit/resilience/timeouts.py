"""No longer waiting for what takes too long."""

from __future__ import annotations

from asyncio import CancelledError, Task, current_task, get_running_loop
from concurrent import futures
from contextvars import Token, copy_context
from typing import Any

from backendkit.core import checks, context
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock, nanoseconds_of
from backendkit.resilience import marks
from backendkit.resilience.alarms import Alarm, AlarmClocks
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
        self._now_ns = nanoseconds_of(self._clock)
        self._alarms = AlarmClocks()

    @property
    def after_us(self) -> int:
        """The time of one call, in microseconds."""
        return self._after_us

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""
        if self._pool is not None:
            return self._around_pooled(inner, self._pool)
        now_ns, begin, clock = self._now_ns, self._begin, self._clock

        def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            started = now_ns()
            given_us, token = begin()
            try:
                return inner(func, args, kwargs)
            finally:
                context.widen(token)
                took_us = (now_ns() - started) // 1000
                if took_us >= given_us:
                    waited_us = marks.waited_us(clock, started // 1000)
                    if took_us - waited_us >= given_us:
                        marks.tell_late()

        marks.mark_tardy(timed)
        return timed

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        alarms, now_ns, after_us = self._alarms, self._now_ns, self._after_us

        async def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            loop = get_running_loop()
            watch = _Watch(current_task(loop))
            now = now_ns() // 1000
            moment, token = context.narrow(now + after_us)
            if (given_us := moment - now) <= 0:
                raise _refused(given_us, token)
            known, clock = alarms.last
            if known() is not loop:
                clock = alarms.of(loop)
            clock.set(loop, loop.time() + given_us / SECOND_US, watch)
            try:
                return await inner(func, args, kwargs)
            except CancelledError as cancelled:
                if watch.is_own():
                    # In line at a bulkhead inside: nothing was called, and nothing timed out.
                    raise (marks.refusal_of(cancelled) or CallTimeout(given_us)) from None
                raise
            finally:
                clock.stop(watch)
                if watch.rang:
                    watch.take_back()
                context.widen(token)

        return timed

    def _around_pooled(self, inner: Step, pool: futures.Executor) -> Step:
        def timed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            given_us, token = self._begin()
            try:
                work = pool.submit(copy_context().run, inner, func, args, kwargs)
            finally:
                context.widen(token)
            return _awaited(work, given_us)

        return timed

    def _begin(self) -> tuple[int, Token[int | None]]:
        """Return the time that a call has from now, and make its end the deadline."""
        now = self._now_ns() // 1000
        moment, token = context.narrow(now + self._after_us)
        if moment <= now:
            raise _refused(moment - now, token)
        return moment - now, token


class _Watch(Alarm):
    """Cancels a task when its time is over, and tells this cancellation from others, as `asyncio.timeout` does.

    Attributes:
        rang: whether there is a cancellation of ours to take back.
    """

    rang = False

    def __init__(self, task: Task[Any] | None) -> None:
        if task is None:
            raise RuntimeError("a timeout of a coroutine needs a task to run in")
        self._task = task
        self._cancelling = task.cancelling()

    def ring(self) -> None:
        """The time is over."""
        self.rang = True
        self._task.cancel()

    def take_back(self) -> int:
        """Take our cancellation back; returns how many others there are."""
        self.rang = False
        return self._task.uncancel()

    def is_own(self) -> bool:
        """Tell whether nobody else cancelled the task, and take the cancellation back."""
        return self.rang and self.take_back() <= self._cancelling


def _refused(left_us: int, token: Token[int | None]) -> NothingStarted:
    context.widen(token)
    return NothingStarted(f"the deadline was over {-left_us} us ago; nothing was started")


def _awaited(work: futures.Future[Any], given_us: int) -> Any:
    """Wait for work in a pool.

    Raises:
        CallTimeout: it goes on without us.
        BulkheadFull: it never began, because every thread of the pool was busy.
    """
    futures.wait([work], timeout=given_us / SECOND_US)
    if not work.done():
        if work.cancel():
            raise BulkheadFull("pool", None)
        raise CallTimeout(given_us, work)
    return work.result()
