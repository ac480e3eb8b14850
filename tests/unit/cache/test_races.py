"""Interleavings that once served what had been removed: each is played out step by step, without chance."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from backendkit.cache import CachePolicy, Coherence, JsonCodec
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.entry import HEAD
from backendkit.cache.errors import NestedLoad
from backendkit.cache.face import Cache
from backendkit.cache.keeper import Keeper
from backendkit.cache.loading import loading
from backendkit.cache.local import Local
from backendkit.cache.names import DROP
from backendkit.cache.scope import Version
from backendkit.cache.upkeep import Busy
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import StoreUnavailable
from backendkit.core.operation import Change, Operation, Script
from backendkit.stores import MemoryStore
from tests.unit.cache.world import World

STALE = CachePolicy(ttl=10, max_stale=100, fail_safe=True)


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


def broken() -> Any:
    """Fail as a source does."""
    raise OSError("the source is away")


def test_a_reader_amid_a_tag_invalidation_does_not_keep_the_entry_alive(clock: ManualClock) -> None:
    """It looks whether the versions live, without a lock, just before one of them dies."""
    cache = Cache(MemoryStore(clock=clock))
    local: Local = cache._local

    slot: Any = vars(Version)["alive"]

    class Watched(Version):
        """Has a reader look at the record just before it dies."""

        __slots__ = ()

        @property
        def alive(self) -> bool:
            """As it is."""
            return bool(slot.__get__(self))

        @alive.setter
        def alive(self, value: bool) -> None:
            found = local.l1.peek("k")
            if found is not None and not value:
                local.lives(found)  # type: ignore[arg-type]
            slot.__set__(self, value)

    local._tags["t"] = watched = Watched(b"v", float("inf"))
    assert cache.get_or_load("k", lambda: "old", tags=["t"]) == "old"
    cache.invalidate_tags("t")
    assert not watched.alive
    assert cache.get("k") is None


def test_what_is_invalidated_before_the_load_takes_off_is_not_revived(
    clock: ManualClock,
) -> None:
    """The caller has seen the stale copy; the invalidation has returned before its load has a ticket."""

    async def play() -> None:
        cache = Cache(MemoryStore(clock=clock), policy=STALE)
        cache.set("k", "old")
        clock.advance(11 * SECOND_US)

        async def away() -> Any:
            return broken()

        reader = asyncio.ensure_future(cache.aio.get_or_load("k", away))
        await asyncio.sleep(0)  # it has looked, and its load is a task that has not begun
        cache.invalidate("k")
        with pytest.raises(OSError, match="away"):
            await reader
        with pytest.raises(OSError, match="away"):
            cache.get_or_load("k", broken)

    asyncio.run(play())


def test_many_do_not_believe_redis_before_a_queued_invalidation_has_landed(world: World) -> None:
    """As one does not."""
    cache, store, _ = one(world, coherence={"on_unreachable": "queue"})
    cache.set_many({"a": "old", "b": "kept"})
    store.cut = True
    cache.invalidate("a")
    store.cut = False
    cache._local.flush()
    assert cache.get_or_load_many(["a", "b"], lambda keys: dict.fromkeys(keys, "new")) == [
        "new",
        "kept",
    ]


def test_what_was_read_before_a_replay_is_dropped(world: World) -> None:
    """The server that came back has the old value until the replay; our own messages tell us nothing."""
    cache, store, upkeep = one(world)
    other, _, _ = one(world)
    cache.set("k", "old")
    cache.invalidate("k")
    other.set("k", "old")  # as a failover brings it back
    assert cache.get("k") == "old"
    upkeep.real.note(_invalidation(cache, "k"))
    upkeep.real.replay(cache._core)
    assert cache.get("k") is None
    assert not store.cut


def _invalidation(cache: Cache, key: str) -> Any:
    names = cache._core.names
    return tier.invalidate(names.keys(key), names.post(DROP, key))


def test_an_overflow_during_the_clearing_of_one_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The invalidation that came too late for the clearing waits for the next."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue", "max_queue": 1})
    store.cut = True
    cache.invalidate("a")
    cache.invalidate("b")
    store.cut = False
    run_many = store.run_many

    def flaps(operations: Any) -> Any:
        store.cut, store.run_many = True, run_many
        cache.invalidate("c")
        store.cut = False
        return run_many(operations)

    monkeypatch.setattr(store, "run_many", flaps)
    upkeep.real.flush_queue(cache._core)
    assert not upkeep.trusts("c")
    upkeep.real.flush_queue(cache._core)
    assert upkeep.trusts("c")


@pytest.mark.parametrize("what", ["invalidate", "set"])
def test_a_removal_that_is_cancelled_removes_here_too(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Redis has carried it out, and of its own message this process hears nothing."""

    async def play() -> None:
        cache, store, _ = one(world)
        cache.set("k", "old")
        run = type(store.aio).run

        async def hangs(self: Any, operation: Any) -> Any:
            await run(self, operation)
            await asyncio.Event().wait()

        monkeypatch.setattr(type(store.aio), "run", hangs)
        removal = cache.aio.invalidate("k") if what == "invalidate" else cache.aio.set("k", "new")
        task = asyncio.ensure_future(removal)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cache.get("k") == (None if what == "invalidate" else "new")

    asyncio.run(play())


