"""Many keys at once: as few batches and loads as there can be, and each policy as for one key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from backendkit.cache import CachePolicy, Coherence, JsonCodec
from backendkit.cache.errors import LoadTimeout, NestedLoad
from backendkit.cache.events import FenceRefused, Loaded, LoadFailed, NotStored, StaleServed
from backendkit.cache.face import Cache
from backendkit.cache.loading import MISSING, NOT_MODIFIED, loading
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument, StoreUnavailable
from backendkit.core.operation import Change, Operation, Script
from backendkit.core.outcome import Error
from backendkit.stores import MemoryStore
from tests.ground.waiting import eventually
from tests.unit.cache.world import World

KEYS = [f"k{number}" for number in range(8)]
STALE = CachePolicy(ttl=10, max_stale=100, beta=0)


@pytest.fixture
def clock() -> ManualClock:
    """Everybody's."""
    return ManualClock(mono_us=1_000_000)


@pytest.fixture
def world(clock: ManualClock) -> World:
    """One server."""
    return World(clock)


class Source:
    """A database; notes which keys it was asked for, and asks its gate first."""

    def __init__(self, value: Any = "v") -> None:
        self.value = value
        self.asked: list[list[str]] = []
        self.error: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self, keys: list[str]) -> Mapping[str, Any]:
        """Load."""
        self.asked.append(sorted(keys))
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return dict.fromkeys(keys, self.value)


def one(world: World, **options: Any) -> Cache:
    """A process of the fleet, which counts its batches."""
    coherence = Coherence(max_l1_staleness=2, **options.pop("coherence", {}))
    cache = world.cache(namespace="n", codec=JsonCodec(), coherence=coherence, **options)
    store: Any = cache._store
    run_many = store.run_many
    store.batches = []

    def counted(operations: Sequence[Operation[Any]]) -> Any:
        store.batches.append([operation.script.name for operation in operations])
        return run_many(operations)

    store.run_many = counted
    return cache


def batches(cache: Cache) -> list[list[str]]:
    """Return the scripts of each batch so far, and forget them."""
    store: Any = cache._store
    found: list[list[str]] = store.batches
    store.batches = []
    return found


def stats(cache: Any) -> Any:
    """Return what a cache, or a player of one, has done."""
    return getattr(cache, "cache", cache).stats()


def overwrite(world: World, cache: Cache, key: str, raw: bytes) -> None:
    """Put bytes where an entry is."""
    script = Script("test.write", lua="", fold=lambda s, n, a: Change(((a[0], 10**9),), [1]))
    world.server.run(Operation(script, cache._core.names.keys(key)[:1], (raw,), list))


@pytest.mark.parametrize("why", ["tags", "corrupt"])
def test_what_is_dead_in_redis_is_loaded_at_once(world: World, why: str) -> None:
    """A look, two batches of reads, one load, one batch of writes: not one load for each key."""
    writer, reader = one(world), one(world)
    writer.set_many(dict.fromkeys(KEYS, "old"), tags=["t"])
    if why == "tags":
        writer.invalidate_tags("t")
    else:
        for key in KEYS:
            raw = world.server._state(writer._core.names.keys(key)[0], world.clock.mono_us())
            overwrite(world, writer, key, raw[:-1] + b"\x00")
    source = Source("new")
    assert reader.get_or_load_many(KEYS, source, tags=["t"]) == ["new"] * len(KEYS)
    assert source.asked == [KEYS]
    assert [len(batch) for batch in batches(reader)] == [len(KEYS)] * 4
    reader._local.flush()
    assert reader.get_or_load_many(KEYS, source, tags=["t"]) == ["new"] * len(KEYS)
    assert len(source.asked) == 1


