"""A store that fails on command, in both colours."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import (
    InvalidArgument,
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreClosed,
    StoreFull,
    StoreUnavailable,
)
from backendkit.core.operation import Change, Operation, Script
from backendkit.core.outcome import Error
from backendkit.stores import MemoryStore
from backendkit.testing import Fault, FaultyStore, faults


def count(states: Any, now: int, args: Any) -> Change:
    """Add one."""
    more = (states[0] or 0) + 1
    return Change(((more, 10**9),), [more])


def look(states: Any, now: int, args: Any) -> Change:
    """Change nothing."""
    return Change((), [states[0] or 0])


COUNT = Script("count", lua="", fold=count)
LOOK = Script("look", lua="", fold=look)

Run = Callable[[FaultyStore, Operation[Any]], Any]


def sync(store: FaultyStore, operation: Operation[Any]) -> Any:
    """Run an operation by the synchronous face."""
    return store.run(operation)


def aio(store: FaultyStore, operation: Operation[Any]) -> Any:
    """Run an operation by the asynchronous face."""
    return asyncio.run(store.aio.run(operation))


@pytest.fixture
def store() -> FaultyStore:
    """A faulty store in memory."""
    return FaultyStore(MemoryStore(clock=ManualClock()))


@pytest.fixture(params=[sync, aio])
def run(request: pytest.FixtureRequest) -> Run:
    """Each colour."""
    found: Run = request.param
    return found


def op(script: Script = COUNT) -> Operation[int]:
    """An operation on one key."""
    return Operation(script, (b"k",), (), lambda reply: int(reply[0]))


def test_without_a_fault_it_is_the_store_within(store: FaultyStore, run: Run) -> None:
    """Replies, scripts, statistics."""
    assert [run(store, op()), run(store, op())] == [1, 2]
    assert store.scripts == ["count", "count"]
    assert store.stats().entries == 1
    assert store.route(op()) == store.store.route(op())
    assert store.aio.sync is store


@pytest.mark.parametrize(
    ("fault", "kind", "runs"),
    [
        (faults.NOT_SENT, NotSent, False),
        (faults.UNAVAILABLE, StoreUnavailable, False),
        (faults.FULL, StoreFull, False),
        (faults.LOST_BEFORE, OutcomeUnknown, False),
        (faults.LOST_AFTER, OutcomeUnknown, True),
        (faults.TIMEOUT_BEFORE, ReplyTimeout, False),
        (faults.TIMEOUT_AFTER, ReplyTimeout, True),
    ],
)
def test_a_fault_raises_and_runs_or_not(
    store: FaultyStore, run: Run, fault: Fault, kind: type[Exception], runs: bool
) -> None:
    """Once, and then all is well."""
    store.inject(fault)
    with pytest.raises(kind, match="injected into count"):
        run(store, op())
    assert run(store, op(LOOK)) == int(runs)


def test_a_delay_passes_on_the_clock(store: FaultyStore, run: Run) -> None:
    """And the reply comes."""
    store.inject(faults.delayed(2))
    assert run(store, op()) == 1
    assert store.clock.mono_us() == 2_000_000


def test_a_timeout_can_take_its_time(store: FaultyStore, run: Run) -> None:
    """As real ones do."""
    store.inject(faults.TIMEOUT_AFTER.after(0.25))
    with pytest.raises(ReplyTimeout):
        run(store, op())
    assert store.clock.mono_us() == 250_000
    assert run(store, op(LOOK)) == 1


def test_faults_apply_in_order_and_as_often_as_said(store: FaultyStore, run: Run) -> None:
    """Twice one, then another, then none."""
    store.inject(faults.NOT_SENT, times=2)
    store.inject(faults.LOST_AFTER)
    for kind in (NotSent, NotSent, OutcomeUnknown):
        with pytest.raises(kind):
            run(store, op())
    assert run(store, op()) == 2


def test_a_fault_without_end_ends_by_healing(store: FaultyStore, run: Run) -> None:
    """An outage."""
    store.inject(faults.UNAVAILABLE, times=None)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            run(store, op())
    store.heal()
    assert run(store, op()) == 1


def test_a_fault_can_choose_scripts(store: FaultyStore, run: Run) -> None:
    """By a pattern."""
    store.inject(faults.NOT_SENT, script="co*")
    assert run(store, op(LOOK)) == 0
    with pytest.raises(NotSent):
        run(store, op())


@pytest.mark.parametrize("colour", ["sync", "aio"])
def test_of_many_each_has_its_own_fault(store: FaultyStore, colour: str) -> None:
    """In their order, and the longest delay for all."""
    store.inject(faults.LOST_AFTER)
    store.inject(faults.NOT_SENT)
    store.inject(faults.delayed(3))
    many = [op(), op(), op(LOOK), op()]
    found = store.run_many(many) if colour == "sync" else asyncio.run(store.aio.run_many(many))
    assert isinstance(found[0], Error)
    assert isinstance(found[0].error, OutcomeUnknown)
    assert isinstance(found[1], Error)
    assert isinstance(found[1].error, NotSent)
    assert [found[2].unwrap(), found[3].unwrap()] == [1, 2]
    assert store.clock.mono_us() == 3_000_000


@pytest.mark.parametrize("times", [0, -1, 1.5, True])
def test_a_number_of_times_that_is_none_is_refused(store: FaultyStore, times: Any) -> None:
    """At once."""
    with pytest.raises(InvalidArgument, match="times"):
        store.inject(faults.NOT_SENT, times=times)


def test_closing_closes_the_store_within(store: FaultyStore) -> None:
    """In both colours."""
    asyncio.run(store.aio.close())
    with pytest.raises(StoreClosed):
        store.store.run(op())
    store.close()
