"""The cache around real servers: races, crowds, death of a holder, pauses, losses, other servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backendkit.cache import (
    Cache,
    CachePolicy,
    ChannelUp,
    Coherence,
    JsonCodec,
    LeasesEvicted,
    Replayed,
)
from backendkit.stores import connect
from backendkit.stores.redis.cluster import slot_of
from tests.faults.load import replicated
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.loops import in_fork, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.sentinel import SentinelGroup
from tests.ground.single import Single
from tests.ground.waiting import eventually

STALENESS_S = 1.0


@pytest.fixture
def open_cache(namespace: str) -> Iterator[Callable[..., Cache]]:
    """Make caches that stand for processes: each has a store of its own; they close with the test."""
    made: list[tuple[Cache, Any]] = []

    def one(url: str, *, listens: bool = True, **options: Any) -> Cache:
        timeout = options.pop("timeout", 2)
        store = connect(
            url, timeout=timeout, connect_timeout=timeout, protocol=options.pop("protocol", 2)
        )
        options.setdefault("coherence", Coherence(max_l1_staleness=STALENESS_S))
        cache = Cache(store, namespace=namespace[:-1], codec=JsonCodec(), **options)
        made.append((cache, store))
        if listens:
            cache.get("nothing")
            eventually(lambda: cache.stats().trusted, "the cache listens")
        return cache

    yield one
    for cache, store in made:
        cache.close()
        store.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_stale_set_race(redis_single: Single, open_cache: Any, protocol: int) -> None:
    """1,000 loads during which another process invalidates: not one old value is left behind."""
    one = open_cache(redis_single.url, protocol=protocol)
    two = open_cache(redis_single.url, protocol=protocol)
    stale = 0
    for number in range(1_000):
        key = f"k{number}"

        def load(key: str = key) -> str:
            two.invalidate(key)
            return "old"

        one.get_or_load(key, load)
        stale += one.get(key) is not None or two.get(key) is not None
    assert stale == 0


@pytest.mark.parametrize("topology", ["redis_single", "redis_sentinel", "redis_cluster"])
def test_the_stale_set_race_of_tasks(
    request: pytest.FixtureRequest, open_cache: Any, topology: str
) -> None:
    """The same, asynchronously, over all topologies; several loads at once."""
    url = request.getfixturevalue(topology).url
    one, two = open_cache(url), open_cache(url)

    async def race(number: int) -> bool:
        key = f"k{number}"

        async def load() -> str:
            await two.aio.invalidate(key)
            return "old"

        await one.aio.get_or_load(key, load)
        return await one.aio.get(key) is not None or await two.aio.get(key) is not None

    async def play() -> int:
        stale = 0
        for number in range(0, 300, 10):
            stale += sum(await asyncio.gather(*map(race, range(number, number + 10))))
        await one._store.aio.close()
        await two._store.aio.close()
        return stale

    assert asyncio.run(play()) == 0


@pytest.mark.parametrize("protocol", [2, 3])
def test_two_processes_set_the_same_key(
    redis_single: Single, open_cache: Any, protocol: int
) -> None:
    """Whatever the order, 1,000 times: both end with Redis's value; so do a load and a set."""
    caches = [open_cache(redis_single.url, protocol=protocol) for _ in range(2)]
    rounds, meet = 1_000, threading.Barrier(2)

    def race(which: int) -> None:
        for number in range(rounds):
            meet.wait(30)
            caches[which].set(f"s{number}", which)
            if which:
                caches[1].set(f"m{number}", "set")
            else:
                caches[0].get_or_load(f"m{number}", lambda: "loaded")

    in_threads(2, race, within=120)
    server = open_cache(redis_single.url)
    keys = [f"{kind}{number}" for number in range(rounds) for kind in "sm"]

    def agree() -> bool:
        wanted = server.get_many(keys)
        return all(cache.get_many(keys) == wanted for cache in caches)

    eventually(agree, "all have Redis's values")


def test_an_invalidation_is_heard(redis_single: Single, open_cache: Any) -> None:
    """What another process has in its first tier goes, by key, by tag, and all of it."""
    one, two = open_cache(redis_single.url), open_cache(redis_single.url)
    for remove in (
        lambda: one.invalidate("k"),
        lambda: one.expire("k"),
        lambda: one.invalidate_tags("t"),
        one.clear,
        lambda: one.set("k", "new"),
    ):
        two.get_or_load("k", lambda: "old", tags=["t"])
        assert two.get("k") == "old"
        remove()
        eventually(lambda: two.get("k") != "old", "the other process has heard")
        one.invalidate("k")