def test_entries_that_stay_unreadable_are_refused_so_often(world: World) -> None:
    """Others store such again and again: it is loaded, and not fought over."""
    cache = one(world)
    cache.set_many({"a": 1, "b": 2})
    cache._local.flush()
    times = [0]

    def corrupted(_: Any) -> None:
        times[0] += 1
        world.clock.advance(1)
        for key in "ab":
            overwrite(world, cache, key, b"")
            cache_of_others.set(key, object_of(times[0]))

    cache_of_others = world.cache(namespace="n", codec=JsonCodec())

    def object_of(number: int) -> str:
        return f"foreign {number}"

    core = cache._core
    thawed = core.thawed

    def unreadable(*args: Any) -> Any:
        thawed(*args)
        corrupted(None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(core), "thawed", lambda self, *args: unreadable(*args))
        assert cache.get_or_load_many(["a", "b"], Source("mine")) == ["mine", "mine"]
        assert cache.get_or_load("a", lambda: "x") == "mine"
        cache._local.flush()
        assert cache.get_or_load("a", lambda: "x") == "x"
    assert times[0] <= 3 * 2 * 2


class Elsewhere:
    """Another process that loads keys until it is told to end."""

    def __init__(self, world: World, keys: list[str]) -> None:
        self.cache = one(world)
        self.source = Source("theirs")
        self.begun, self.gate = threading.Event(), threading.Event()

        def wait() -> None:
            self.begun.set()
            self.gate.wait(30)

        self.source.meanwhile = wait
        self.thread = threading.Thread(target=self._load, args=(keys,))
        self.thread.start()
        assert self.begun.wait(30)

    def _load(self, keys: list[str]) -> None:
        try:
            self.cache.get_or_load_many(keys, self.source)
        except OSError:
            return

    def end(self) -> None:
        """Let it end."""
        self.gate.set()
        self.thread.join()


def hear(cache: Cache) -> None:
    """Let all messages through."""
    upkeep: Any = cache._core.upkeep
    upkeep.receive(1_000)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("fails", [False, True])
def test_what_others_load_is_waited_for_together(world: World, colour: str, fails: bool) -> None:
    """And read in one batch when they have it; loaded in one call where they have failed."""
    there = Elsewhere(world, KEYS)
    if fails:
        there.source.error = OSError()
    here, source = one(world), Source("ours")
    wanted = [*KEYS, "own"]
    got: list[Any] = []

    def ask() -> None:
        if colour == "sync":
            got.extend(here.get_or_load_many(wanted, source))
        else:
            got.extend(asyncio.run(awaited()))

    async def awaited() -> list[Any]:
        async def load(keys: list[str]) -> Mapping[str, Any]:
            return source(keys)

        return await here.aio.get_or_load_many(wanted, load)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: len(here._local._bells) == len(KEYS), "it waits for all of them")
    eventually(lambda: source.asked == [["own"]], "it has loaded what was its own")
    there.end()
    hear(here)
    asking.join()
    theirs = "ours" if fails else "theirs"
    assert got == [theirs] * len(KEYS) + ["ours"]
    assert source.asked == ([["own"], KEYS] if fails else [["own"]])
    assert not here._local._bells
    assert all(len(batch) >= len(KEYS) or batch == ["cache.store"] for batch in batches(here))


def test_it_waits_no_longer_than_it_may(world: World) -> None:
    """Then it loads for itself, in one call, and stores nothing: another holds the leases."""
    there = Elsewhere(world, KEYS)
    try:
        here, source = one(world, policy=CachePolicy(max_wait=0)), Source("ours")
        assert here.get_or_load_many(KEYS, source) == ["ours"] * len(KEYS)
        assert source.asked == [KEYS]
        assert here.stats().entries == 0
    finally:
        there.end()


def test_on_a_loop_nobody_blocks_for_others(world: World) -> None:
    """The synchronous face on an event loop's thread loads for itself: what it waits for may be a task of that loop."""
    there = Elsewhere(world, KEYS)
    try:
        here, source = one(world), Source("ours")

        async def on_a_loop() -> list[Any]:
            return here.get_or_load_many(KEYS, source)

        assert asyncio.run(on_a_loop()) == ["ours"] * len(KEYS)
        assert source.asked == [KEYS]
    finally:
        there.end()


