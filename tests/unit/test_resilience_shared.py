"""Breakers that share a circuit, on a memory store and a clock that stands: who asks whom, when, and what is told."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument, StoreUnavailable
from backendkit.core.events import Event
from backendkit.resilience import (
    CircuitBreaker,
    CircuitObserved,
    CircuitOpen,
    CircuitStrained,
    CircuitTransition,
)
from backendkit.resilience.decide.shared import ACQUIRE, NOTHING, REPORT, Questions
from backendkit.resilience.shared import SharedMachine
from backendkit.stores import MemoryStore
from backendkit.testing import FaultyStore
from backendkit.testing.faults import UNAVAILABLE
from tests.ground.waiting import eventually

SECOND = 1_000_000


class Fleet:
    """Processes, as breakers of one name on one store; counts what is asked."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.clock = ManualClock()
        self.memory = MemoryStore(clock=self.clock)
        self.store = FaultyStore(self.memory)
        self.events: list[Event] = []
        usual: dict[str, Any] = {
            "window": 10,
            "minimum_calls": 4,
            "open_for": 30,
            "jitter": 0,
            "trials": 2,
            "lease": 10,
            "coalesce": 0,
        }
        self.breakers = [
            CircuitBreaker("pay", clock=self.clock, store=self.store, **{**usual, **options})
            for _ in range(size)
        ]
        for breaker in self.breakers:
            breaker.hooks.add(self.events.append)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let calls fail."""
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            breaker.call(_down)


def _down() -> None:
    raise OSError("down")


def test_failures_of_all_add_up_and_all_are_rejected() -> None:
    """The cause tells a transition; the other tells what it has seen."""
    fleet = Fleet()
    one, other = fleet.breakers
    fail(one, 2)
    fail(other, 2)
    assert other.current_state == "open"
    fleet.clock.advance(SECOND)
    with pytest.raises(CircuitOpen) as rejected:
        one.call(print)
    assert rejected.value.retry_after == 29
    assert rejected.value.failure_rate == 1
    assert rejected.value.opened_at_us == fleet.clock.wall_us() - SECOND
    kinds = [(type(event), getattr(event, "new", "")) for event in fleet.events]
    assert kinds == [(CircuitTransition, "open"), (CircuitObserved, "open")]


def test_listeners_hear_of_moves_that_others_made() -> None:
    """As they would of their own."""
    fleet = Fleet()
    one, other = fleet.breakers
    heard: list[tuple[str, str]] = []

    class Told:
        def before_call(self, *_: object) -> None: ...
        def failure(self, *_: object) -> None: ...
        def success(self, *_: object) -> None: ...
        def state_change(self, _: object, old: Any, new: Any) -> None:
            heard.append((old.name, new.name))

    other.add_listener(Told())
    other.call(print)
    one.open()
    fleet.clock.advance(SECOND)
    with pytest.raises(CircuitOpen):
        other.call(print)
    assert heard == [("closed", "open")]


def test_trials_of_all_are_bounded_together() -> None:
    """And close the circuit for all."""
    fleet = Fleet(3)
    one, other, third = fleet.breakers
    one.open()
    fleet.clock.advance(30 * SECOND)
    with one, other, pytest.raises(CircuitOpen) as rejected:
        third.call(print)
    assert rejected.value.state == "half-open"
    assert rejected.value.retry_after == 10
    assert one.current_state == "closed"
    third.call(print)
    assert third.current_state == "closed"


def test_a_trial_that_dies_blocks_nobody_beyond_the_lease() -> None:
    """Then it counts as a failure."""
    fleet = Fleet()
    one, other = fleet.breakers
    one.open()
    fleet.clock.advance(30 * SECOND)
    one.__enter__()  # and its process is gone
    fleet.clock.advance(10 * SECOND)
    with pytest.raises(CircuitOpen) as rejected:
        other.call(print)
    assert rejected.value.retry_after == 60
    fleet.clock.advance(60 * SECOND)
    other.call(print)
    other.call(print)
    assert other.current_state == "closed"


def test_known_states_ask_the_store_once_a_second() -> None:
    """Closed, open and set by hand; an order is heard within that time."""
    fleet = Fleet(1, coalesce=0.1)
    breaker = fleet.breakers[0]
    for order in ("open", "force_open", "disable"):
        getattr(breaker, order)()
        before = len(fleet.store.scripts)
        for _ in range(100):
            fleet.clock.advance(SECOND // 50)
            with suppress(CircuitOpen):
                breaker.call(_fine)
        assert len(fleet.store.scripts) - before == 2


def _fine() -> None:
    pass


def test_good_calls_are_told_together() -> None:
    """At once within a second of a move; then those of a tenth of a second in one."""
    fleet = Fleet(1, coalesce=0.1)
    breaker = fleet.breakers[0]
    breaker.call(_fine)
    breaker.call(_fine)
    assert fleet.store.scripts == [ACQUIRE.name, REPORT.name, REPORT.name]
    fleet.clock.advance(SECOND)
    for _ in range(3):
        breaker.call(_fine)
    before = len(fleet.store.scripts)
    for _ in range(99):
        fleet.clock.advance(SECOND // 1000)
        breaker.call(_fine)
    assert len(fleet.store.scripts) == before
    fleet.clock.advance(SECOND // 1000)
    breaker.call(_fine)
    assert len(fleet.store.scripts) == before + 1
    assert breaker.success_counter == 10


def test_a_failure_takes_the_good_calls_before_it_along() -> None:
    """Told without them it would count too much."""
    fleet = Fleet(1, coalesce=1)
    breaker = fleet.breakers[0]
    breaker.call(_fine)
    fleet.clock.advance(SECOND)
    for _ in range(7):
        breaker.call(_fine)
    fail(breaker, 3)
    assert (breaker.fail_counter, breaker.success_counter) == (3, 7)
    assert breaker.current_state == "closed"


def test_good_calls_that_have_left_the_window_are_not_told() -> None:
    """They would come back to life."""
    from datetime import timedelta

    fleet = Fleet(1, coalesce=1, window=timedelta(seconds=10))
    breaker = fleet.breakers[0]
    breaker.call(_fine)
    fleet.clock.advance(SECOND)
    for _ in range(5):
        breaker.call(_fine)
    fleet.clock.advance(12 * SECOND)
    fail(breaker)
    assert (breaker.fail_counter, breaker.success_counter) == (1, 0)


def test_the_own_circuit_decides_while_the_store_is_down() -> None:
    """Fed all along it trips as the shared one would; what the store says on its return holds."""
    fleet = Fleet(1)
    breaker = fleet.breakers[0]
    for _ in range(3):
        breaker.call(_fine)
    fail(breaker, 2)
    fleet.store.inject(UNAVAILABLE, times=None)
    fail(breaker, 1)
    assert breaker.current_state == "open"
    with pytest.raises(CircuitOpen) as rejected:
        breaker.call(print)
    assert rejected.value.retry_after == 30
    fleet.clock.advance(30 * SECOND)
    breaker.call(_fine)
    assert breaker.current_state == "half-open"
    fleet.store.heal()

    def heard() -> bool:
        fleet.clock.advance(SECOND // 10)
        breaker.call(_fine)
        return breaker.current_state == "closed" and breaker.fail_counter == 2

    eventually(heard, "the store decides again")


def test_an_order_while_the_store_is_down_holds_here_and_says_so() -> None:
    """An operator must not believe that the fleet has heard it."""
    fleet = Fleet(1)
    fleet.store.inject(UNAVAILABLE, times=None)
    with pytest.raises(StoreUnavailable):
        fleet.breakers[0].force_open()
    assert [event.new for event in fleet.events if isinstance(event, CircuitTransition)] == [
        "forced-open"
    ]
    with pytest.raises(CircuitOpen):
        fleet.breakers[0].call(print)


def test_a_store_that_has_forgotten_goes_on_from_what_is_known() -> None:
    """An open circuit stays open."""
    fleet = Fleet()
    one, other = fleet.breakers
    other.call(_fine)
    one.open()
    fleet.clock.advance(10 * SECOND)
    _forget(fleet)
    with pytest.raises(CircuitOpen) as rejected:
        one.call(print)
    assert rejected.value.retry_after == 20
    with pytest.raises(CircuitOpen) as rejected:
        other.call(print)
    assert rejected.value.retry_after == 20


def test_an_answer_that_was_overtaken_says_nothing_new() -> None:
    """Of two callers the later one may hear first; the circuit does not go back."""
    fleet = Fleet(1)
    breaker = fleet.breakers[0]
    breaker.close()
    questions = Questions(b"elsewhere", breaker.policy.rules())
    late = fleet.memory.run(questions.force(NOTHING, "closed", jitter=0))
    breaker.open()
    fleet.events.clear()
    assert isinstance(breaker._machine, SharedMachine)
    breaker._machine._learn(late, asked=True)
    assert breaker.current_state == "open"
    with pytest.raises(CircuitOpen) as rejected:
        breaker.call(print)
    assert rejected.value.retry_after == 30
    assert not fleet.events


def _forget(fleet: Fleet) -> None:
    fleet.store.store = MemoryStore(clock=fleet.clock)


def test_coroutines_share_as_functions_do() -> None:
    """The outcome is told by a task that nobody awaits."""
    fleet = Fleet()
    one, other = fleet.breakers

    @one
    async def charge() -> None:
        raise OSError("down")

    @other
    async def look() -> str:
        return "fine"

    @other
    async def stream() -> Any:
        yield 1

    async def play() -> None:
        for _ in range(4):
            with pytest.raises(OSError, match="down"):
                await charge()
        for _ in range(3):
            await asyncio.sleep(0)
        assert one.current_state == "open"
        with pytest.raises(CircuitOpen):
            await look()
        fleet.clock.advance(30 * SECOND)
        async with other:
            pass
        assert [item async for item in stream()] == [1]
        assert await look() == "fine"

    asyncio.run(play())
    assert other.current_state == "closed"


def test_a_strained_circuit_says_so_once() -> None:
    """One of all the processes does."""
    fleet = Fleet()
    one, other = fleet.breakers
    one.measure_only()
    fleet.clock.advance(2 * SECOND)
    fail(one, 3)
    fail(other, 3)
    assert [type(e) for e in fleet.events].count(CircuitStrained) == 1


def test_another_name_or_another_window_is_another_circuit() -> None:
    """Processes that judge by other numbers do not spoil each other's counts."""
    fleet = Fleet()
    one, other = fleet.breakers
    one.open()
    one.name = "other"
    one.call(_fine)
    other.fail_max = 2
    other.call(_fine)
    with pytest.raises(InvalidArgument):
        CircuitBreaker("x", store=fleet.store, coalesce=2)
    assert other.current_state == "closed"