def test_redis_pauses(own_redis: Any, open_cache: Any) -> None:
    """Nobody gets an exception; most calls are not held up; afterwards the second tier is used again."""
    single: Single = own_redis()
    cache = open_cache(single.url, timeout=0.25)
    cache.set("kept", "v", ttl=60)
    slow: list[float] = []
    with single.server.paused():
        ends = time.monotonic() + 3
        number = 0
        while time.monotonic() < ends:
            begun = time.monotonic()
            number += 1
            assert cache.get_or_load(f"p{number % 50}", lambda: "loaded") == "loaded"
            slow.append(time.monotonic() - begun)
    assert sum(each > 0.2 for each in slow) <= 12
    eventually(lambda: cache.stats().trusted, "it listens again")
    eventually(lambda: cache.get("kept") == "v", "the second tier answers again")


def test_redis_restarts(own_redis: Any, open_cache: Any) -> None:
    """No exception; what was in the first tier is not trusted before it was emptied; invalidations are repeated."""
    single: Single = own_redis()
    cache = open_cache(single.url, timeout=0.25)
    told: list[Any] = []
    cache.hooks.add(told.append, Replayed, ChannelUp)
    cache.set("k", "old", ttl=60)
    cache.invalidate("other")
    single.server.kill()
    for _ in range(20):
        assert cache.get_or_load("l", lambda: "v") == "v"
    single.server.restart()
    eventually(lambda: any(isinstance(event, Replayed) for event in told), "it was replayed")
    eventually(lambda: cache.stats().trusted, "it listens again")
    assert cache.get("k") is None
    assert next(event for event in told if isinstance(event, Replayed)).count >= 1


@pytest.mark.parametrize("fault", ["cut", "half-open"])
def test_only_the_channel_is_lost(
    redis_single: Single, fault_proxy: Any, open_cache: Any, namespace: str, fault: str
) -> None:
    """A process that hears nothing serves what it has for the staleness allowed, and no longer."""
    proxy: FaultProxy = fault_proxy(redis_single.server.address)
    one = open_cache(redis_single.url)
    two = open_cache(f"redis://127.0.0.1:{proxy.port}/0", timeout=0.25)
    two.set("k", "old", ttl=60)
    assert two.get("k") == "old"
    with proxy.injected(Faults(refuse=True) if fault == "cut" else Faults(blackhole=True)):
        one.invalidate("k")
        at = time.monotonic()
        eventually(lambda: two.get("k") is None, "it is served no more")
        assert time.monotonic() - at < STALENESS_S + 2
        assert two.get_or_load("k", lambda: "new") == "new"
    eventually(lambda: two.stats().trusted, "it listens again")


def test_a_failover_to_a_replica_that_missed_it(own_sentinel: Any, open_cache: Any) -> None:
    """The old value and its lease are back; the replay removes them again."""
    group: SentinelGroup = own_sentinel(replicas=1)
    cache = open_cache(group.url)
    told: list[Any] = []
    cache.hooks.add(told.append, Replayed)
    cache.set("k", "old", ttl=60)
    replica = group.replicas()[0]
    eventually(lambda: replica.info("replication")["master_link_status"] == "up", "it replicates")
    group.settle()
    master = group.master()
    replicated(master)
    replica.pause()
    try:
        master.command("CLIENT", "KILL", "TYPE", "replica")  # and it cannot come back
        cache.invalidate("k")
        master.kill()
    finally:
        replica.resume()
    eventually(lambda: told, "the invalidation was repeated", within=60)
    assert cache.get("k") is None


def test_a_cluster(redis_cluster: ClusterGroup, open_cache: Any) -> None:
    """Keys on every node, one subscription each; what one process removes the other does not keep."""
    one, two = open_cache(redis_cluster.url), open_cache(redis_cluster.url)
    keys = [f"k{number}" for number in range(30)]
    assert one.get_or_load_many(keys, lambda missing: {k: k for k in missing}, tags=["t"]) == keys
    assert two.get_many(keys) == {key: key for key in keys}
    for key in keys[:15]:
        one.invalidate(key)
    eventually(lambda: all(two.get(key) is None for key in keys[:15]), "the other has heard")
    assert two.get(keys[20]) == keys[20]
    one.invalidate_tags("t")
    eventually(lambda: two.get(keys[20]) is None, "the other has heard of the tag")