def test_what_this_process_loads_is_waited_for(clock: ManualClock) -> None:
    """A leader that is stopped leaves its keys to those who wait: they load them in one call."""
    cache = Cache(MemoryStore(clock=clock))
    begun, gate = threading.Event(), threading.Event()
    source = Source("ours")

    def stopped(keys: list[str]) -> Mapping[str, Any]:
        begun.set()
        gate.wait(30)
        raise SystemExit

    def lead() -> None:
        with pytest.raises(SystemExit):
            cache.get_or_load_many(KEYS, stopped)

    leading = threading.Thread(target=lead)
    leading.start()
    assert begun.wait(30)
    got: list[Any] = []
    asking = threading.Thread(
        target=lambda: got.extend(cache.get_or_load_many([*KEYS, "own"], source))
    )
    asking.start()
    eventually(lambda: source.asked == [["own"]], "it waits for the rest")
    gate.set()
    leading.join()
    asking.join()
    assert got == ["ours"] * (len(KEYS) + 1)
    assert source.asked == [["own"], KEYS]
    assert len(cache._local.flights) == 0
    assert not cache._local._tickets


def test_a_leader_that_hangs_is_left_in_the_end(clock: ManualClock) -> None:
    """After the longest wait its keys are loaded in one call, and others may lead them."""
    cache = Cache(MemoryStore(clock=clock))
    cache._local.flights._longest_wait = 0.01
    begun, gate = threading.Event(), threading.Event()
    hanging = Source("theirs")

    def wait() -> None:
        begun.set()
        gate.wait(30)

    hanging.meanwhile = wait
    leading = threading.Thread(target=lambda: cache.get_or_load_many(KEYS, hanging))
    leading.start()
    assert begun.wait(30)
    source = Source("ours")
    assert cache.get_or_load_many(KEYS, source) == ["ours"] * len(KEYS)

    async def awaited() -> list[Any]:
        async def load(keys: list[str]) -> Mapping[str, Any]:
            return source(keys)

        cache.invalidate(*KEYS)
        return await cache.aio.get_or_load_many(KEYS, load)

    assert asyncio.run(awaited()) == ["ours"] * len(KEYS)
    assert source.asked == [KEYS, KEYS]
    gate.set()
    leading.join()
    assert cache.get_or_load_many(KEYS, source) == ["ours"] * len(KEYS)


def test_fail_safe_for_each_key(make: Any, clock: ManualClock) -> None:
    """Those that have something stale serve it; one that has nothing lets the call raise."""
    cache = make(policy=STALE)
    told: list[Any] = []
    cache.cache.hooks.add(told.append, StaleServed, LoadFailed)
    source = Source("old")
    cache.get_or_load_many(["a", "b"], source)
    clock.advance(11 * SECOND_US)
    source.error = OSError("away")
    assert cache.get_or_load_many(["a", "b"], source) == ["old", "old"]
    assert [type(event).__name__ for event in told] == ["LoadFailed"] * 2 + ["StaleServed"] * 2
    assert [event.reason for event in told[2:]] == ["error", "error"]
    assert cache.get_or_load_many(["a", "b"], source) == [
        "old",
        "old",
    ]  # throttled: not tried again
    assert len(source.asked) == 2
    with pytest.raises(OSError, match="away"):
        cache.get_or_load_many(["a", "c"], source)
    assert stats(cache).stale == 5
    assert stats(cache).load_errors == 2
    cache.invalidate("a")
    with pytest.raises(OSError, match="away"):
        cache.get_or_load_many(["a", "b"], source)


