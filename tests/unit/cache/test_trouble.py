"""What the cache does when its server does not answer: queued invalidations, blind loads, replays, odd messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backendkit.cache import CachePolicy, Coherence, JsonCodec, Replayed
from backendkit.cache.codecs import PickleCodec
from backendkit.cache.errors import NotEncodable
from backendkit.cache.face import Cache
from backendkit.cache.seal import SealKeys
from backendkit.cache.wire import Wire
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument, OutcomeUnknown, StoreUnavailable
from tests.unit.cache.world import World


@pytest.fixture
def clock() -> ManualClock:
    """Everybody's."""
    return ManualClock(mono_us=1_000_000)


@pytest.fixture
def world(clock: ManualClock) -> World:
    """One server."""
    return World(clock)


def one(world: World, **options: Any) -> tuple[Cache, Any, Any]:
    """Return a cache, its store and its upkeep."""
    coherence = Coherence(max_l1_staleness=2, **options.pop("coherence", {}))
    cache = world.cache(namespace="n", codec=JsonCodec(), coherence=coherence, **options)
    return cache, cache._store, cache._core.upkeep


def test_an_invalidation_that_cannot_be_sent_raises(world: World) -> None:
    """And this process does not serve the old value for all that, unless it asks Redis."""
    cache, store, _ = one(world)
    cache.set("k", "old")
    store.cut = True
    removals: list[Callable[[], object]] = [
        lambda: cache.invalidate("k"),
        lambda: cache.invalidate_tags("t"),
        cache.clear,
        lambda: cache.set("k", 1),
    ]
    for remove in removals:
        with pytest.raises(StoreUnavailable):
            remove()
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "new") == "new"


def test_a_queued_invalidation_lands(world: World) -> None:
    """Until then this process does not believe Redis; then all are told."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})
    other, _, heard = one(world)
    other.get_or_load("k", lambda: "old")
    assert cache.get("k") == "old"
    store.cut = True
    cache.invalidate("k")
    assert not upkeep.trusts("k")
    assert upkeep.trusts("other")
    store.cut = False
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "new") == "new"
    assert other.get("k") == "old"
    upkeep.real.flush_queue(cache._core)
    assert upkeep.trusts("k")
    heard.receive(100)
    assert other.get("k") is None


def test_a_queue_that_overflows_distrusts_all(world: World) -> None:
    """And clears the namespace when it can."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue", "max_queue": 2})
    cache.set("kept", 1)
    store.cut = True
    for number in range(4):
        cache.invalidate(f"k{number}")
    cache.clear()
    assert not upkeep.trusts("anything")
    store.cut = False
    upkeep.real.flush_queue(cache._core)
    assert upkeep.trusts("anything")
    assert cache.get("kept") is None


def test_a_queued_clear_distrusts_all(world: World) -> None:
    """It names no key."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})
    store.cut = True
    cache.clear()
    cache.invalidate_tags("t")
    assert not upkeep.trusts("k")


def test_blind_loads_serve_for_the_staleness_allowed(world: World, clock: ManualClock) -> None:
    """Nothing is stored in Redis; what is loaded serves here, not for long."""
    cache, store, _ = one(world)
    store.cut = True
    loads: list[int] = []

    def load() -> str:
        loads.append(1)
        return "v"

    assert [cache.get_or_load("k", load) for _ in range(3)] == ["v"] * 3
    clock.advance(2 * SECOND_US)
    cache.get_or_load("k", load)
    assert len(loads) == 2
    assert cache.stats().errors >= 2


def test_answers_that_are_lost_hurt_nobody(world: World) -> None:
    """Reads and loads go on; a removal says that nobody knows."""
    cache, store, _ = one(world)
    store.deaf = True
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "v") == "v"
    with pytest.raises(OutcomeUnknown):
        cache.invalidate("k")


def test_strict_reads_raise(world: World) -> None:
    """Who asks for it gets the cache's own failures."""
    cache, store, _ = one(world, coherence={"strict": True})
    store.cut = True
    with pytest.raises(StoreUnavailable):
        cache.get("k")
    with pytest.raises(StoreUnavailable):
        cache.get_or_load("k", lambda: 1)


def test_stale_while_blind(world: World, clock: ManualClock) -> None:
    """Fail-safe serves while nobody tells of changes, unless that is forbidden."""

    def fail() -> str:
        raise KeyError("down")

    for allowed in (True, False):
        cache, store, _ = one(
            world,
            coherence={"fail_safe_when_blind": allowed},
            policy=CachePolicy(ttl=1, max_stale=60),
        )
        cache.set("k", "old")
        clock.advance(5 * SECOND_US)
        store.cut = True
        if allowed:
            assert cache.get_or_load("k", fail) == "old"
        else:
            with pytest.raises(KeyError):
                cache.get_or_load("k", fail)


@pytest.mark.parametrize("on_restart", ["replay", "clear"])
def test_another_server_hears_recent_invalidations(
    world: World, clock: ManualClock, on_restart: str
) -> None:
    """Those of the last ten seconds; with `clear` the namespace is cleared as well."""
    cache, store, upkeep = one(world, coherence={"on_restart": on_restart})
    told: list[Any] = []
    cache.hooks.add(told.append, Replayed)
    cache.set("kept", 1)
    cache.invalidate("long ago")
    clock.advance(11 * SECOND_US)
    upkeep.channel.close("silence")
    upkeep.connect()
    cache.invalidate("k")
    other, _, _ = one(world)
    other.set("k", "as a replica has it that has missed the invalidation")
    world.identity = b"two"
    store.line.lost = True
    upkeep.channel.close("lost")
    upkeep.connect()
    assert [event.count for event in told] == [1 if on_restart == "replay" else 2]
    assert cache.get("k") is None
    assert cache.get("kept") == (1 if on_restart == "replay" else None)


