"""The second tier's scripts: fold and Lua agree on random histories, on every store in every colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.cache.decide import entry, tier, versions
from backendkit.cache.decide.tier import Life
from backendkit.core.clock import ManualClock
from backendkit.core.operation import Operation
from tests.ground.stores import Driver

POST = (b"no-channel", b"message")
NAMESPACES = [b"n" * 16, b"m" * 16]
TOKENS = [b"a" * 16, b"b" * 16]
LEASE_US = 1_000_000

Build = Callable[[Driver], Operation[Any]]


def keys(driver: Driver) -> tuple[bytes, bytes]:
    """Return the keys of an entry and its lease."""
    return driver.key("entry", tag="k"), driver.key("lease", tag="k")


def version_keys(driver: Driver, names: str) -> tuple[bytes, ...]:
    """Return keys of versions, in one slot."""
    return tuple(driver.key(name, tag="v") for name in names)


def tail(namespace: bytes, size: int) -> bytes:
    """Return an entry's bytes behind its head."""
    return entry.meta_of(namespace, 1_000, (("tag", b"t" * 16),)) + b"x" * size


lives = st.builds(Life, st.sampled_from([1_000, 2_000_000]), st.sampled_from([1_000, 9_000_000]))
namespaces = st.sampled_from(NAMESPACES)
tokens = st.sampled_from(TOKENS)
tails = st.builds(tail, namespaces, st.sampled_from([0, 5, 9_000]))
moves: st.SearchStrategy[Build] = st.one_of(
    st.builds(lambda n: lambda d: tier.read(keys(d), n), namespaces),
    st.builds(lambda t, n: lambda d: tier.read_or_lease(keys(d), t, LEASE_US, n), tokens, namespaces),
    st.builds(lambda t, n: lambda d: tier.read_or_lease(keys(d), t, LEASE_US, n), tokens, namespaces),
    st.builds(lambda t, life, v: lambda d: tier.store(keys(d), t, life, v, POST), tokens, lives, tails),
    st.builds(lambda t, life, v: lambda d: tier.store(keys(d), t, life, v, POST), tokens, lives, tails),
    st.builds(lambda life, v: lambda d: tier.put(keys(d), life, v, POST), lives, tails),
    st.builds(lambda t: lambda d: tier.renew(keys(d), t, LEASE_US), tokens),
    st.builds(lambda t: lambda d: tier.release(keys(d), t, POST), tokens),
    st.just(lambda d: tier.invalidate(keys(d), POST)),
    st.just(lambda d: tier.expire(keys(d), POST)),
    st.builds(
        lambda t, n: lambda d: versions.look(version_keys(d, n), [t] * len(n)),
        tokens, st.sampled_from(["a", "ab", "ba"]),
    ),
    st.builds(
        lambda t, n: lambda d: versions.bump(version_keys(d, n), [t] * len(n), POST),
        tokens, st.sampled_from(["a", "ab"]),
    ),
)  # fmt: skip
steps_us = st.sampled_from([0, 1, 999, 1_000, 400_000, 999_999, 1_000_000, 1_000_001, 8_000_000])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(steps_us, moves), min_size=1, max_size=20))
def test_a_history_has_the_same_replies_everywhere(
    drivers: list[Driver], clock: ManualClock, history: list[tuple[int, Build]]
) -> None:
    """Entries, leases, marks, ends by the clock to the microsecond, other namespaces, versions made and replaced."""
    for driver in drivers:
        driver.begin_anew()
    for step_us, build in history:
        clock.advance(step_us)
        replies = [raw(driver, build(driver)) for driver in drivers]
        assert all(reply == replies[0] for reply in replies), build


def raw(driver: Driver, operation: Operation[Any]) -> list[Any]:
    """Return the reply as it came."""
    reply: list[Any] = driver.run(
        Operation(operation.script, operation.keys, operation.args, lambda reply: reply)
    )
    return reply


def test_the_lease_decides(driver: Driver, clock: ManualClock) -> None:
    """One process loads; its write counts only while its own lease holds."""
    k, n = keys(driver), NAMESPACES[0]
    first = driver.run(tier.read_or_lease(k, TOKENS[0], LEASE_US, n))
    second = driver.run(tier.read_or_lease(k, TOKENS[1], LEASE_US, n))
    assert (first.outcome, second.outcome) == (tier.LEASED, tier.BUSY)
    assert second.busy_us == LEASE_US
    life = Life(5_000_000, 9_000_000)
    assert not driver.run(tier.store(k, TOKENS[1], life, tail(n, 1), POST))
    assert driver.run(tier.store(k, TOKENS[0], life, tail(n, 1), POST))
    assert driver.run(tier.read(k, n)).outcome == tier.HIT
    assert driver.run(tier.read(k, NAMESPACES[1])).outcome == tier.ABSENT


def test_an_invalidation_ends_the_lease(driver: Driver) -> None:
    """What was loaded before it is refused, also by expire and set."""
    k, n = keys(driver), NAMESPACES[0]
    life = Life(5_000_000, 9_000_000)
    ends: list[Operation[Any]] = [
        tier.invalidate(k, POST),
        tier.expire(k, POST),
        tier.put(k, Life(1, 1), tail(NAMESPACES[1], 0), POST),
    ]
    for end in ends:
        assert driver.run(tier.read_or_lease(k, TOKENS[0], LEASE_US, n)).outcome == tier.LEASED
        driver.run(end)
        assert not driver.run(tier.store(k, TOKENS[0], life, tail(n, 1), POST))


def test_an_end_of_the_lease_is_told_only_to_those_who_wait(
    driver: Driver, clock: ManualClock
) -> None:
    """The last item of a reply says whether its message was published."""
    k, n = keys(driver), NAMESPACES[0]
    life = Life(1_000, 1_000)
    driver.run(tier.read_or_lease(k, TOKENS[0], LEASE_US, n))
    assert raw(driver, tier.store(k, TOKENS[0], life, tail(n, 1), POST)) == [clock.wall_us(), 0]
    driver.run(tier.invalidate(k, POST))
    driver.run(tier.read_or_lease(k, TOKENS[0], LEASE_US, n))
    driver.run(tier.read_or_lease(k, TOKENS[1], LEASE_US, n))
    assert driver.run(tier.renew(k, TOKENS[0], LEASE_US))
    assert raw(driver, tier.store(k, TOKENS[0], life, tail(n, 1), POST)) == [clock.wall_us(), 1]
