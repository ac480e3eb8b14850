"""Limits while a fleet changes under them: failover, moving slots, forks, lines that hang; nothing raises, nothing doubles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.ratelimit import (
    GCRA,
    Concurrency,
    Decision,
    FixedWindow,
    Limit,
    RateLimiter,
    SlidingBuckets,
    StoreFound,
    StoreLost,
)
from backendkit.stores import connect
from tests.faults.load import replicated
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.loops import in_fork, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.sentinel import SentinelGroup
from tests.ground.single import Single
from tests.ground.slots import tag_in
from tests.ground.waiting import eventually

SLOT = 4321
ALL_KINDS = [
    Limit("log", "100/hour"),
    Limit("buckets", 100, per=3600, algorithm=SlidingBuckets()),
    Limit("gcra", 100, per=360_000, algorithm=GCRA()),
    Limit("fixed", 100, per=86_400 * 3650, algorithm=FixedWindow()),
    Limit("seats", 100, per=3600, algorithm=Concurrency()),
]


def made(url: str, *limits: Limit, **options: Any) -> RateLimiter:
    """A limiter that is patient with a busy machine, and asks each time."""
    store = connect(url, timeout=5, connect_timeout=5)
    return RateLimiter(store, limits, deny_cache_max=0, **options)


def admitted(decisions: list[Decision]) -> int:
    """How many were let through."""
    return sum(decision.allowed for decision in decisions)


@pytest.fixture
def cluster(own_cluster: Callable[..., ClusterGroup]) -> ClusterGroup:
    """A cluster of this test's own."""
    return own_cluster(node_timeout_ms=30_000)


def test_a_slot_moves_while_it_is_limited(cluster: ClusterGroup) -> None:
    """All algorithms' states travel; exactly the limit is let through, by the store, before, on the way and after."""
    store = connect(cluster.url, timeout=5, connect_timeout=5)
    limiters = [RateLimiter(store, limit, deny_cache_max=0) for limit in ALL_KINDS]
    subject = tag_in(SLOT)
    decisions: list[Decision] = []

    def hit(times: int) -> None:
        for _ in range(times):
            decisions.extend(limiter.hit(subject) for limiter in limiters)

    owner = cluster.owner(SLOT)
    other = next(node for node in cluster.masters() if node is not owner)
    hit(20)
    move = cluster.begin_move(SLOT, other)
    hit(10)
    while move.migrate(1):
        hit(5)
    move.end()
    in_threads(4, lambda _: hit(5))
    hit(60)
    assert {decision.source for decision in decisions} == {"store"}
    assert {limiter.peek(subject).remaining for limiter in limiters} == {0}
    assert admitted(decisions) == 100 * len(ALL_KINDS)
    store.close()