def test_stale_while_revalidate_for_each_key(make: Any, clock: ManualClock) -> None:
    """What is stale serves at once, and one load behind fetches all of it."""
    policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=50, beta=0)
    cache = make(policy=policy)
    source = Source("old")
    cache.get_or_load_many(["a", "b"], source)
    clock.advance(11 * SECOND_US)
    source.value = "new"
    assert cache.get_or_load_many(["a", "b", "c"], source) == ["old", "old", "new"]
    eventually(lambda: not len(cache.cache._local.flights), "the load behind has landed")
    eventually(lambda: cache.get_many(["a", "b"]) == {"a": "new", "b": "new"}, "both are new")
    assert sorted(source.asked[1:]) == [["a", "b"], ["c"]]
    assert stats(cache).stale == 2


@pytest.mark.parametrize("room", [True, False])
def test_what_is_stale_in_redis_is_revalidated_in_one_load(
    world: World, clock: ManualClock, room: bool
) -> None:
    """By a process that has nothing of its own; where no thread is to be had, its caller waits."""
    policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=50, beta=0)
    writer, reader = one(world, policy=policy), one(world, policy=policy)
    writer.set_many({"a": "old", "b": "old"})
    clock.advance(11 * SECOND_US)
    source = Source("new")
    io: Any = reader._io
    if not room:
        io._behind._room = threading.Semaphore(0)
    value = "old" if room else "new"
    assert reader.get_or_load_many(["a", "b"], source) == [value] * 2
    eventually(lambda: reader.get_many(["a", "b"]) == {"a": "new", "b": "new"}, "both are new")
    assert source.asked == [["a", "b"]]
    assert not reader._local._tickets


def test_what_others_load_serves_stale_at_once(world: World, clock: ManualClock) -> None:
    """Nobody waits for a load elsewhere where what is stale may serve."""
    policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=50, beta=0)
    here = one(world, policy=policy)
    here.set_many(dict.fromkeys(KEYS, "old"), policy=policy)
    clock.advance(11 * SECOND_US)
    there = Elsewhere(world, KEYS)
    try:
        here._local.flush()
        source = Source("ours")
        assert here.get_or_load_many(KEYS, source) == ["old"] * len(KEYS)
        assert not source.asked
    finally:
        there.end()


