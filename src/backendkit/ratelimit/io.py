"""The world as the limiter's flows see it, in two colours: the house's five verbs, and two of the feature's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from backendkit.core.clock import Clock
from backendkit.core.flights import Flights
from backendkit.core.flow import AsyncIO, SyncIO
from backendkit.core.store import AsyncStore
from backendkit.ratelimit.decision import Decision
from backendkit.ratelimit.flows import Undo
from backendkit.ratelimit.turns import Turn

R = TypeVar("R")


class BlockingIO(SyncIO):
    """For callers that block."""

    __slots__ = ()

    async def turn(self, turn: Turn, us: int) -> bool:
        """Block until it is this one's turn; never for a task of the event loop that this thread runs."""
        return False if _on_a_loop() else turn.wait_sync(us)

    async def whole(
        self, flow: Callable[[], Coroutine[Any, Any, Decision]], undo: Undo
    ) -> Decision:
        """Run the flow; a caller that blocks does not go away."""
        return await flow()


class AwaitingIO(AsyncIO):
    """For callers that await."""

    __slots__ = ("_tasks",)

    def __init__(self, store: AsyncStore, clock: Clock, flights: Flights) -> None:
        super().__init__(store, clock, flights)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def turn(self, turn: Turn, us: int) -> bool:
        """Suspend until it is this one's turn."""
        return await turn.wait_async(us)

    async def whole(
        self, flow: Callable[[], Coroutine[Any, Any, Decision]], undo: Undo
    ) -> Decision:
        """Run the flow to its end whatever becomes of the caller; undo it if the caller was cancelled."""
        task = self._keep(flow())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: self._undo(done, undo))
            raise

    async def through(self, flow: Coroutine[Any, Any, R]) -> R:
        """Run a flow to its end whatever becomes of the caller."""
        return await asyncio.shield(self._keep(flow))

    def _undo(self, done: asyncio.Task[Decision], undo: Undo) -> None:
        if not done.cancelled() and done.exception() is None and done.result().allowed:
            self._keep(undo(done.result()))

    def _keep(self, flow: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.get_running_loop().create_task(flow)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
