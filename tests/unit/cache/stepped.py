"""Flows that stop wherever the world may interfere: before and after each message, before and after each load."""

from __future__ import annotations

import contextvars
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from types import MappingProxyType
from typing import Any

from backendkit.cache.bell import Bell
from backendkit.cache.local import Local
from backendkit.cache.record import Ticket
from backendkit.core.flights import Flight, Flights
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value
from tests.unit.cache.world import WorldStore

LED: contextvars.ContextVar[Mapping[object, Flight]] = contextvars.ContextVar(
    "led", default=MappingProxyType({})
)
"""The flights that the flow at hand leads, by key."""


BOARDED: contextvars.ContextVar[Mapping[str, Ticket]] = contextvars.ContextVar(
    "boarded", default=MappingProxyType({})
)
"""The tickets that the flow at hand has, by key."""


def watch_tickets(local: Local) -> None:
    """Have each flow know its tickets."""
    board = local.board

    def watched(key: str) -> Ticket:
        ticket = board(key)
        BOARDED.set({**BOARDED.get(), key: ticket})
        return ticket

    local.board = watched  # type: ignore[method-assign] # of this one


class WatchedFlights(Flights):
    """Flights of which each flow knows what it leads."""

    __slots__ = ()

    def board(self, key: object) -> tuple[Flight, bool]:
        """Note who leads."""
        flight, leads = super().board(key)
        if leads:
            LED.set({**LED.get(), key: flight})
        return flight, leads


class Pause:
    """Awaiting it gives the word back to whoever steps the flow."""

    def __await__(self) -> Generator[None]:
        yield


class Running:
    """A flow on its way."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.work = work
        self.context = contextvars.copy_context()
        self.outcome: Outcome[Any] | None = None

    def step(self) -> None:
        """Go on to where it stops next."""
        try:
            self.context.run(self.work.send, None)
        except StopIteration as done:
            self.outcome = Value(done.value)
        except Exception as error:  # noqa: BLE001 - an outcome
            self.outcome = Error(error)


class SteppedIO:
    """The cache's verbs for flows that are stepped; what they spawn is handed to `spawned`."""

    def __init__(self, store: WorldStore, flights: Flights, spawned: list[Running]) -> None:
        self.store = store
        self.flights = flights
        self.spawned = spawned

    async def run(self, operation: Operation[Any]) -> Any:
        """Send, and some time later hear of it."""
        await Pause()
        outcome = self.store.run_many([operation])[0]
        await Pause()
        return outcome.unwrap()

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """The same, one by one."""
        outcomes: list[Outcome[Any]] = []
        for operation in operations:
            await Pause()
            outcomes += self.store.run_many([operation])
        await Pause()
        return outcomes

    async def wait(self, us: int) -> None:
        """Stop once."""
        await Pause()

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Begin, and some time later end."""
        try:
            end = function()
            if isinstance(end, Awaitable):
                return Value(await end)
            await Pause()
            return Value(end())
        except Exception as error:  # noqa: BLE001 - an outcome
            return Error(error)

    async def share(self, key: object, load: Callable[[], Any]) -> Outcome[Any]:
        """Lead, or stop until the leader has landed."""
        flight, leads = self.flights.board(key)
        if not leads:
            while flight.outcome is None:
                await Pause()
            return flight.outcome
        outcome: Outcome[Any] = Error(RuntimeError("interrupted"))
        try:
            outcome = await load()
        except Exception as error:  # noqa: BLE001 - an outcome
            outcome = Error(error)
        finally:
            self.flights.land(key, flight, outcome)
        return outcome

    def begin(self, key: object, load: Any) -> SteppedLanding:
        """Share it, and be told in time or not: by when the test steps."""
        running = Running(self.share(key, load))
        self.spawned.append(running)
        return SteppedLanding(running)

    def may_wait(self) -> bool:
        """Others are stepped meanwhile."""
        return True

    async def listen(self, bells: Iterable[Bell], us: int) -> None:
        """Stop once: a wait may end early."""
        await Pause()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Hand it to whoever steps."""
        self.spawned.append(Running(work()))
        return True

    async def land(self, key: object, flight: Any, seconds: float) -> Outcome[Any] | None:
        """Stop until it has landed."""
        while flight.outcome is None:
            await Pause()
        outcome: Outcome[Any] = flight.outcome
        return outcome


class SteppedLanding:
    """A shared load that is waited for over some steps."""

    def __init__(self, running: Running) -> None:
        self.running = running

    async def within(self, us: int) -> Outcome[Any] | None:
        """Stop twice."""
        await Pause()
        await Pause()
        return self.running.outcome.unwrap() if self.running.outcome is not None else None

    def leave(self) -> None:
        """Nothing."""