def test_a_failover_raises_nothing(own_sentinel: Callable[..., SentinelGroup]) -> None:
    """For a moment policies decide; then the new master does, with what it had been told."""
    group = own_sentinel()
    group.settle()
    limit = Limit("x", 50, per=3600, on_store_failure="local")
    limiter = made(group.url, limit, nodes=5)
    events: list[Any] = []
    limiter.hooks.add(events.append, StoreLost, StoreFound)
    assert admitted([limiter.hit("a") for _ in range(20)]) == 20
    replicated(group.master())
    group.failover()
    sources = [limiter.hit("a").source for _ in range(5)]
    assert set(sources) <= {"store", "local"}
    eventually(lambda: limiter.hit("b").source == "store", "the new master decides")
    left = limiter.peek("a").remaining
    assert left == 30 - sources.count("store")
    assert admitted([limiter.hit("a") for _ in range(40)]) == left
    kinds = [type(event) for event in events]
    assert kinds == [StoreLost, StoreFound] * (len(kinds) // 2)


def test_a_forked_process_counts_on(own_redis: Callable[..., Single]) -> None:
    """Parent and child together get exactly the limit; what the parent remembers, waits for and leases is its own."""
    limiter = made(own_redis().url, Limit("x", "60/minute"))
    first = admitted([limiter.hit("a") for _ in range(10)])

    async def several() -> int:
        decisions = await asyncio.gather(*[limiter.aio.hit("a") for _ in range(10)])
        await limiter.store.aio.close()
        return admitted(list(decisions))

    def child() -> int:
        return admitted([limiter.hit("a") for _ in range(10)]) + asyncio.run(several())

    first += in_fork(child) + in_fork(child)
    assert first == 50
    assert in_fork(lambda: limiter.acquire("b", max_wait=1).allowed)
    assert admitted([limiter.hit("a") for _ in range(20)]) == 10
    assert asyncio.run(several()) == 0


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_a_line_that_loses_replies_counts_nothing_twice(
    own_redis: Callable[..., Single], fault_proxy: Callable[..., FaultProxy], policy: Any
) -> None:
    """In both colours, for hits, grants, seats, refunds: at most once each, and nobody sees an exception."""
    single = own_redis()
    proxy = fault_proxy(single.server.address)
    host, port = proxy.address
    limit = Limit("x", 100, per=60, on_store_failure=policy)
    store = connect(f"redis://{host}:{port}/0", timeout=0.2, connect_timeout=5)
    limiter = RateLimiter(store, limit, deny_cache_max=0)
    taken = limiter.hit("a", cost=5)
    with proxy.injected(Faults(lose_replies=True)):
        assert limiter.hit("a", cost=7).source == policy
        assert limiter.hit_up_to("a", 11).source == policy
        assert limiter.cancel(taken) is False
        assert not limiter.cancel(taken)
    direct = made(single.url, Limit("x", 100, per=60))
    used = 100 - direct.peek("a").remaining
    assert used in {
        5 * kept + 7 * hit + 11 * grant for kept in (0, 1) for hit in (0, 1) for grant in (0, 1)
    }


def test_keys_of_any_shape_on_real_servers(
    own_redis: Callable[..., Single], redis_cluster: ClusterGroup, namespace: str
) -> None:
    """Braces, slashes, colons, NUL, emoji, ten kilobytes: each its own quota, and no failure; also beside each other."""
    keys: list[Any] = [
        "{}", "{a}b", "}{", "a/b", ("a", "b"), "a:b", "a\0b", "\0", "🦊", "x" * 10_240, "x" * 10_241,
        ("a/b", "c"), ("a", "b/c"), "a%2Fb", " ", "\r\n", "*", "é", "e\u0301", "\ud800", b"\xff", -1,
    ]  # fmt: skip
    for url in (own_redis().url, redis_cluster.url):
        limiter = made(url, Limit("x", "1/minute"), Limit("y", "1/minute"), name=namespace)
        assert [limiter.hit(key).source for key in keys] == ["store"] * len(keys)
        assert not any(limiter.hit(key).allowed for key in keys)
        paired = made(url, Limit("x", 1, per=60, by="p"), Limit("y", 1, per=60, by="q"))
        for key, other in zip(keys, reversed(keys), strict=True):
            assert paired.hit({"p": key, "q": other}).source == "store"
            assert not paired.hit({"p": key, "q": other}).allowed


def test_callers_that_give_up_leave_a_sound_line(own_redis: Callable[..., Single]) -> None:
    """Tasks are cancelled at random moments: what was counted is counted once, and seats of the dead come back."""
    single = own_redis()
    limiter = made(single.url, Limit("x", "1000/minute"))
    seats = made(single.url, Limit("s", 4, per=3600, algorithm=Concurrency()))

    async def use() -> None:
        async with seats.aio.reserve("a", max_wait=5):
            await asyncio.sleep(0)

    async def play() -> None:
        tasks = [asyncio.create_task(limiter.aio.hit("a")) for _ in range(200)]
        holders = [asyncio.create_task(use()) for _ in range(40)]
        for n in range(60):
            await asyncio.sleep(0)
            for task in (*tasks[n::60], *holders[n::60]):
                if n % 2:
                    task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*holders, return_exceptions=True)
        finished = sum(isinstance(outcome, Decision) for outcome in outcomes)
        left = (await limiter.aio.peek("a")).remaining
        assert 1000 - 200 <= left <= 1000 - finished
        for _ in range(200):
            if (await seats.aio.peek("a")).remaining == 4:
                break
            await asyncio.sleep(0.01)
        assert (await seats.aio.peek("a")).remaining == 4
        await limiter.store.aio.close()
        await seats.store.aio.close()

    asyncio.run(play())