def test_what_came_before_a_long_outage_is_repeated(world: World, clock: ManualClock) -> None:
    """Counted back from the last sign of life: however long nobody answered, the new server has not heard of it."""
    cache, store, upkeep = one(world)
    other, _, _ = one(world)
    clock.advance(SECOND_US)
    upkeep.connect()
    cache.invalidate("k", "l")
    clock.advance(11 * SECOND_US)  # nobody answers; another takes over that has missed it
    other.set("k", "as a replica has it that has missed the invalidation")
    world.identity = b"two"
    store.line.lost = True
    upkeep.channel.close("lost")
    upkeep.connect()
    assert cache.get("k") is None
    assert len(upkeep._recent) == 2
    clock.advance(12 * SECOND_US)
    upkeep.channel.close("silence")
    upkeep.connect()
    cache.invalidate("m")
    assert len(upkeep._recent) == 1


def test_a_value_that_a_failover_has_lost_gives_way_to_none_older(
    world: World, clock: ManualClock
) -> None:
    """What was set is not set again, for others may have set another since; what it had replaced goes."""
    cache, _, upkeep = one(world)
    other, _, _ = one(world)
    cache.set("k", "old")
    before = dict(world.server.states)
    cache.set("k", "new")
    world.fail_over(before, silent=False)
    upkeep.channel.close("lost")
    upkeep.connect()
    assert (cache.get("k"), other.get("k")) == (None, None)


def test_more_is_to_be_repeated_than_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the namespace is cleared: which keys they were nobody knows any more."""
    monkeypatch.setattr("backendkit.cache.upkeep._MOST_RECENT", 2)
    cache, _, upkeep = one(world)
    cache.set("k", "old")
    before = dict(world.server.states)
    cache.invalidate("k")
    cache.invalidate("l", "m")
    world.fail_over(before, silent=False)
    upkeep.channel.close("lost")
    upkeep.connect()
    assert cache.get("k") is None


def test_processes_that_know_different_versions_agree_again(
    world: World, clock: ManualClock
) -> None:
    """A version that was evicted is made anew by whoever asks next; the others ask again within a minute or so."""
    cache, _, upkeep = one(world)
    other, _, others = one(world)
    for each in (cache, other):
        each.set("k", 1, tags=["t"])
    held = [key for key in world.server.states if key in cache._core.names.versions(["t"])]
    assert len(held) == 3
    for key in held:
        del world.server.states[key]
    third, _, _ = one(world)
    third.set("k", 3, tags=["t"])
    upkeep.receive(100)
    assert cache.get("k") is None  # nothing stale, and nothing shared
    for _ in range(70):
        clock.advance(SECOND_US)
        for each in (upkeep, others):
            each.beat()
            each.receive(100)
    third.set("k", 3, tags=["t"])
    for each in (upkeep, others):
        each.receive(100)
    assert (cache.get("k"), other.get("k")) == (3, 3)


def test_an_unknown_message_empties_the_first_tier(world: World) -> None:
    """A later version of the library may have meant something by it."""
    cache, store, upkeep = one(world)
    for raw in (b"?", b"z" + b"o" * 8 + b"n" * 8 + b"about", b"k" + b"o" * 16 + b"\xff\xfe\xfd"):
        cache.set("k", "v")
        assert cache.stats().entries == 1
        store.line.inbox.append(raw)
        upkeep.receive(100)
        assert cache.stats().entries == 0


def test_what_no_codec_keeps_is_served_and_not_stored(world: World) -> None:
    """A load's value reaches its callers; `set` says what is wrong."""
    cache, _, _ = one(world)
    value = object()
    assert cache.get_or_load("k", lambda: value) is not None
    assert cache.get("k") is None
    with pytest.raises(NotEncodable):
        cache.set("k", value)


def test_entries_that_cannot_be_read_are_misses(world: World) -> None:
    """Of another codec, another seal, another key, cut, or nonsense."""
    cache, _, _ = one(world)
    names = cache._core.names
    sealed = world.cache(
        namespace="n", codec=Wire(PickleCodec(), keys=SealKeys({"a": bytes(range(7, 39))}))
    )
    sealed.set("k", {1, 2})
    assert sealed.get("k") == {1, 2}
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "v") == "v"
    assert sealed.get("other") is None
    cache.set("a", "v")
    server = world.server
    state = server._state(names.keys("a")[0], world.clock.mono_us())
    from backendkit.core.operation import Change, Operation, Script

    for bad in (state[:-1], state[:60] + b"\x00" + state[61:], state[:30], b"", b"nonsense" * 20):
        write = Script("test.write", lua="", fold=lambda s, n, a: Change(((a[0], 10**9),), [1]))
        server.run(Operation(write, names.keys("a")[:1], (bad,), list))
        cache._local.drop("a")
        assert cache.get("a") is None


def test_a_second_tier_needs_a_codec(world: World) -> None:
    """And says so."""
    with pytest.raises(InvalidArgument, match="codec"):
        world.cache(namespace="n")
