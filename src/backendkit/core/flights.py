"""Single flight: one load of a key at a time, for threads and tasks together.

The first to ask for a key leads; whoever asks before it lands gets the same outcome. A synchronous leader loads
in its own thread. An asynchronous one loads in a task of its own, which survives the first caller's
cancellation. A flight knows its leader's thread and loop:

- a synchronous caller never waits for a task of the event loop that it blocks, or that its thread would have to run;
- nobody waits for a load of a caller that blocks further up the stack of the same thread: whoever would, loads for
  itself;
- an asynchronous caller waits on a future of its own loop;
- every wait is bounded: after `longest_wait_us` the caller loads for itself, and later callers begin a new flight.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

from backendkit.core.clock import SECOND_US
from backendkit.core.context import detach
from backendkit.core.fork import remake_after_fork
from backendkit.core.outcome import Error, Outcome

T = TypeVar("T")

LONGEST_WAIT_US = 30 * SECOND_US
"""Default bound of a wait for somebody else's load."""


class Interrupted(RuntimeError):
    """Whoever led a load was stopped before it ended: an interrupt, a loop that was closed, no thread to be had."""


class Flights:
    """The loads in the air of one feature's state. Real time bounds the waits, whatever clock the feature has."""

    __slots__ = ("__weakref__", "_flights", "_lock", "_longest_wait", "_tasks")

    def __init__(self, longest_wait_us: int = LONGEST_WAIT_US) -> None:
        self._longest_wait = longest_wait_us / SECOND_US
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget flights whose leaders live in the parent process."""
        self._lock = threading.RLock()  # a finalizer that runs within may ask for a load
        self._flights: dict[object, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Return how many keys are being loaded."""
        return len(self._flights)

    def detach(self, key: object) -> None:
        """Let later callers of `key` start a new load; those who wait still get the outcome of the old one."""
        with self._lock:
            self._flights.pop(key, None)

    def detach_all(self) -> None:
        """Let later callers of every key start new loads."""
        with self._lock:
            self._flights.clear()

    def __contains__(self, key: object) -> bool:
        """Whether `key` is being loaded by somebody whom later callers would join."""
        return key in self._flights

    def board(self, key: object) -> tuple[Flight, bool]:
        """Join the flight of `key`, or begin one; True: the caller leads, and must `land` it whatever happens."""
        flight, leads = self._board(key)
        if leads:
            # Nothing else runs on this loop's thread while a caller that blocks leads, so that a task may wait for either.
            flight.in_task = _running_loop() is not None
        return flight, leads

    def land(self, key: object, flight: Flight, outcome: Outcome[Any]) -> None:
        """End a flight that `board` had the caller lead."""
        self._land(key, flight, outcome)

    def wait_sync(
        self, key: object, flight: Flight, longest: float | None = None
    ) -> Outcome[Any] | None:
        """Block until a flight lands, or for `longest` seconds; None: it is led from here, or took too long, and is detached."""
        if flight.led_from_here():
            return None
        if not flight.landed.wait(self._longest_wait if longest is None else longest):
            self.forget(key, flight)
        return flight.outcome

    async def wait_async(
        self, key: object, flight: Flight, longest: float | None = None
    ) -> Outcome[Any] | None:
        """Suspend until a flight lands, or for `longest` seconds; None: a caller that blocks here leads it, or as above."""
        if flight.blocked_from_here():
            return None
        try:
            async with asyncio.timeout(self._longest_wait if longest is None else longest):
                return await flight.waiter()
        except TimeoutError:
            self.forget(key, flight)
            return None

    @property
    def longest_wait(self) -> float:
        """Seconds that anybody waits for somebody else's load."""
        return self._longest_wait

    def share_sync(self, key: object, load: Callable[[], Outcome[T]]) -> Outcome[T]:
        """Lead in this thread, or block until the leader lands."""
        flight, leads = self._board(key)
        if leads:
            return self._lead(key, flight, load)
        if flight.led_from_here():
            return load()
        if not flight.landed.wait(self._longest_wait):
            self.forget(key, flight)
            return load()
        return cast("Outcome[T]", flight.outcome)

    async def share_async(
        self, key: object, load: Callable[[], Coroutine[Any, Any, Outcome[T]]]
    ) -> Outcome[T]:
        """Lead in a task of its own, or suspend until the leader lands."""
        flight, leads = self._board(key)
        if leads:
            self._take_off(key, flight, load)
        elif flight.blocked_from_here():
            return await load()
        waiter = flight.waiter()
        try:
            async with asyncio.timeout(None if leads else self._longest_wait):
                return cast("Outcome[T]", await waiter)
        except TimeoutError:
            self.forget(key, flight)
            return await load()

    def _take_off(
        self, key: object, flight: Flight, load: Callable[[], Coroutine[Any, Any, Outcome[T]]]
    ) -> None:
        """Lead in a task of its own, in a copy of the first caller's context that is detached from its request."""
        flight.in_task = True
        own = contextvars.copy_context()
        own.run(detach)
        task = asyncio.get_running_loop().create_task(
            self._lead_async(key, flight, load), context=own
        )
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            # A task that is cancelled before its first step runs nothing of its coroutine.
            self._land(key, flight, interrupted())

        task.add_done_callback(ended)

    def _board(self, key: object) -> tuple[Flight, bool]:
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            made = Flight()
            flight = self._flights.setdefault(key, made)
            return flight, flight is made

    def _lead(self, key: object, flight: Flight, load: Callable[[], Outcome[T]]) -> Outcome[T]:
        outcome: Outcome[T] = interrupted()
        try:
            outcome = load()
        except Exception as error:
            outcome = Error(error)
            raise
        finally:
            self._land(key, flight, outcome)
        return outcome

    async def _lead_async(
        self, key: object, flight: Flight, load: Callable[[], Coroutine[Any, Any, Outcome[T]]]
    ) -> None:
        outcome: Outcome[T] = interrupted()
        try:
            outcome = await load()
        except Exception as error:  # noqa: BLE001 - whoever shares the load is told; the task has nobody else to tell
            outcome = Error(error)
        finally:
            self._land(key, flight, outcome)

    def _land(self, key: object, flight: Flight, outcome: Outcome[Any]) -> None:
        self.forget(key, flight)
        flight.land(outcome)

    def forget(self, key: object, flight: Flight) -> None:
        """Let later callers of `key` start a new load, if they would still join this one."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]


class Flight:
    """One load and those who wait for it; `Flights` makes and lands them."""

    __slots__ = ("_lock", "_loop", "_thread", "_waiters", "in_task", "landed", "outcome")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread = threading.get_ident()
        self._loop = _running_loop()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Outcome[Any]]]] = []
        self.in_task = False
        self.landed = threading.Event()
        self.outcome: Outcome[Any] | None = None

    def led_from_here(self) -> bool:
        """Whether waiting here, blocking, would keep the leader itself from going on."""
        return self._thread == threading.get_ident() or (
            self._loop is not None and self._loop is _running_loop()
        )

    def blocked_from_here(self) -> bool:
        """Whether the leader is a caller that blocks, further up the stack of this thread."""
        return self._thread == threading.get_ident() and not self.in_task

    def hand_over(self) -> None:
        """Have the calling thread lead from now on; whoever began it blocks until it has landed, or leaves."""
        self._thread = threading.get_ident()
        self._loop = None
        self.in_task = False

    def waiter(self) -> asyncio.Future[Outcome[Any]]:
        """Return a future of the running loop that gets the outcome; its cancellation harms nobody else."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome[Any]] = loop.create_future()
        with self._lock:
            if self.outcome is None:
                self._waiters.append((loop, future))
                return future
        future.set_result(self.outcome)
        return future

    def land(self, outcome: Outcome[Any]) -> None:
        """Give everybody the outcome; only the first counts."""
        with self._lock:
            if self.outcome is not None:
                return
            self.outcome = outcome
            waiters, self._waiters = self._waiters, []
        self.landed.set()
        here = _running_loop()
        for loop, future in waiters:
            if loop is here:
                _give(future, outcome)
            else:
                with suppress(RuntimeError):  # the loop has been closed, and nobody waits there
                    loop.call_soon_threadsafe(_give, future, outcome)


def interrupted() -> Error:
    """Return the outcome of a load that nobody has led to its end."""
    return Error(Interrupted("the load was interrupted"))


def _give(future: asyncio.Future[Outcome[Any]], outcome: Outcome[Any]) -> None:
    if not future.done():
        future.set_result(outcome)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
