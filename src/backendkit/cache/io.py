"""The world as the cache's flows see it, in two colours: the house's five verbs, and what loading needs beside them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol, cast

from backendkit.cache.behind import MOST_BOUNDED, Behind
from backendkit.cache.bell import Bell
from backendkit.core.clock import SECOND_US, Clock, SystemClock, seconds_of
from backendkit.core.context import detach
from backendkit.core.errors import InvalidArgument
from backendkit.core.flights import Flight, Flights, Interrupted, interrupted
from backendkit.core.flow import IO, AsyncIO, Load, SyncIO, awaited, step
from backendkit.core.outcome import Error, Outcome
from backendkit.core.store import AsyncStore, Store

monotonic = seconds_of(SystemClock())
"""Real time bounds waits, whatever clock the store has."""


class Landing(Protocol):
    """A shared load that its caller may leave."""

    async def within(self, us: int) -> Outcome[Any] | None:
        """Wait for it until `us` microseconds after it was begun; None: it goes on."""
        ...

    def leave(self) -> None:
        """Wait no more."""
        ...


class CacheIO(IO, Protocol):
    """What the flows of the cache may ask of the world."""

    def may_wait(self) -> bool:
        """Whether waiting here leaves everybody else free to go on."""
        ...

    async def listen(self, bells: Iterable[Bell], us: int) -> None:
        """Wait until all of them have rung, for `us` microseconds at the most."""
        ...

    def begin(self, key: object, load: Load[Any]) -> Landing:
        """Share a load that may be left."""
        ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow behind; False: there is no room for one more."""
        ...

    async def land(self, key: object, flight: Any, seconds: float) -> Outcome[Any] | None:
        """Wait for a load that somebody else leads; None: not from here, or not for so long."""
        ...


async def shared(io: IO, key: object, load: Load[Any]) -> Outcome[Any]:
    """Share a load; once more, if whoever led it was stopped, which is nobody else's fault."""
    outcome = await io.share(key, load)
    return await io.share(key, load) if was_interrupted(outcome) else outcome


def was_interrupted(outcome: Outcome[Any] | None) -> bool:
    """Whether an outcome says nothing of the load itself."""
    return isinstance(outcome, Error) and isinstance(outcome.error, Interrupted)


class BlockingIO(SyncIO):
    """For callers that block."""

    __slots__ = ("_behind", "_bounded", "_flights_")

    def __init__(self, store: Store, clock: Clock, flights: Flights, behind: Behind) -> None:
        super().__init__(store, clock, flights)
        self._flights_ = flights
        self._behind = behind
        self._bounded = Behind(MOST_BOUNDED)

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Call a loader in this thread; what would have to be awaited is none."""
        outcome: Outcome[Any] = await super().call(function)
        if isinstance(outcome, Error):
            return outcome
        value: Any = outcome.value
        kind = type(outcome.value).__name__
        if not hasattr(cast("Any", type(value)), "__await__"):
            return outcome
        if isinstance(value, Coroutine):
            value.close()  # else it is warned of as never awaited
        fix = "await it through `cache.aio`."
        return Error(InvalidArgument("loader", "must not have to be awaited here", kind, fix))

    def may_wait(self) -> bool:
        """Whether this thread runs no event loop: one of its tasks may be what is waited for."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
        return False

    async def listen(self, bells: Iterable[Bell], us: int) -> None:
        """Block until they have rung."""
        end = monotonic() + us / SECOND_US
        for bell in bells:
            bell.wait_sync(_left_us(end))

    def begin(self, key: object, load: Load[Any]) -> Landing:
        """Share a load from a thread of its own, if this caller leads it."""
        return _BoundedLanding(self._flights_, self._bounded, key, load)

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow in a thread behind."""
        return self._behind.run(lambda: step(work()))

    async def land(self, key: object, flight: Any, seconds: float) -> Outcome[Any] | None:
        """Block until it has landed."""
        return self._flights_.wait_sync(key, flight, seconds)


class _BoundedLanding:
    """A load that a blocking caller waits for, in a thread that starts when there is room for it."""

    __slots__ = ("_begun", "_fatal", "_flight", "_flights", "_key", "_leads", "_load", "_room")

    def __init__(self, flights: Flights, room: Behind, key: object, load: Load[Any]) -> None:
        self._flights = flights
        self._room = room
        self._key = key
        self._load = load
        self._begun = monotonic()
        self._fatal: Error | None = None
        self._board()

    def _board(self) -> None:
        self._flight, self._leads = self._flights.board(self._key)
        if not self._leads and self._flight.led_from_here():
            self._flight, self._leads = (
                Flight(),
                True,
            )  # it waits for us: load, and share with nobody

    async def within(self, us: int) -> Outcome[Any] | None:
        """Start the thread, if need be, and block."""
        end = self._begun + us / SECOND_US
        while True:
            if self._leads:
                if not self._room.run(self._work, end - monotonic()):
                    return None
                self._leads = False
            self._flight.landed.wait(max(end - monotonic(), 0))
            if self._fatal is not None or not was_interrupted(self._flight.outcome):
                return self._fatal or self._flight.outcome
            self._board()

    def _work(self) -> None:
        flight = self._flight
        outcome: Outcome[Any] = interrupted()
        flight.hand_over()
        try:
            outcome = step(awaited(self._load))
        except BaseException as error:  # noqa: BLE001 - what ends the thread is for whoever has it started, and nobody else
            self._fatal = Error(error)
        finally:
            self._flights.land(self._key, flight, outcome)

    def leave(self) -> None:
        """Have others lead what never started."""
        if self._leads:
            self._flights.land(self._key, self._flight, interrupted())


class AwaitingIO(AsyncIO):
    """For callers that await."""

    __slots__ = ("_flights_", "_tasks")

    def __init__(self, store: AsyncStore, clock: Clock, flights: Flights) -> None:
        super().__init__(store, clock, flights)
        self._flights_ = flights
        self._tasks: set[asyncio.Task[Any]] = set()

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Call a loader, and await it; where something in it was cancelled, and not this task, that is its error."""
        try:
            return await super().call(function)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Error(error)

    def may_wait(self) -> bool:
        """Whoever suspends leaves everybody else free."""
        return True

    async def listen(self, bells: Iterable[Bell], us: int) -> None:
        """Suspend until they have rung."""
        end = monotonic() + us / SECOND_US
        for bell in bells:
            await bell.wait_async(_left_us(end))

    def begin(self, key: object, load: Load[Any]) -> Landing:
        """Share the load; it has a task of its own in any case."""
        return _TaskLanding(self._keep(shared(self, key, load)))

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow in a task that belongs to no request."""
        own = contextvars.copy_context()
        own.run(detach)
        self._keep(work(), own)
        return True

    async def land(self, key: object, flight: Any, seconds: float) -> Outcome[Any] | None:
        """Suspend until it has landed."""
        return await self._flights_.wait_async(key, flight, seconds)

    def _keep(
        self, flow: Coroutine[Any, Any, Any], own: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(flow, context=own)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _TaskLanding:
    """A load that a task waits for."""

    __slots__ = ("_begun", "_task")

    def __init__(self, task: asyncio.Task[Outcome[Any]]) -> None:
        self._task = task
        self._begun = monotonic()

    async def within(self, us: int) -> Outcome[Any] | None:
        """Suspend."""
        left = max(self._begun + us / SECOND_US - monotonic(), 0)
        done, _ = await asyncio.wait([self._task], timeout=left)
        return self._task.result() if done else None

    def leave(self) -> None:
        """Leave it to its task."""


def _left_us(end: float) -> int:
    return max(int((end - monotonic()) * SECOND_US), 0)
