"""A lease in the caller's hand: what was read before a removal is not stored after it, on one tier and on two."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.cache import CachePolicy, Coherence, JsonCodec, NotEncodable
from backendkit.cache.face import Cache
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument, OutcomeUnknown, StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error
from backendkit.stores import MemoryStore
from tests.unit.cache.machine import EVICT
from tests.unit.cache.world import World

Make = Callable[..., Cache]


@pytest.fixture
def clock() -> ManualClock:
    """Everybody's."""
    return ManualClock(mono_us=1_000_000)


@pytest.fixture
def world(clock: ManualClock) -> World:
    """One server."""
    return World(clock)


@pytest.fixture(params=["alone", "two tiers"])
def cache(request: pytest.FixtureRequest, clock: ManualClock, world: World) -> Cache:
    """A cache of one tier, or of two."""
    return Cache(MemoryStore(clock=clock)) if request.param == "alone" else one(world)


def one(world: World, **coherence: Any) -> Cache:
    """A process of the fleet."""
    return world.cache(
        namespace="n", codec=JsonCodec(), coherence=Coherence(max_l1_staleness=2, **coherence)
    )


def hear(cache: Cache) -> None:
    """Let all messages through."""
    upkeep: Any = cache._core.upkeep
    upkeep.receive(1_000)


def test_what_nobody_removes_is_stored(cache: Cache) -> None:
    """Over whatever is there, as a set without a lease."""
    for value in ("first", "second"):
        assert cache.set("k", value, lease=cache.lease("k")) is True
        assert cache.get("k") == value
    cache.invalidate("k")
    assert cache.get("k") is None
    assert cache.set("k", "plain") is True
    assert not cache._local._tickets


@pytest.mark.parametrize(
    "remove",
    [
        lambda cache: cache.invalidate("k"),
        lambda cache: cache.expire("k"),
        lambda cache: cache.invalidate_tags("t"),
        lambda cache: cache.clear(),
        lambda cache: cache.set("k", "newer"),
    ],
    ids=["invalidate", "expire", "tag", "clear", "set"],
)
def test_what_is_removed_between_is_not_stored(cache: Cache, remove: Any) -> None:
    """The race that a plain set loses."""
    lease = cache.lease("k")
    value = "old"  # read here
    remove(cache)
    there = cache.get("k")
    assert cache.set("k", value, lease=lease, tags=["t"]) is False
    assert cache.get("k") == there != "old"
    assert cache.stats().refused == 1
    assert not cache._local._tickets


@pytest.mark.parametrize(
    "remove",
    [
        lambda cache: cache.invalidate("k"),
        lambda cache: cache.invalidate_tags("t"),
        lambda cache: cache.clear(),
    ],
    ids=["invalidate", "tag", "clear"],
)
@pytest.mark.parametrize("heard", [True, False])
def test_what_another_process_removes_is_not_stored(world: World, remove: Any, heard: bool) -> None:
    """Whether this one has heard of it or not, no other gets the old value."""
    here, there = one(world), one(world)
    here.get_or_load("k", lambda: "older", tags=["t"])
    lease = here.lease("k")
    remove(there)
    if heard:
        hear(here)
    here.set("k", "old", lease=lease, tags=["t"])
    assert there.get("k") is None
    hear(here)
    assert here.get("k") is None


def test_others_drop_what_they_have(world: World) -> None:
    """As after a plain set; and whoever waits for the key gets it."""
    here, there = one(world), one(world)
    there.get_or_load("k", lambda: "older")
    assert here.set("k", "new", lease=here.lease("k"))
    hear(there)
    assert there.get("k") == "new"


def test_a_lease_is_for_one_key_of_one_cache(cache: Cache, clock: ManualClock) -> None:
    """And for one set."""
    lease = cache.lease("k")
    with pytest.raises(InvalidArgument, match="lease"):
        cache.set("other", 1, lease=lease)
    with pytest.raises(InvalidArgument, match="lease"):
        Cache(MemoryStore(clock=clock)).set("k", 1, lease=lease)
    assert cache.set("k", 1, lease=lease)
    assert not cache.set("k", 2, lease=lease)
    assert cache.get("k") == 1
    with pytest.raises(InvalidArgument, match="key"):
        cache.lease("")


def test_it_ends_with_its_block_or_its_object(cache: Cache) -> None:
    """Then nothing renews it, and nothing is left of it."""
    with cache.lease("k") as lease:
        assert lease.granted
        assert repr(lease) == "Lease(granted=True)"
    assert not cache.set("k", 1, lease=lease)
    lost = cache.lease("l")
    del lost, lease
    gc.collect()
    upkeep: Any = cache._core.upkeep
    assert not getattr(getattr(upkeep, "real", None), "_leases", None)
    cache.lease("m").end()
    assert not cache._local._tickets


