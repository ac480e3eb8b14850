"""Flows: several steps written once, stepped by callers that block and awaited by those that await."""

import asyncio
import gc
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.flights import Flights
from backendkit.core.flow import IO, AsyncIO, SyncIO, step
from backendkit.core.operation import Change, Operation, Script, State
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.stores import MemoryStore


def _fold_count(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    number = (states[0] or 0) + 1
    return Change(((number, 10**9),), [number])


COUNT = Script("count", lua="", fold=_fold_count)


class World:
    """A store, a clock, flights, and both IOs over them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock)
        self.flights = Flights()
        self.sync = SyncIO(self.store, self.clock, self.flights)
        self.aio = AsyncIO(self.store.aio, self.clock, self.flights)


async def all_verbs(io: IO) -> list[object]:
    """Use each verb once or twice."""
    counted = await io.run(Operation(COUNT, (b"k",), (), lambda reply: reply[0]))
    await io.wait(5)
    called = await io.call(lambda: 7)

    async def load() -> Outcome[str]:
        await io.wait(3)
        return Value("loaded")

    shared = await io.share("key", load)
    return [counted, called.unwrap(), shared.unwrap()]


def test_a_flow_does_the_same_in_both_colours() -> None:
    """One text, two ways to run it."""
    blocking, awaiting = World(), World()
    assert step(all_verbs(blocking.sync)) == asyncio.run(all_verbs(awaiting.aio))
    assert blocking.clock.mono_us() == awaiting.clock.mono_us() == 8
    assert len(blocking.flights) == len(awaiting.flights) == 0


def test_a_step_returns_what_the_flow_returns() -> None:
    """None as well."""

    async def nothing() -> None:
        return None

    assert step(nothing()) is None


def test_a_step_raises_what_the_flow_raises() -> None:
    """The same object."""
    error = LookupError("x")

    async def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        step(fail())
    assert caught.value is error


def test_a_flow_that_suspends_is_refused_and_cleaned_up() -> None:
    """By name, with its `finally` run, and without a warning about a coroutine that nobody awaited."""
    ended: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("inner")

    async def flow() -> None:
        try:
            await inner()
        finally:
            ended.append("flow")

    kept = flow()  # else it would be closed for want of a holder
    with pytest.raises(
        RuntimeError, match="a synchronous flow suspended: its IO must only use blocking calls"
    ):
        step(kept)
    assert ended == ["inner", "flow"]


def test_an_asynchronous_io_under_a_synchronous_face_is_refused() -> None:
    """That is what a flow that suspends means."""
    world = World()
    with pytest.raises(RuntimeError, match="suspended"):
        step(world.aio.wait(1))
    gc.collect()


@pytest.mark.parametrize(
    "error", [LookupError("x"), StopIteration(3), StopAsyncIteration(), AssertionError()]
)
def test_what_a_users_function_raises_is_an_outcome(error: Exception) -> None:
    """Also a StopIteration, which no coroutine may raise."""

    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    world = World()
    outcomes = [step(world.sync.call(fail)), asyncio.run(world.aio.call(fail))]
    if not isinstance(error, StopIteration | StopAsyncIteration):
        outcomes.append(asyncio.run(world.aio.call(fail_async)))
    for outcome in outcomes:
        assert isinstance(outcome, Error)
        assert outcome.error is error


def test_what_ends_the_program_is_no_outcome() -> None:
    """Nor is a cancellation."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def call() -> None:
        with pytest.raises(asyncio.CancelledError):
            await world.aio.call(cancelled)

    world = World()
    with pytest.raises(KeyboardInterrupt):
        step(world.sync.call(interrupt))
    asyncio.run(call())


def test_the_asynchronous_side_awaits_what_can_be_awaited() -> None:
    """A coroutine, a future, an object of one's own; what cannot is the value."""

    class Awaited:
        def __await__(self) -> Generator[Any, None, int]:
            yield from asyncio.sleep(0).__await__()
            return 3

    async def one() -> int:
        return 1

    async def main() -> list[object]:
        world = World()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(2)
        made: list[Awaitable[int] | int] = [one(), future, Awaited(), 4]
        return [(await world.aio.call(lambda each=each: each)).unwrap() for each in made]  # type: ignore[misc]

    assert asyncio.run(main()) == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [LookupError("x"), StopIteration(3)])
def test_a_shared_load_that_raises_is_an_outcome(error: Exception) -> None:
    """In either colour; a StopIteration becomes what Python makes of it."""

    async def fail() -> Outcome[int]:
        raise error

    world = World()
    for outcome in (step(world.sync.share("k", fail)), asyncio.run(world.aio.share("k", fail))):
        assert isinstance(outcome, Error)
        assert isinstance(outcome.error, LookupError | RuntimeError)
        assert len(world.flights) == 0


def test_a_shared_load_may_be_any_awaitable() -> None:
    """What an `async def` is not, but returns alike."""

    async def main() -> Outcome[int]:
        future: asyncio.Future[Outcome[int]] = asyncio.get_running_loop().create_future()
        future.set_result(Value(5))
        return await World().aio.share("k", lambda: future)

    assert asyncio.run(main()).unwrap() == 5


def test_a_shared_load_that_suspends_is_refused_on_the_blocking_side() -> None:
    """And leaves no flight behind."""

    async def load() -> Outcome[int]:
        await asyncio.sleep(0)
        return Value(1)

    world = World()
    with pytest.raises(RuntimeError, match="suspended"):
        step(world.sync.share("k", load))
    assert len(world.flights) == 0