def test_a_bulk_loader_that_asks_for_any_of_its_keys_is_told(world: World) -> None:
    """At once: waiting for itself would take as long as waits may."""
    cache, _, _ = one(world)

    def nested(keys: list[str]) -> dict[str, Any]:
        return {key: cache.get_or_load("b", lambda: 1) for key in keys}

    with pytest.raises(NestedLoad):
        cache.get_or_load_many(["a", "b"], nested)
    with pytest.raises(NestedLoad):
        cache.get_or_load("a", lambda: cache.get_or_load_many(["b", "a"], lambda _: {}))


def test_what_a_loader_leaves_behind_may_ask_for_its_key(clock: ManualClock) -> None:
    """Its task keeps the context of a load that has long ended."""

    async def play() -> None:
        cache = Cache(MemoryStore(clock=clock))
        left: list[asyncio.Task[Any]] = []
        go = asyncio.Event()

        async def later() -> Any:
            await go.wait()
            assert loading() is not None
            cache.invalidate("k")
            return await cache.aio.get_or_load("k", value)

        async def value() -> int:
            return 2

        async def load() -> int:
            left.append(asyncio.ensure_future(later()))
            return 1

        assert await cache.aio.get_or_load("k", load) == 1
        go.set()
        assert await left[0] == 2

    asyncio.run(play())