def test_early_refresh_for_those_that_are_due(make: Any, clock: ManualClock) -> None:
    """One load behind for all of them, while all are served."""
    drawn = [1.0]
    cache = make(chance=lambda: drawn[0], policy=CachePolicy(ttl=10))
    source = Source()
    source.meanwhile = lambda: clock.advance(SECOND_US // 4)
    cache.get_or_load_many(["a", "b"], source)
    clock.advance(5 * SECOND_US)
    cache.get_or_load_many(["c"], source)
    clock.advance(3 * SECOND_US)
    drawn[0] = 1e-7
    source.value = "new"
    assert cache.get_or_load_many(["a", "b", "c"], source) == ["v", "v", "v"]
    eventually(lambda: len(source.asked) == 3, "the early refresh has run")
    assert source.asked[2] == ["a", "b"]
    eventually(lambda: cache.get_many("ab") == {"a": "new", "b": "new"}, "both are new")


class Slow:
    """A source that answers when its gate is opened, in both colours."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: list[list[str]] = []

    def blocks(self, keys: list[str]) -> Mapping[str, Any]:
        """Load."""
        self.asked.append(sorted(keys))
        self.gate.wait(30)
        return dict.fromkeys(keys, "new")

    async def awaits(self, keys: list[str]) -> Mapping[str, Any]:
        """Load."""
        return await asyncio.to_thread(self.blocks, keys)


def play(cache: Cache, colour: str, calls: Callable[[Any], Any]) -> None:
    """Run `calls`, a generator of calls, of which each yields what it expects; in one colour."""
    source = Slow()

    async def awaited() -> None:
        for name, args, check in calls(source):
            try:
                check(await getattr(cache.aio, name)(*args, source.awaits))
            except (LoadTimeout, OSError) as error:
                check(error)
        source.gate.set()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    if colour == "async":
        asyncio.run(awaited())
        return
    for name, args, check in calls(source):
        try:
            check(getattr(cache, name)(*args, source.blocks))
        except (LoadTimeout, OSError) as error:
            check(error)
    source.gate.set()


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("tiers", [1, 2])
def test_timeouts(world: World, clock: ManualClock, colour: str, tiers: int) -> None:
    """Soft: what is stale, if all have that. Hard: what is stale, else an error. The load goes on behind."""
    policy = CachePolicy(
        ttl=10, max_stale=100, beta=0, soft_timeout=0.001, hard_timeout=0.002, max_wait=0
    )
    cache = (
        one(world, policy=policy) if tiers == 2 else Cache(MemoryStore(clock=clock), policy=policy)
    )
    got: list[Any] = []

    def calls(source: Slow) -> Any:
        cache.set_many({"a": "old", "b": "old"})
        clock.advance(11 * SECOND_US)
        yield "get_or_load_many", (["a", "b"],), got.append
        yield "get_or_load_many", (["a", "other"],), got.append

    play(cache, colour, calls)
    assert got[0] == ["old", "old"]
    assert isinstance(got[1], LoadTimeout)
    assert stats(cache).stale == 2
    assert cache.stats().misses == 2
    eventually(lambda: cache.get("other") == "new", "the load has gone on behind")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_soft_timeout_serves_what_redis_has(
    world: World, clock: ManualClock, colour: str
) -> None:
    """Of a process that has nothing of its own: it learns on the way what it may fall back on."""
    policy = CachePolicy(ttl=10, max_stale=100, beta=0, soft_timeout=0.2)
    writer, reader = one(world, policy=policy), one(world, policy=policy)
    writer.set_many({"a": "old", "b": "old"})
    clock.advance(11 * SECOND_US)
    got: list[Any] = []
    play(reader, colour, lambda source: [("get_or_load_many", (["a", "b"],), got.append)])
    assert got == [["old", "old"]]


def test_without_a_fall_back_a_soft_timeout_waits(clock: ManualClock) -> None:
    """It says when to serve what is stale, not when to fail."""
    cache = Cache(MemoryStore(clock=clock), policy=CachePolicy(soft_timeout=0.001))
    source = Slow()
    threading.Timer(0.05, source.gate.set).start()
    assert cache.get_or_load_many(["a"], source.blocks) == ["new"]
    assert len(source.asked) == 1


def test_failures_are_seen_by_who_is_strict(world: World) -> None:
    """Of reads and of writes; else they are counted."""
    for strict in (True, False):
        cache, source = one(world, coherence={"strict": strict}), Source()
        cache.get("nothing")
        store: Any = cache._store
        cut = [True]

        def turn(cut: list[bool] = cut, store: Any = store) -> None:
            store.cut = cut[0]

        turn()
        if strict:
            with pytest.raises(StoreUnavailable):
                cache.get_or_load_many(["a", "b"], source)
            store.cut = False
            source.meanwhile = turn
            with pytest.raises(StoreUnavailable):
                cache.get_or_load_many(["a", "b"], source)
        else:
            assert cache.get_or_load_many(["a", "b"], source) == ["v", "v"]
            store.cut = False
            source.meanwhile = turn
            assert cache.get_or_load_many(["c", "d"], source) == ["v", "v"]
            assert cache.stats().errors >= 4
        assert not cache._local._tickets


def test_a_failure_that_is_not_of_the_store_is_raised(world: World) -> None:
    """Nobody hides a mistake of ours; leases that were granted are given back."""
    cache = one(world)
    cache.get("nothing")
    store: Any = cache._store
    run_many = store.run_many

    def wrong(operations: Any) -> Any:
        raise ZeroDivisionError

    store.run_many = wrong
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load_many(["a", "b"], Source())
    store.run_many = run_many
    assert cache.get_or_load_many(["a", "b"], Source()) == ["v", "v"]


def test_a_load_of_many_looks_and_decides(make: Any, clock: ManualClock) -> None:
    """What is stale by key, NOT_MODIFIED for any of them; lives and tags hold for all."""
    cache = make(policy=STALE)
    cache.set_many({"a": "old", "b": "old"})
    clock.advance(11 * SECOND_US)
    seen: list[Any] = []

    def load(keys: list[str]) -> dict[str, Any]:
        run = loading()
        assert run is not None
        seen.append((run.key, dict(run.stales), run.stale))
        run.live(50)
        run.tag("late")
        return {"a": NOT_MODIFIED, "b": "new", "c": "first"}

    assert cache.get_or_load_many(["a", "b", "c"], load) == ["old", "new", "first"]
    assert seen == [("a", {"a": "old", "b": "old"}, "old")]
    clock.advance(49 * SECOND_US)
    assert cache.get_many(["a", "b", "c"]) == {"a": "old", "b": "new", "c": "first"}
    cache.invalidate_tags("late")
    assert set(cache.get_many(["a", "b", "c"]).values()) == {MISSING}


def test_not_modified_needs_something_stale(make: Any) -> None:
    """For its key; the others are stored."""
    cache = make()
    with pytest.raises(InvalidArgument, match="stale"):
        cache.get_or_load_many(["a", "b"], lambda keys: {"a": NOT_MODIFIED, "b": 1})
    assert cache.get("b") == 1


def test_a_late_tag_that_dies_during_the_load_keeps_all_out(make: Any) -> None:
    """As for one."""
    cache = make()
    told: list[Any] = []
    cache.cache.hooks.add(told.append, FenceRefused, Loaded)

    def load(keys: list[str]) -> dict[str, Any]:
        run = loading()
        assert run is not None
        cache.cache.invalidate_tags("late")
        run.tag("late")
        return dict.fromkeys(keys, 1)

    assert cache.get_or_load_many(["a", "b"], load) == [1, 1]
    assert set(cache.get_many(["a", "b"]).values()) == {MISSING}
    assert stats(cache).refused == 2
    assert [type(event) for event in told] == [FenceRefused, Loaded] * 2
    assert not told[1].stored


def test_what_is_removed_during_the_load_is_not_stored(make: Any) -> None:
    """That key alone."""
    cache, source = make(), Source()
    source.meanwhile = lambda: cache.cache.invalidate("a")
    assert cache.get_or_load_many(["a", "b"], source) == ["v", "v"]
    assert cache.get_many(["a", "b"]) == {"a": MISSING, "b": "v"}
    assert stats(cache).refused == 1


def test_nested_loads_of_many(make: Any) -> None:
    """Of any key that is being loaded, through any number of loads."""
    cache = make().cache

    def asks(key: str) -> Callable[[list[str]], Any]:
        return lambda keys: cache.get_or_load_many([key], Source())

    with pytest.raises(NestedLoad):
        cache.get_or_load_many(["a", "b"], asks("b"))
    with pytest.raises(NestedLoad):
        cache.get_or_load_many(
            ["a"], lambda _: cache.get_or_load_many(["b"], lambda _: cache.get_or_load("a", int))
        )
    assert cache.get_or_load_many(["a"], lambda _: {"a": asks("b")([])[0]}) == ["v"]
    assert not cache._local._tickets
    assert len(cache._local.flights) == 0


class Rude(Mapping[str, Any]):
    """A mapping that raises when it is asked."""

    def __getitem__(self, key: str) -> Any:
        raise LookupError

    def __iter__(self) -> Any:
        raise LookupError

    def __len__(self) -> int:
        return 1

    def __contains__(self, key: object) -> bool:
        raise ValueError("rude")


def test_a_mapping_that_raises_stands_for_its_loader(make: Any, clock: ManualClock) -> None:
    """As an error of the loader: what is stale serves."""
    cache = make(policy=STALE)
    cache.set("a", "old")
    clock.advance(11 * SECOND_US)
    assert cache.get_or_load_many(["a"], lambda keys: Rude()) == ["old"]
    with pytest.raises(ValueError, match="rude"):
        cache.get_or_load_many(["b"], lambda keys: Rude())


def test_what_is_left_out_is_nobodys(world: World) -> None:
    """Its lease is given back at once: the next caller loads, and does not wait."""
    here, there = one(world), one(world)
    assert here.get_or_load_many(["a", "b"], lambda keys: {"a": 1}) == [1, MISSING]
    assert there.get_or_load("b", lambda: 2, policy=CachePolicy(max_wait=3_000)) == 2
    assert here.get_or_load("c", lambda: MISSING) is MISSING
    assert there.get_or_load("c", lambda: 3, policy=CachePolicy(max_wait=3_000)) == 3


def test_an_interrupt_gives_leases_back(world: World) -> None:
    """Whatever ends the load."""
    here, there = one(world), one(world)

    def interrupted(keys: list[str]) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here.get_or_load_many(["a", "b"], interrupted)
    assert batches(here)[-1] == ["cache.release"] * 2
    assert there.get_or_load_many(["a", "b"], Source()) == ["v", "v"]
    assert len(batches(there)) == 3  # a look, leases, writes
    assert not here._local._tickets
    upkeep: Any = here._core.upkeep
    assert not upkeep._leases


def test_each_gets_a_copy_of_its_own(make: Any) -> None:
    """Duplicates in one call too."""
    cache = make()
    first, second = cache.get_or_load_many(["a", "a"], lambda keys: {"a": {"n": []}})
    first["n"].append(1)
    assert second == {"n": []}
    assert cache.get("a") == {"n": []}


def test_values_that_no_tier_keeps_reach_their_callers(make: Any) -> None:
    """The rest is kept."""
    cache = make()
    told: list[Any] = []
    cache.cache.hooks.add(told.append, NotStored)
    lock = threading.Lock()
    assert cache.get_or_load_many(["a", "b"], lambda keys: {"a": lock, "b": 1}) == [lock, 1]
    assert cache.get_many(["a", "b"]) == {"a": MISSING, "b": 1}
    assert {event.key for event in told} == {"a"}


def test_leases_are_given_back_when_a_later_batch_fails(world: World) -> None:
    """Who is strict gets the failure, and others need not wait."""
    cache, other = one(world, coherence={"strict": True}), one(world)
    other.set("a", "old", tags=["t"])
    other.invalidate_tags("t")
    cache.get("nothing")
    store: Any = cache._store
    run_many = store.run_many
    failed: list[int] = []

    def fails_once(operations: Any) -> Any:
        if len(store.batches) == 1 and not failed:
            failed.append(1)
            store.batches.append([])
            return [Error(StoreUnavailable("away"))] * len(operations)
        return run_many(operations)

    store.run_many = fails_once
    other.set("c", "old", tags=["t"])
    other.invalidate_tags("t")
    with pytest.raises(StoreUnavailable):
        cache.get_or_load_many(["a", "b", "c"], Source(), tags=["t"])
    upkeep: Any = cache._core.upkeep
    assert failed
    assert not upkeep._leases
    assert other.get_or_load("b", lambda: 2, policy=CachePolicy(max_wait=3_000)) == 2


def test_many_where_redis_cannot_be_asked_at_all(world: World) -> None:
    """Its versions unknown: one load, kept here for the staleness allowed."""
    cache = one(world)
    store: Any = cache._store
    cache._local.flush()
    store.cut = True
    source = Source()
    assert cache.get_or_load_many(["a", "b"], source) == ["v", "v"]
    assert cache.get_or_load_many(["a", "b"], source) == ["v", "v"]
    assert source.asked == [["a", "b"]]