def test_a_slot_moves(redis_cluster: ClusterGroup, open_cache: Any) -> None:
    """A key whose slot goes elsewhere is removed as before."""
    one, two = open_cache(redis_cluster.url), open_cache(redis_cluster.url)
    name = one._core.names.keys("moving")[0]
    owner = redis_cluster.owner_of(name)
    target = next(node for node in redis_cluster.masters() if node is not owner)
    one.set("moving", "old")
    assert two.get("moving") == "old"
    redis_cluster.move_slot(slot_of(name), target)
    try:
        one.invalidate("moving")
        eventually(lambda: two.get("moving") is None, "the other has heard")
        assert two.get_or_load("moving", lambda: "new") == "new"
    finally:
        redis_cluster.move_slot(slot_of(name), owner)


def test_a_slot_moves_while_loads_run(redis_cluster: ClusterGroup, open_cache: Any) -> None:
    """Their leases move along: what is loaded is stored, and not if it was invalidated meanwhile."""
    one, two = open_cache(redis_cluster.url), open_cache(redis_cluster.url)
    keys = ("kept", "removed")
    moved, begun = threading.Event(), threading.Semaphore(0)

    def load() -> str:
        begun.release()
        assert moved.wait(60)
        return "old"

    def move(back: list[Any]) -> None:
        for _ in keys:
            assert begun.acquire(timeout=60)
        for key in keys:
            name = one._core.names.keys(key)[0]
            owner = redis_cluster.owner_of(name)
            back.append((slot_of(name), owner))
            target = next(node for node in redis_cluster.masters() if node is not owner)
            redis_cluster.move_slot(slot_of(name), target)
        two.invalidate("removed")
        moved.set()

    def play(which: int) -> Any:
        return one.get_or_load(keys[which], load) if which < len(keys) else move(back)

    back: list[Any] = []
    try:
        assert in_threads(3, play, within=120)[:2] == ["old", "old"]
        assert two.get("removed") is None
        eventually(lambda: one.get("removed") is None, "whoever loaded it has heard")
        assert two.get_or_load("removed", lambda: "new") == "new"
        assert two.get_or_load("kept", lambda: "new") in ("old", "new")
    finally:
        for slot, owner in back:
            redis_cluster.move_slot(slot, owner)


def test_a_fork_begins_anew(redis_single: Single, open_cache: Any) -> None:
    """The child has none of the parent's first tier, listens by itself, and is another process to the parent."""
    cache = open_cache(redis_single.url)
    cache.set("k", "v")

    def child() -> tuple[int, Any, bool]:
        entries = cache.stats().entries
        value = cache.get("k")
        eventually(lambda: cache.stats().trusted, "the child listens")
        cache.invalidate("k")
        cache.close()
        return entries, value, True

    assert in_fork(child) == (0, "v", True)
    eventually(lambda: cache.get("k") is None, "the parent has heard of it")


def test_threads_and_tasks_of_one_loop(redis_single: Single, open_cache: Any) -> None:
    """A blocking call on a loop's thread does not wait for a task of that loop."""
    cache = open_cache(redis_single.url)

    async def play() -> list[Any]:
        began = asyncio.Event()

        async def load() -> str:
            began.set()
            await asyncio.sleep(0)
            return "task"

        task = asyncio.create_task(cache.aio.get_or_load("k", load))
        await began.wait()
        here = cache.get_or_load("k", lambda: "here")
        there = await task
        await cache._store.aio.close()
        return [here, there]

    assert asyncio.run(play()) == ["here", "task"]
    assert threading.active_count() < 50


def test_soft_timeouts_over_redis(redis_single: Single, open_cache: Any) -> None:
    """What is stale at once; the load goes on behind under its lease, and is stored."""
    cache = open_cache(redis_single.url)
    policy = CachePolicy(ttl=0.05, max_stale=60, soft_timeout=0.05)
    cache.set("k", "old", policy=policy)
    eventually(lambda: cache.get("k") is None, "it is stale")
    gate = threading.Event()

    def load() -> str:
        gate.wait(10)
        return "new"

    assert cache.get_or_load("k", load, ttl=60, policy=policy) == "old"
    gate.set()
    eventually(lambda: cache.get("k") == "new", "the load behind was stored")


def test_a_server_that_drops_leases_first_is_told_of(own_redis: Any, namespace: str) -> None:
    """At the start, with the name of the setting."""
    single: Single = own_redis("maxmemory-policy volatile-ttl")
    store = connect(single.url, timeout=2)
    cache = Cache(store, namespace=namespace[:-1], codec=JsonCodec())
    told: list[Any] = []
    cache.hooks.add(told.append, LeasesEvicted)
    cache.get("k")
    eventually(lambda: told, "it is told")
    assert told[0].policy == "volatile-ttl"
    cache.close()
    store.close()
