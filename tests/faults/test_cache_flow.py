"""The flow of loads around a real Redis: many keys over two processes, and sets under a lease."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backendkit.cache import Cache, Coherence, JsonCodec
from backendkit.stores import connect
from tests.ground.loops import in_threads
from tests.ground.single import Single
from tests.ground.waiting import eventually

KEYS = [f"k{number}" for number in range(40)]


@pytest.fixture
def pair(redis_single: Single, namespace: str) -> Iterator[tuple[Cache, Cache]]:
    """Two caches that stand for two processes."""
    stores = [connect(redis_single.url, timeout=5, connect_timeout=5) for _ in range(2)]
    one, two = (
        Cache(store, namespace=namespace[:-1], codec=JsonCodec(), coherence=Coherence(lease=10))
        for store in stores
    )
    one.get("nothing")
    two.get("nothing")
    eventually(lambda: one.stats().trusted and two.stats().trusted, "both listen")
    yield one, two
    for cache, store in zip((one, two), stores, strict=True):
        cache.close()
        store.close()


def test_overlapping_loads_of_many_over_processes(pair: tuple[Cache, Cache]) -> None:
    """Each key is loaded once, whoever wants it together with what; nobody falls back to one load for each."""
    asked: list[list[str]] = []

    def load(keys: list[str]) -> dict[str, str]:
        asked.append(keys)
        return {key: key * 2 for key in keys}

    def work(number: int) -> list[Any]:
        wanted = KEYS[number * 5 : number * 5 + 20]
        return pair[number % 2].get_or_load_many(wanted, load)

    for number, got in enumerate(in_threads(5, work)):
        assert got == [key * 2 for key in KEYS[number * 5 : number * 5 + 20]]
    loaded = [key for keys in asked for key in keys]
    assert sorted(loaded) == sorted(KEYS)
    assert len(asked) <= 5


def test_a_dead_tag_costs_one_load(pair: tuple[Cache, Cache]) -> None:
    """In either process, and what it brings is read by the other."""
    one, two = pair
    asked: list[list[str]] = []

    def load(keys: list[str]) -> dict[str, int]:
        asked.append(keys)
        return dict.fromkeys(keys, len(asked))

    one.set_many(dict.fromkeys(KEYS, 0), tags=["t"])
    assert two.get_or_load_many(KEYS, load, tags=["t"]) == [0] * len(KEYS)
    one.invalidate_tags("t")
    assert one.get_or_load_many(KEYS, load, tags=["t"]) == [1] * len(KEYS)
    eventually(
        lambda: two.get_or_load_many(KEYS, load, tags=["t"]) == [1] * len(KEYS), "the other has it"
    )
    assert [sorted(keys) for keys in asked] == [sorted(KEYS)]


def test_a_set_under_a_lease_loses_every_race(pair: tuple[Cache, Cache]) -> None:
    """200 values that were read before an invalidation by another process: not one is left behind."""
    one, two = pair
    for number in range(200):
        key = f"r{number}"
        lease = one.lease(key)
        assert lease.granted
        two.invalidate(key)
        assert not one.set(key, "old", lease=lease)
        assert one.set(key, "new", lease=one.lease(key))
        assert two.get(key) == "new"
