"""Counters on every store and in every colour, against a number and a deadline in plain Python."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.cache import Count, Counters
from backendkit.cache.decide import count
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.keys import KeySpace
from backendkit.stores import MemoryStore
from tests.ground.stores import Driver

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(-count.MOST, count.MOST) | st.integers(-3, 3), st.sampled_from([60_000_000, 60_500_000, 90_000_000])),
        st.tuples(st.just("wait"), st.sampled_from([1, 59_999_999, 60_000_000, 500_000, 120_000_000]), st.just(0)),
        st.tuples(st.sampled_from(["look", "reset"]), st.just(0), st.just(0)),
    ),
    max_size=12,
)  # fmt: skip


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_counting_is_a_number_with_a_deadline(
    driver: Driver, clock: ManualClock, steps: list[tuple[str, int, int]]
) -> None:
    """The first add sets the end, none moves it, and what is over is 0 to the microsecond."""
    driver.begin_anew()
    key = driver.key("count")
    value, over = 0, 0
    for verb, amount, life in steps:
        if verb == "wait":
            clock.advance(amount)
            continue
        now = clock.wall_us()
        if over <= now:
            value, over = 0, 0
        if verb == "add":
            over = over or now + life
            value = max(-count.MOST, min(count.MOST, value + amount))
            operation = count.add(key, amount, life)
        else:
            operation = count.look(key) if verb == "look" else count.reset(key)
        assert driver.run(operation) == (value, over - now if over else 0)
        if verb == "reset":
            value, over = 0, 0


def test_both_faces_count_together() -> None:
    """One number, whoever adds; namespaces and keys are apart."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    counters, other = Counters(store), Counters(store, namespace="other")

    async def scenario() -> tuple[Count, Count, Count]:
        added = await counters.aio.add("a", 2, ttl=9)
        return added, await counters.aio.get("a"), await counters.aio.reset("a")

    assert counters.add("a", ttl=10) == Count(1, 10.0)
    clock.advance(SECOND_US)
    assert asyncio.run(scenario()) == (Count(3, 9.0),) * 3
    assert counters.get("a") == counters.get("b") == other.get("a") == Count(0, 0.0)
    counters.add("a", ttl=1)
    assert counters.reset("a") == Count(1, 1.0)


def test_what_makes_no_sense_is_refused() -> None:
    """Before anything is asked of the store."""
    counters = Counters(MemoryStore())
    with pytest.raises(InvalidArgument, match="key"):
        counters.get("")
    with pytest.raises(InvalidArgument, match="by"):
        counters.add("a", 2**53, ttl=1)
    with pytest.raises(InvalidArgument, match="ttl"):
        counters.add("a", ttl=0)


def test_foreign_text_under_a_counters_key_counts_as_nothing(driver: Driver) -> None:
    """Somebody else's value is no error of ours."""
    assert KeySpace("cache", version=1, kind="count").key("a") == Counters(MemoryStore()).key("a")
    assert driver.run(count.look(driver.key("nothing"))) == (0, 0)
