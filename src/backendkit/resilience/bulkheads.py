"""Bounding how many calls run at once, so that one slow dependency does not take every thread and task with it."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop
from collections import deque
from contextlib import suppress
from typing import Any

from backendkit.core import checks, context
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.fork import hold_during_fork, remake_after_fork
from backendkit.resilience import marks, streams
from backendkit.resilience.errors import BulkheadFull, CallTimeout
from backendkit.resilience.layers import Policy
from backendkit.resilience.steps import Args, Function, Kwargs, Step


class Bulkhead(Policy):
    """Lets at most `limit` calls run at once, of threads and event loops together; the others wait in line.

    Who has waited longest is next, and nobody overtakes. A caller that is cancelled while it waits leaves the line; one
    that is cancelled just as its turn comes passes it on. Waiting is no part of the call: a breaker around it does not
    count it as slow. A stream holds its slot from the first item to its end.

    A call that finds room costs 0.5 us more.

    Args:
        limit: calls at once, 1..1,000,000.
        max_wait: how long a call may wait for its turn, or until the deadline in force where that is sooner; 0: not at
            all; None: as long as it takes.
        name: what errors call it.
        clock: None: the machine's.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_wait: Duration | None = 0.0,
        name: str = "bulkhead",
        clock: Clock | None = None,
    ) -> None:
        self._limit = checks.whole("limit", limit, least=1, most=1_000_000)
        self._wait_us = (
            None if max_wait is None else checks.duration_us("max_wait", max_wait, least_us=0)
        )
        self._name = checks.name("name", name)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._lock = threading.Lock()
        self._free = limit
        self._line: deque[_Turn] = deque()
        self._era = 0
        hold_during_fork(self)
        remake_after_fork(self)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self._name

    @property
    def limit(self) -> int:
        """Calls at once."""
        return self._limit

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._limit - self._free

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._line)

    @property
    def fork_lock(self) -> threading.Lock:
        """The lock within which slots change hands."""
        return self._lock

    def after_fork_in_child(self) -> None:
        """Forget calls that run in the parent; what the forking thread holds is not counted any more."""
        self._era += 1
        self._free = self._limit
        self._line.clear()

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""

        def bounded(func: Function, args: Args, kwargs: Kwargs) -> Any:
            era = self._enter()
            try:
                result = inner(func, args, kwargs)
            except BaseException as error:
                self.leave(era, error)
                raise
            self._leave(era)
            return result

        return bounded

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        lock = self._lock

        async def bounded(func: Function, args: Args, kwargs: Kwargs) -> Any:
            with lock:
                era = self._era if self._free else None
                self._free -= era is not None
            if era is None:
                era = await self._enter_async()
            try:
                result = await inner(func, args, kwargs)
            except BaseException as error:
                self.leave(era, error)
                raise
            self._leave(era)
            return result

        return bounded

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""

        def begin(*_: object) -> streams.Passage:
            return _Slot(self, self._enter())

        return streams.passed(inner, begin)

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""

        async def begin(*_: object) -> streams.Passage:
            era = self._try_enter()
            return _Slot(self, await self._enter_async() if era is None else era)

        return streams.passed_async(inner, begin)

    def leave(self, era: int, error: BaseException | None = None) -> None:
        """Give a slot back; that of a call which runs on without its caller, once it has ended."""
        worker = error.worker if isinstance(error, CallTimeout) else None
        if worker is None:
            self._leave(era)
        else:
            worker.add_done_callback(lambda _: self._leave(era))

    def _try_enter(self) -> int | None:
        with self._lock:
            # Where somebody waits, nothing is free: a slot is handed over.
            if self._free:
                self._free -= 1
                return self._era
        return None

    def _enter(self) -> int:
        era = self._try_enter()
        if era is not None:
            return era
        turn = _ThreadTurn()
        came = self._clock.mono_us()
        era = self._queue(turn, wait_us := self._patience_us(came))
        if era is not None:
            return era
        try:
            turn.wait(wait_us)
        except BaseException:
            self._give_up(turn)
            raise
        return self._arrived(turn, came)

    async def _enter_async(self) -> int:
        turn = _TaskTurn(asyncio.get_running_loop())
        came = self._clock.mono_us()
        era = self._queue(turn, wait_us := self._patience_us(came))
        if era is not None:
            return era
        try:
            await turn.wait(wait_us)
        except BaseException as error:
            self._give_up(turn)
            if isinstance(error, asyncio.CancelledError):
                marks.tell_in_line(error, BulkheadFull(self._name, self._limit))
            raise
        return self._arrived(turn, came)

    def _patience_us(self, now: int) -> int | None:
        deadline = context.deadline_us()
        left = None if deadline is None else deadline - now
        if self._wait_us is None or left is None:
            return self._wait_us if left is None else left
        return min(self._wait_us, left)

    def _queue(self, turn: _Turn, wait_us: int | None) -> int | None:
        """Stand in line, unless there is room after all.

        Raises:
            BulkheadFull: there is no time to wait.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return self._era
            if wait_us is not None and wait_us <= 0:
                raise BulkheadFull(self._name, self._limit)
            self._line.append(turn)
        return None

    def _arrived(self, turn: _Turn, came: int) -> int:
        """Return the era of a turn that came.

        Raises:
            BulkheadFull: it did not come in time.
        """
        marks.tell_waited(self._clock, came, self._clock.mono_us())
        with self._lock:
            era = turn.era
            if era is None:
                self._forget(turn)
        if era is None:
            raise BulkheadFull(self._name, self._limit)
        return era

    def _give_up(self, turn: _Turn) -> None:
        """Leave the line; a turn that has just come goes to the next."""
        with self._lock:
            era = turn.era
            if era is None:
                self._forget(turn)
        if era is not None:
            self._leave(era)

    def _forget(self, turn: _Turn) -> None:
        with suppress(ValueError):  # a fork emptied the line
            self._line.remove(turn)

    def _leave(self, era: int) -> None:
        called = False
        while not called:  # where its loop is gone, the next
            with self._lock:
                if era != self._era:
                    return
                if not self._line:
                    self._free += 1
                    return
                turn = self._line.popleft()
                turn.era = era
            called = turn.call()


class _Turn(ABC):
    """A caller in line.

    Attributes:
        era: set, under the lock, when its turn has come.
    """

    era: int | None = None

    @abstractmethod
    def call(self) -> bool:
        """Tell the caller that its turn has come; False: nobody is there any more."""


class _ThreadTurn(_Turn):
    def __init__(self) -> None:
        self._called = threading.Lock()
        self._called.acquire()

    def call(self) -> bool:
        self._called.release()
        return True

    def wait(self, wait_us: int | None) -> None:
        """Block until called, or that long."""
        self._called.acquire(timeout=-1 if wait_us is None else wait_us / SECOND_US)


class _TaskTurn(_Turn):
    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._called: asyncio.Future[None] = loop.create_future()

    def call(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed
            return False
        return True

    async def wait(self, wait_us: int | None) -> None:
        """Suspend until called, or that long."""
        timer = (
            None if wait_us is None else self._loop.call_later(wait_us / SECOND_US, self._finish)
        )
        try:
            await self._called
        finally:
            if timer is not None:
                timer.cancel()

    def _finish(self) -> None:
        if not self._called.done():
            self._called.set_result(None)


class _Slot(streams.Passage):
    """The slot of a stream."""

    def __init__(self, bulkhead: Bulkhead, era: int) -> None:
        self._bulkhead = bulkhead
        self._era = era

    def ended(self, error: BaseException | None, result: object = None) -> None:
        self._bulkhead.leave(self._era, error)
