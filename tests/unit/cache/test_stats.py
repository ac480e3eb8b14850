"""The counters against a plain account of what happened: each key that is asked for is one of four things."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.cache import MISSING, Cache, CachePolicy, Coherence, JsonCodec
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.stores import MemoryStore
from tests.unit.cache.world import World

TTL, STALE, THROTTLE = 10, 20, 2
POLICY = CachePolicy(ttl=TTL, max_stale=STALE, fail_safe_throttle=THROTTLE, beta=0)
KEY = st.sampled_from("abc")
WAY = st.sampled_from(["good", "good", "bad", "none", "race"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEY),
        st.tuples(st.just("get_many"), st.lists(KEY, max_size=4)),
        st.tuples(st.just("load"), KEY, WAY),
        st.tuples(st.just("load_many"), st.lists(KEY, max_size=4), WAY),
        st.tuples(st.sampled_from(["set", "invalidate", "expire"]), KEY),
        st.tuples(st.sampled_from(["clear", "flush"])),
        st.tuples(st.just("wait"), st.sampled_from([1, 3, 9, 15])),
    ),
    max_size=25,
)


@dataclass
class Kept:
    """An entry: until when it is fresh, until when it may serve, and whether it only serves for a while."""

    fresh: float
    stale: float
    throttled: bool = False


@dataclass
class Account:
    """What a cache of one process must have counted, said as plainly as can be."""

    two: bool
    now: float = 0
    first: dict[str, Kept] = field(default_factory=dict)
    second: dict[str, Kept] = field(default_factory=dict)
    counted: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ["l1_hits", "l2_hits", "misses", "loads", "load_errors", "stale", "refused"], 0
        )
    )

    def count(self, name: str) -> None:
        """Count one."""
        self.counted[name] += 1

    def get(self, keys: list[str]) -> None:
        """Look without loading."""
        for key in dict.fromkeys(keys):
            self.count(self.hit(key, copies=True) or "misses")

    def hit(self, key: str, *, copies: bool = False) -> str | None:
        """Return which counter a hit counts by; None: it is none."""
        found = self.first.get(key)
        if found is not None and self.now < found.fresh:
            return "stale" if found.throttled and not copies else "l1_hits"
        found = self.second.get(key)
        if self.two and found is not None and self.now < found.fresh:
            self.first[key] = Kept(found.fresh, found.stale)
            return "l2_hits"
        return None

    def load(self, keys: list[str], way: str) -> None:
        """Look, and load what is not there."""
        hits = {key: self.hit(key) for key in dict.fromkeys(keys)}
        for how in filter(None, hits.values()):
            self.count(how)
        missing = [key for key, how in hits.items() if how is None]
        self.counted["loads"] += bool(missing)
        if way == "bad":
            self.counted["load_errors"] += bool(missing)
            for key in missing:
                self.fall_back(key)
            return
        for key in missing:
            self.count("misses")
            if way == "good":
                self.set(key)
            elif way == "race":
                self.count("refused")
                self.drop(key)

    def fall_back(self, key: str) -> None:
        """Serve what is stale, for a while, if there is something."""
        for found in (self.second.get(key) if self.two else None, self.first.get(key)):
            if found is not None and self.now < found.stale:
                self.count("stale")
                fresh = min(self.now + THROTTLE, found.stale)
                self.first[key] = Kept(fresh, found.stale, throttled=True)
                return
        self.count("misses")

    def set(self, key: str) -> None:
        """Store."""
        for tier in (self.first, self.second):
            tier[key] = Kept(self.now + TTL, self.now + TTL + STALE)

    def drop(self, key: str) -> None:
        """Remove."""
        self.first.pop(key, None)
        self.second.pop(key, None)

    def expire(self, key: str) -> None:
        """Soften."""
        for tier in (self.first, self.second):
            if key in tier:
                tier[key].fresh = min(tier[key].fresh, self.now)


class Play:
    """A cache and its account, side by side."""

    def __init__(self, tiers: int, colour: str) -> None:
        self.clock = ManualClock(mono_us=1_000_000)
        self.cache = (
            Cache(MemoryStore(clock=self.clock), policy=POLICY)
            if tiers == 1
            else World(self.clock).cache(
                codec=JsonCodec(), policy=POLICY, coherence=Coherence(max_l1_staleness=3_600)
            )
        )
        self.account = Account(two=tiers == 2)
        self.colour = colour

    def call(self, name: str, *args: Any) -> None:
        """Call a method of the face, whatever comes of it."""

        async def awaited() -> None:
            await getattr(self.cache.aio, name)(*args)

        try:
            asyncio.run(awaited()) if self.colour == "async" else getattr(self.cache, name)(*args)
        except OSError:
            return

    def loader(self, way: str) -> Any:
        """Return what loads many keys."""

        def load(keys: list[str]) -> Any:
            if way == "bad":
                raise OSError
            if way == "race":
                self.cache.invalidate(*keys)
            return dict.fromkeys(keys, MISSING if way == "none" else 1)

        return load

    def act(self, what: str, *args: Any) -> None:
        """Do one thing in both."""
        getattr(self, f"_{what}")(*args)

    def _get(self, key: str) -> None:
        self.call("get", key)
        self.account.get([key])

    def _get_many(self, keys: list[str]) -> None:
        self.call("get_many", keys)
        self.account.get(keys)

    def _load(self, key: str, way: str) -> None:
        self.call("get_or_load", key, lambda: self.loader(way)([key])[key])
        self.account.load([key], way)

    def _load_many(self, keys: list[str], way: str) -> None:
        self.call("get_or_load_many", keys, self.loader(way))
        self.account.load(keys, way)

    def _set(self, key: str) -> None:
        self.call("set", key, 1)
        self.account.set(key)

    def _invalidate(self, key: str) -> None:
        self.call("invalidate", key)
        self.account.drop(key)

    def _expire(self, key: str) -> None:
        self.call("expire", key)
        self.account.expire(key)

    def _clear(self) -> None:
        self.call("clear")
        self.account.first, self.account.second = {}, {}

    def _flush(self) -> None:
        self.cache._local.flush()
        self.account.first = {}

    def _wait(self, seconds: int) -> None:
        self.clock.advance(seconds * SECOND_US)
        self.account.now += seconds


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize("colour", ["sync", "async"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(acts=ACTS)
def test_counters_are_the_account(tiers: int, colour: str, acts: list[Any]) -> None:
    """Whatever happens: each key that is asked for is a hit of either tier, a miss, or served stale."""
    play = Play(tiers, colour)
    for act in acts:
        play.act(*act)
        stats = play.cache.stats()
        counted = {name: getattr(stats, name) for name in play.account.counted}
        assert counted == play.account.counted, act
    assert play.cache.stats().errors == 0


def test_load_time_is_what_loaders_take() -> None:
    """Of many at once: that of the one load."""
    clock = ManualClock()
    cache = Cache(MemoryStore(clock=clock))

    def load(keys: list[str]) -> dict[str, int]:
        clock.advance(250_000)
        return dict.fromkeys(keys, 1)

    cache.get_or_load_many(["a", "b"], load)
    cache.get_or_load("c", lambda: load(["c"]))
    assert (cache.stats().loads, cache.stats().load_us) == (2, 500_000)
