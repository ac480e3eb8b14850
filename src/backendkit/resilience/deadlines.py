"""How long the work at hand may take altogether, however many steps and retries it has.

A deadline is a moment in the context (`core.context.until`): nested ones take the minimum, and what waits below, a
retry's pause, a timeout, a store, takes the smaller of its own bound and what is left. It interrupts nothing by
itself; nothing starts after it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from backendkit.core import checks, context
from backendkit.core.checks import Duration
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import DeadlineExceeded

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Deadline:
    """Gives a function, or a block, so much time. One object serves any number of calls, threads and tasks.

    Args:
        after: the time from the start of a call; of a generator, from its first item.
        clock: None: the machine's; its monotonic reading counts.

    Raises:
        InvalidArgument: `after` is not a positive duration.
    """

    def __init__(self, after: Duration, *, clock: Clock | None = None) -> None:
        self._after_us = checks.duration_us("after", after)
        self._clock: Clock = SystemClock() if clock is None else clock

    @contextmanager
    def running(self) -> Generator[int]:
        """Set the deadline for a block; yields the moment that holds, in microseconds of the monotonic clock.

        Raises:
            DeadlineExceeded: one that is already in force is over; the block does not run.
        """
        with context.until(self._moment()) as moment:
            yield moment

    def call(self, func: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
        """Call `func` under the deadline; raises as `running` does."""
        with self.running():
            return func(*args, **kwargs)

    async def call_async(
        self, func: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any
    ) -> R:
        """Call `func` under the deadline and await what it returns; raises as `running` does."""
        with self.running():
            return await func(*args, **kwargs)

    def __call__(self, func: F, /) -> F:
        """Decorate a function, a coroutine function, or a generator of either kind; it stays what it is."""
        return cast("F", self._wrapped(func))

    def _wrapped(self, func: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(func):
            return self._async_stream(func)
        if inspect.isgeneratorfunction(func):
            return self._stream(func)
        if inspect.iscoroutinefunction(func):

            @functools.wraps(func)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                return await self.call_async(func, *args, **kwargs)

            return awaited

        @functools.wraps(func)
        def called(*args: Any, **kwargs: Any) -> Any:
            return self.call(func, *args, **kwargs)

        return called

    def _stream(self, func: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return (yield from _Steps(self._moment(), func(*args, **kwargs)))

        return wrapper

    def _async_stream(self, func: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            moment, source = self._moment(), func(*args, **kwargs)
            step = source.asend(None)
            while True:
                try:
                    with context.until(moment):
                        item = await step
                except StopAsyncIteration:
                    return
                try:
                    step = source.asend((yield item))
                except GeneratorExit:
                    with context.until(moment):
                        await source.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - the consumer threw it into the source
                    step = source.athrow(error)

        return wrapper

    def _moment(self) -> int:
        """Return the end of what starts now, unless it may not start."""
        now, outer = self._clock.mono_us(), context.deadline_us()
        if outer is not None and now >= outer:
            raise DeadlineExceeded(
                f"the deadline was over {now - outer} us ago; nothing was started"
            )
        return now + self._after_us


class _Steps(Generator[Any, Any, Any]):
    """A generator each of whose steps runs under a deadline, which so never leaks to its consumer."""

    def __init__(self, moment: int, source: Generator[Any, Any, Any]) -> None:
        self._moment = moment
        self._source = source

    def send(self, value: Any, /) -> Any:
        with context.until(self._moment):
            return self._source.send(value)

    def throw(self, *raised: Any) -> Any:
        with context.until(self._moment):
            return self._source.throw(*raised)

    def close(self) -> None:
        with context.until(self._moment):
            self._source.close()
