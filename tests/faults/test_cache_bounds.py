"""Bounds that hold around a real server: how long a call takes while it is paused, and whose clock nothing depends on."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from backendkit.cache import Cache, CachePolicy, Coherence, JsonCodec
from backendkit.core.clock import SystemClock
from backendkit.stores import connect
from backendkit.stores.guarded import Guarded
from tests.ground.single import Single
from tests.ground.waiting import eventually

QUARTER_S = 0.25


def test_a_cache_by_its_url_waits_a_quarter_of_a_second(own_redis: Any) -> None:
    """Without a word about it: two calls pay the timeout, the guard answers the others, then all is as before.

    A busy machine may hold up any call: so it is the number of long ones that is bounded, and the middle of all.
    """
    single: Single = own_redis()
    store = connect(single.url)
    assert isinstance(store, Guarded)
    cache = Cache(store, namespace="n", codec=JsonCodec())
    cache.get("nothing")
    eventually(lambda: cache.stats().trusted, "the cache listens")
    cache.set("kept", "v", ttl=600)
    took: list[float] = []
    with single.server.paused():
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            began = time.monotonic()
            assert cache.get_or_load(f"k{len(took)}", lambda: "loaded") == "loaded"
            took.append(time.monotonic() - began)
            threading.Event().wait(0.001)
    resumed = time.monotonic()
    long = [each for each in took if each > QUARTER_S - 0.05]
    assert 1 <= len(long) <= 5, long
    assert statistics.median(took) < 0.05
    cache._local.flush()
    hits = cache.stats().l2_hits
    eventually(lambda: cache.get("kept") == "v", "the second tier answers again")
    assert cache.stats().l2_hits == hits + 1
    assert time.monotonic() - resumed < 10
    cache.close()
    store.close()


def test_many_callers_of_a_paused_server_share_the_wait(own_redis: Any) -> None:
    """Who calls at once waits at once; nobody waits twice."""
    single: Single = own_redis()
    store = connect(single.url)
    cache = Cache(store, namespace="n", codec=JsonCodec(), coherence=Coherence(channel=False))
    cache.set("kept", "v")
    long: list[int] = []

    def call(number: int) -> None:
        count = 0
        for each in range(20):
            began = time.thread_time(), time.monotonic()
            cache.get_or_load(f"k{number}-{each}", lambda: 1)
            count += time.monotonic() - began[1] > QUARTER_S - 0.05
        long.append(count)

    with single.server.paused():
        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statistics.median(long) <= 2
    cache.close()
    store.close()


def has(cache: Cache, value: Any) -> bool:
    """Tell whether a cache has a value."""
    return bool(cache.get("k") == value)


def trusted(cache: Cache) -> bool:
    """Tell whether it listens."""
    return cache.stats().trusted


class Skewed(SystemClock):
    """A process's clock: its wall is wrong, may be set, and it was started at another time."""

    def __init__(self, minutes: float) -> None:
        self.off_us = int(minutes * 60_000_000)

    def wall_us(self) -> int:
        """Wrong."""
        return super().wall_us() + self.off_us

    def mono_us(self) -> int:
        """Of another beginning, and as fast as any."""
        return super().mono_us() + 5_000_000_000


@pytest.fixture
def fleet(redis_single: Single, namespace: str) -> Iterator[list[tuple[Cache, Skewed]]]:
    """Three processes whose clocks are a quarter of an hour apart each."""
    with ExitStack() as stack:
        made: list[tuple[Cache, Skewed]] = []
        for minutes in (-15, 0, 15):
            clock = Skewed(minutes)
            store = connect(redis_single.url, clock=clock, timeout=2, connect_timeout=2)
            stack.callback(store.close)
            cache = Cache(
                store,
                namespace=namespace[:-1],
                codec=JsonCodec(),
                policy=CachePolicy(ttl=600, max_stale=600, beta=0),
                coherence=Coherence(max_l1_staleness=1),
            )
            stack.callback(cache.close)
            cache.get("nothing")
            eventually(partial(trusted, cache), "the cache listens")
            made.append((cache, clock))
        yield made


def test_nothing_expires_early_by_a_wrong_clock(fleet: list[tuple[Cache, Skewed]]) -> None:
    """What one process stores is fresh in all, also after all clocks were set; and is over in all when it is over."""
    for number, (cache, _) in enumerate(fleet):
        cache.set(f"k{number}", number, ttl=60, tags=["t"])
        cache.get_or_load(f"l{number}", partial(int, number), ttl=60)
    for _ in range(2):
        for cache, clock in fleet:
            for number in range(3):
                assert cache.get(f"k{number}") == cache.get(f"l{number}") == number
            clock.off_us = -clock.off_us + 30 * 60_000_000
            cache._local.flush()
    fleet[0][0].set("short", 1, ttl=0.3)
    eventually(lambda: all(c.get("short") is None for c, _ in fleet), "it is over everywhere")


def test_nothing_is_revived_by_a_wrong_clock(fleet: list[tuple[Cache, Skewed]]) -> None:
    """What any of them removes is gone in all, for readers, stale copies and tags, whoever stored it."""

    def broken() -> str:
        raise OSError("the source is away")

    for remover, clock in fleet:
        for storer, _ in fleet:
            storer.set("k", "old", tags=["t"])
            for cache, _ in fleet:
                eventually(partial(has, cache, "old"), "all have it")
            clock.off_us = -clock.off_us
            removals: list[Callable[[], None]] = [
                partial(remover.invalidate, "k"),
                partial(remover.invalidate_tags, "t"),
                remover.clear,
            ]
            for remove in removals:
                storer.set("k", "old", tags=["t"])
                remove()
                for cache, _ in fleet:
                    eventually(partial(has, cache, None), "all have heard")
                    with pytest.raises(OSError, match="away"):
                        cache.get_or_load("k", broken)