def test_no_thread_to_be_had_reaches_no_reader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next use tries again."""
    cache, store, _ = one(world)
    keeper = Keeper(world.clock, None)
    upkeep = Busy(cache._core, store, keeper, listens=False)

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        upkeep.start()
    refused = keeper.runs
    upkeep.start()
    assert (refused, keeper.runs) == (False, True)
    upkeep.close()


def test_a_failure_within_a_hard_timeout_is_itself(world: World) -> None:
    """Where it is to be seen, it is not called slowness."""
    cache, store, _ = one(world, coherence={"strict": True})
    store.cut = True
    with pytest.raises(StoreUnavailable):
        cache.get_or_load("k", lambda: 1, policy=CachePolicy(hard_timeout=60))


def test_a_throttled_copy_counts_no_longer_where_blindness_forbids_it(
    world: World, clock: ManualClock
) -> None:
    """It is trusted as long as the copy that it was made of."""
    coherence = {"fail_safe_when_blind": False}
    policy = CachePolicy(ttl=1, max_stale=100, fail_safe=True)
    cache, store, _ = one(world, coherence=coherence, policy=policy)
    cache._local.l1.trusted_until = 0.0
    cache.set("k", "old")
    store.cut = True
    clock.advance(SECOND_US * 3 // 2)
    assert cache.get_or_load("k", broken) == "old"
    clock.advance(SECOND_US * 7 // 10)
    with pytest.raises(OSError, match="away"):
        cache.get_or_load("k", broken)


def test_an_entry_with_a_head_alone_is_replaced(world: World) -> None:
    """Its namespace is right and the rest is none: it is loaded anew, once, and stored."""
    cache, store, _ = one(world)
    cache.set("k", "old", tags=["t"])
    key = cache._core.names.keys("k")[0]
    _truncate(store, key)
    cache._local.flush()
    assert cache.get_or_load("k", lambda: "new") == "new"
    assert cache.get_or_load("k", lambda: "newer") == "new"


def _truncate(store: Any, key: bytes) -> None:
    size = HEAD.size + 26
    script = Script(
        "truncate", lua="", fold=lambda states, now, args: Change(((states[0][:size], 10**9),), [1])
    )
    store.world.server.run(Operation(script, (key,), (), lambda reply: reply))


def test_tags_may_be_any_text(world: World) -> None:
    """Even half of a pair, as keys may."""
    cache, _, _ = one(world)
    assert cache.get_or_load("k", lambda: 1, tags=["\ud800"]) == 1
    cache._local.flush()
    assert cache.get_or_load("k", lambda: 2, tags=["\ud800"]) == 1


def test_other_tags_that_are_invalidated_all_the_time_keep_nobody_from_reading(
    world: World,
) -> None:
    """Each message comes while versions are being asked for: they are of other tags, and count."""
    here, store, _ = one(world)
    there, *_ = one(world)
    there.set("k", {"n": 1}, tags=["t"])
    run = store.run

    def disturbed(operation: Operation[Any]) -> Any:
        found = run(operation)
        if operation.script is versions.LOOK:
            here._local.kill(["other"])
        return found

    store.run = disturbed
    assert here.get("k") == {"n": 1}
    here._local.kill(["other"])
    here._local.l1.clear()
    assert here.get_or_load("k", broken, tags=["t"]) == {"n": 1}
    here.set("k", {"n": 2}, tags=["t"])
    assert not here._local._marks


@pytest.mark.parametrize("how", ["tag", "clear", "flush", "fork"])
def test_versions_that_may_have_been_replaced_are_not_learnt(world: World, how: str) -> None:
    """Between the asking and the answer this process hears of a removal, or cannot have heard."""
    local: Local = one(world)[0]._local
    mark = local.mark()
    {
        "tag": lambda: local.kill(["t"]),
        "clear": local.clear,
        "flush": local.flush,
        "fork": local.after_fork_in_child,
    }[how]()
    assert local.learn(mark, local.now(), (b"n", b"e"), {"t": b"old"}) is None
    assert local.known(["t"]) is None
    mark = local.mark()
    assert local.learn(mark, local.now(), (b"n", b"e"), {"t": b"new"}) is local.known(["t"])


def test_an_older_answer_does_not_undo_a_newer_one(world: World) -> None:
    """Two threads ask; the answers come the other way round, and no message has come yet."""
    local: Local = one(world)[0]._local
    answers: list[tuple[tuple[bytes, dict[str, bytes]], tuple[bytes, dict[str, bytes]]]] = [
        ((b"n1", {}), (b"n0", {})),
        ((b"n1", {"t": b"t1"}), (b"n1", {"t": b"t0"})),
    ]
    for newer, older in answers:
        first, second = local.mark(), local.mark()
        scope = local.learn(second, local.now(), (newer[0], b"e"), newer[1])
        assert local.learn(first, local.now(), (older[0], b"e"), older[1]) is None
        assert local.known(newer[1]) is scope


def test_who_names_tags_late_is_refused_under_an_epoch_of_before(world: World) -> None:
    """It was read before a tag was invalidated, and noted after that was heard of."""
    here, store, _ = one(world)
    there, *_ = one(world)
    run = store.run

    def late(operation: Operation[Any]) -> Any:
        found = run(operation)
        if operation.script is versions.LOOK:
            store.run = run
            there.invalidate_tags("other")
            here._local.kill(["other"])
        return found

    store.run = late

    def load() -> str:
        there.invalidate_tags("late")
        current = loading()
        assert current is not None
        current.tag("late")
        return "old"

    assert here.get_or_load("k", load) == "old"
    assert there.get("k") is None
    assert here.stats().refused == 1
