"""Invalidations that return only when replicas have them: on a real replica, also while it is paused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backendkit.cache import Cache, Coherence, JsonCodec
from backendkit.core.errors import InvalidArgument, NotReplicated
from backendkit.stores import connect
from tests.ground.cluster import ClusterGroup
from tests.ground.sentinel import SentinelGroup
from tests.ground.waiting import eventually

REMOVALS = ("invalidate", "expire", "invalidate_tags", "clear")


def copying(url: str, namespace: str, replicas: int = 1) -> Cache:
    """Return a cache that waits."""
    coherence = Coherence(max_l1_staleness=30, wait_replicas=replicas, wait_timeout=1)
    store = connect(url, timeout=2, connect_timeout=2)
    return Cache(store, namespace=namespace, codec=JsonCodec(), coherence=coherence)


def ended(cache: Cache) -> None:
    """Close it with its store."""
    cache.close()
    cache._store.close()


def remove(cache: Cache, how: str, *, awaits: bool) -> None:
    """Remove, in a colour."""
    words = {"invalidate": ("k", "l"), "expire": ("k", "l"), "invalidate_tags": ("t",), "clear": ()}

    async def play() -> None:
        await getattr(cache.aio, how)(*words[how])

    if awaits:
        asyncio.run(play())
    else:
        getattr(cache, how)(*words[how])


@pytest.mark.parametrize("awaits", [False, True])
def test_replicas_have_what_was_removed(own_sentinel: Any, *, awaits: bool) -> None:
    """When it returns. Where they pause it raises, the entry is gone here all the same, and nothing else suffers."""
    group: SentinelGroup = own_sentinel(replicas=1)
    cache = copying(group.url, "n")
    replica = group.replicas()[0]
    eventually(lambda: replica.info("replication")["master_link_status"] == "up", "it replicates")
    key = cache._core.names.keys("k")[0]
    for how in REMOVALS:
        cache.set("k", "old", tags=["t"])
        remove(cache, how, awaits=awaits)
        if how == "invalidate":
            assert replica.command("EXISTS", key) == 0
        assert cache.get("k") is None
    with replica.paused():
        for how in REMOVALS:
            cache.set("k", "old", tags=["t"])
            with pytest.raises(NotReplicated, match="0 of 1"):
                remove(cache, how, awaits=awaits)
            assert cache.get("k") is None
            assert cache.get_or_load("k", lambda: "new") == "new"
        recent = [operation for _, operation in cache._core.upkeep._recent]  # type: ignore[attr-defined]
        assert sum(each.copies is not None for each in recent) == 12 if not awaits else True
        cache.set("k", "served", ttl=60)
        cache._local.flush()
        assert cache.get("k") == "served"
    eventually(lambda: group.master().command("WAIT", "1", "1000") == 1, "it has caught up")
    remove(cache, "invalidate", awaits=awaits)
    ended(cache)


@pytest.mark.parametrize("awaits", [False, True])
def test_a_cluster_without_replicas_says_so(
    redis_cluster: ClusterGroup, namespace: str, *, awaits: bool
) -> None:
    """On each server, after it was found, and after it has learnt the script."""
    cache = copying(redis_cluster.url, namespace[:-1])
    for number in range(6):
        cache.set(f"k{number}", "old")
    keys = [f"k{number}" for number in range(6)]

    async def play() -> None:
        await cache.aio.invalidate(*keys)

    with pytest.raises(NotReplicated):
        asyncio.run(play()) if awaits else cache.invalidate(*keys)
    assert set(cache.get_many([f"k{number}" for number in range(6)]).values()).isdisjoint({"old"})
    ended(cache)


@pytest.mark.parametrize("awaits", [False, True])
def test_a_server_that_dies_is_told_as_ever(own_redis: Any, *, awaits: bool) -> None:
    """That it was not sent, or that nobody knows."""
    from backendkit.core.errors import StoreError

    single = own_redis()
    cache = copying(single.url, "n")
    cache.set("k", "old")
    single.server.kill()
    for _ in range(3):
        with pytest.raises(StoreError) as raised:
            remove(cache, "invalidate", awaits=awaits)
        assert not isinstance(raised.value, NotReplicated)
    assert cache.get("k") is None
    ended(cache)


def test_what_is_waited_for_is_checked() -> None:
    """By name; and none is nothing to wait for."""
    assert Coherence().copies is None
    for wrong in ({"wait_replicas": -1}, {"wait_timeout": 0}, {"wait_timeout": 61}):
        with pytest.raises(InvalidArgument, match=next(iter(wrong))):
            Coherence(**wrong)  # type: ignore[arg-type]