def test_it_lives_as_long_as_it_is_renewed(world: World, clock: ManualClock) -> None:
    """A process that stops renewing it has lost it after a second, and others load."""
    here, there = one(world), one(world)
    upkeep: Any = here._core.upkeep
    lease = here.lease("k")
    for _ in range(10):
        clock.advance(SECOND_US // 2)
        upkeep.real.renew()
    assert not there.lease("k").granted
    clock.advance(SECOND_US)
    assert there.get_or_load("k", lambda: "loaded") == "loaded"
    assert here.set("k", "late", lease=lease) is False
    assert there.get("k") == "loaded"


def test_a_lost_lease_stores_nothing(world: World) -> None:
    """Evicted, it fences as if the key had been removed."""
    here = one(world)
    lease = here.lease("k")
    world.server.run(Operation(EVICT, here._core.names.keys("k")[1:], (), list))
    assert not here.set("k", 1, lease=lease)


def test_while_redis_is_away_nothing_is_stored(world: World) -> None:
    """Taking fails silently, as reads do; setting under a lease that was had raises, as sets do."""
    here = one(world)
    store: Any = here._store
    lease = here.lease("k")
    store.deaf = True
    with pytest.raises(OutcomeUnknown):
        here.set("k", 1, lease=lease)
    assert here.stats().entries == 0
    store.deaf, store.cut = False, True
    assert not here.lease("l").granted
    here._local.flush()
    assert not here.set("k", 1, lease=here.lease("k"))
    strict = one_strict(world)
    with pytest.raises(StoreUnavailable):
        strict.lease("k")
    assert not strict._local._tickets


def one_strict(world: World) -> Cache:
    """A process that wants to see failures, and is cut off."""
    strict = one(world, strict=True)
    store: Any = strict._store
    strict.get("x")
    store.cut = True
    return strict


def test_a_value_that_no_codec_keeps_is_refused_loudly(world: World) -> None:
    """As by a plain set."""
    here = one(world)
    with pytest.raises(NotEncodable):
        here.set("k", object(), lease=here.lease("k"))
    assert not here._local._tickets


def test_tags_that_cannot_be_looked_up_keep_it_out(world: World) -> None:
    """Nobody knows whether they were invalidated."""
    here = one(world)
    lease = here.lease("k")
    store: Any = here._store
    store.cut = True
    assert not here.set("k", 1, lease=lease, tags=["never seen"])


def test_the_asynchronous_face(clock: ManualClock) -> None:
    """The same, awaited."""

    async def play() -> None:
        cache = Cache(MemoryStore(clock=clock), policy=CachePolicy(ttl=5)).aio
        with await cache.lease("k") as lease:
            assert await cache.set("k", 1, lease=lease)
        assert await cache.set("k", 2)
        assert await cache.get("k") == 2

    asyncio.run(play())


@pytest.mark.parametrize("by", ["this process", "another"])
def test_what_was_cleared_meanwhile_is_not_stored_without_tags_either(
    world: World, by: str
) -> None:
    """Nothing but the namespace's version tells."""
    here, there = one(world), one(world)
    lease = here.lease("k")
    (here if by == "this process" else there).clear()
    hear(here)
    assert here.set("k", "old", lease=lease) is False
    assert here.get("k") is None
    assert here.stats().refused == 1


def test_a_lease_that_nobody_would_be_told_of_is_none(world: World) -> None:
    """Others would keep what they have in their first tier."""
    here, there = one(world), one(world)
    there.set("k", "older")
    store: Any = here._store
    run_many = store.run_many

    def halved(operations: Any) -> Any:
        first, *_ = run_many(operations[:1])
        return [first, Error(StoreUnavailable("cut off"))]

    store.run_many = halved
    here.get("k")
    lease = here.lease("k")
    assert not lease.granted
    assert here.set("k", "new", lease=lease) is False
    assert there.get("k") == "older"
    assert here.stats().errors == 1


def test_two_threads_land_what_was_lost() -> None:
    """The other may have taken the last between a look and the taking."""

    class Lost(deque[Any]):
        """Seems to hold one more."""

        def __len__(self) -> int:
            return super().__len__() + 1

    cache = Cache(MemoryStore())
    cache._core.lost = Lost()
    assert cache.lease("k").granted
