"""The world as the cache's flows see it, in two colours: the house's four verbs, and what loading needs beside them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from backendkit.cache.behind import Behind
from backendkit.cache.bell import Bell
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.context import detach
from backendkit.core.flights import Flights
from backendkit.core.flow import IO, AsyncIO, Load, SyncIO, step
from backendkit.core.operation import Operation
from backendkit.core.outcome import Outcome
from backendkit.core.store import AsyncStore, Store


class CacheIO(IO, Protocol):
    """What the flows of the cache may ask of the world."""

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations in one batch per server."""
        ...

    def may_wait(self) -> bool:
        """Whether waiting here leaves everybody else free to go on."""
        ...

    async def listen(self, bell: Bell, us: int) -> None:
        """Wait until it rings, for `us` microseconds at the most."""
        ...

    async def share_within(self, key: object, load: Load[Any], us: int) -> Outcome[Any] | None:
        """Share a load for at most `us` microseconds; None: it goes on behind."""
        ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow behind; False: there is no room for one more."""
        ...

    async def land(self, flight: Any) -> Outcome[Any] | None:
        """Wait for a load that somebody else leads; None: not from here, or not for so long."""
        ...


class BlockingIO(SyncIO):
    """For callers that block."""

    __slots__ = ("_behind", "_flights_", "_operations")

    def __init__(self, store: Store, clock: Clock, flights: Flights, behind: Behind) -> None:
        super().__init__(store, clock, flights)
        self._operations = store
        self._flights_ = flights
        self._behind = behind

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations."""
        return self._operations.run_many(operations)

    def may_wait(self) -> bool:
        """Whether this thread runs no event loop: one of its tasks may be what is waited for."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
        return False

    async def listen(self, bell: Bell, us: int) -> None:
        """Block until it rings."""
        bell.wait_sync(us)

    async def share_within(self, key: object, load: Load[Any], us: int) -> Outcome[Any] | None:
        """Share the load from a thread behind, and wait for that."""
        done = threading.Event()
        outcome: list[Outcome[Any]] = []

        def work() -> None:
            try:
                outcome.append(step(self.share(key, load)))
            finally:
                done.set()

        if not self._behind.run(work):
            return await self.share(key, load)
        done.wait(us / SECOND_US)
        return outcome[0] if outcome else None

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow in a thread behind."""
        return self._behind.run(lambda: step(work()))

    async def land(self, flight: Any) -> Outcome[Any] | None:
        """Block until it has landed."""
        return self._flights_.wait_sync(flight)


class AwaitingIO(AsyncIO):
    """For callers that await."""

    __slots__ = ("_flights_", "_operations", "_tasks")

    def __init__(self, store: AsyncStore, clock: Clock, flights: Flights) -> None:
        super().__init__(store, clock, flights)
        self._operations = store
        self._flights_ = flights
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations."""
        return await self._operations.run_many(operations)

    def may_wait(self) -> bool:
        """Whoever suspends leaves everybody else free."""
        return True

    async def listen(self, bell: Bell, us: int) -> None:
        """Suspend until it rings."""
        await bell.wait_async(us)

    async def share_within(self, key: object, load: Load[Any], us: int) -> Outcome[Any] | None:
        """Share the load; it has a task of its own in any case."""
        task = self._keep(self.share(key, load))
        done, _ = await asyncio.wait([task], timeout=us / SECOND_US)
        return task.result() if done else None

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a flow in a task that belongs to no request."""
        own = contextvars.copy_context()
        own.run(detach)
        self._keep(work(), own)
        return True

    async def land(self, flight: Any) -> Outcome[Any] | None:
        """Suspend until it has landed."""
        return await self._flights_.wait_async(flight)

    def _keep(
        self, flow: Coroutine[Any, Any, Any], own: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(flow, context=own)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
