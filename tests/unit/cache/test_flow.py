"""The flow of one load: what users' code may do in it, what is left in time, and what comes of interrupted ones."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.cache import CachePolicy, Coherence, JsonCodec, NotEncodable, Wire, bulk
from backendkit.cache import flow as flows
from backendkit.cache.behind import Behind
from backendkit.cache.bell import Bell
from backendkit.cache.calls import Calls
from backendkit.cache.errors import LoadTimeout, NestedLoad
from backendkit.cache.events import Loaded, NotStored, StaleServed
from backendkit.cache.face import Cache
from backendkit.cache.io import BlockingIO
from backendkit.cache.loading import loading
from backendkit.core import context
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.flights import Interrupted
from backendkit.core.flow import step
from backendkit.core.outcome import Error
from backendkit.stores import MemoryStore
from tests.ground.waiting import eventually
from tests.unit.cache.stepped import Running, SteppedIO
from tests.unit.cache.world import World

STALE = CachePolicy(ttl=10, max_stale=100, beta=0)


@pytest.fixture
def clock() -> ManualClock:
    """Everybody's."""
    return ManualClock(mono_us=1_000_000)


@pytest.fixture
def world(clock: ManualClock) -> World:
    """One server."""
    return World(clock)


def one(world: World, **options: Any) -> Cache:
    """A process of the fleet."""
    coherence = Coherence(max_l1_staleness=3_600, **options.pop("coherence", {}))
    options.setdefault("codec", JsonCodec())
    return world.cache(namespace="n", coherence=coherence, **options)


def fail() -> Any:
    """Load as from a source that is away."""
    raise OSError("away")


# What users' code may raise (M7)


class Rude:
    """A value that raises whatever it is told to."""

    raises: dict[str, bool]

    def __init__(self, **raises: bool) -> None:
        self.__dict__["raises"] = raises

    def __deepcopy__(self, memo: Any) -> Rude:
        if self.raises.get("copy"):
            raise ZeroDivisionError
        return Rude(**self.raises)

    def __sizeof__(self) -> int:
        if self.raises.get("size"):
            raise ValueError("of no size")
        return 100


class RudeCodec:
    """Keeps any `Rude`, and raises whatever it is told to."""

    code = 9

    def __init__(self) -> None:
        self.encoding: Exception | None = None
        self.decoding: Exception | None = None
        self.raises: dict[str, bool] = {}

    def encode(self, value: Any) -> bytes:
        """Return bytes."""
        if self.encoding is not None:
            raise self.encoding
        self.raises = value.raises
        return b"rude" * 100

    def decode(self, data: bytes, /) -> Any:
        """Return a value."""
        if self.decoding is not None:
            raise self.decoding
        assert data == b"rude" * 100
        return Rude(**self.raises)


@pytest.mark.parametrize("value", [threading.Lock(), Rude(copy=True), Rude(size=True)])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_cannot_be_copied_serves_and_is_not_kept(
    clock: ManualClock, value: Any, colour: str
) -> None:
    """Of a cache of one tier; whoever asks next loads again, and a stale copy is gone."""
    cache = Cache(MemoryStore(clock=clock))
    told: list[Any] = []
    cache.hooks.add(told.append, NotStored, Loaded)
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)
        return value

    async def aload() -> Any:
        return load()

    cache.set("k", "before")
    cache.expire("k")
    for _ in range(2):
        if colour == "sync":
            assert cache.get_or_load("k", load) is value
        else:
            assert asyncio.run(cache.aio.get_or_load("k", aload)) is value
    assert len(loads) == 2
    assert cache.stats().entries == 0
    assert [type(event) for event in told] == [NotStored, Loaded] * 2
    assert not told[1].stored


def test_set_says_what_cannot_be_kept(clock: ManualClock) -> None:
    """Nothing is stored then, and what may be shared is."""
    cache, lock = Cache(MemoryStore(clock=clock)), threading.Lock()
    with pytest.raises(NotEncodable, match="shared"):
        cache.set_many({"a": 1, "k": lock})
    with pytest.raises(NotEncodable, match="shared"):
        cache.set("k", lock, lease=cache.lease("k"))
    assert cache.stats().entries == 0
    cache.set("k", lock, policy=CachePolicy(sharing="shared"))
    assert cache.get("k") is lock


@pytest.mark.parametrize("raises", [{"copy": True}, {"size": True}, {}])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("sharing", ["safe", "shared"])
def test_what_the_codec_keeps_is_kept(
    world: World, raises: dict[str, bool], compressed: bool, sharing: Any
) -> None:
    """As bytes, where it cannot be copied; loaded, set, or read from Redis."""
    wire = Wire(RudeCodec(), compress_over=10 if compressed else None)
    policy = CachePolicy(sharing=sharing)
    cache, other = (one(world, codec=wire, policy=policy) for _ in range(2))
    cache.get_or_load("k", lambda: Rude(**raises))
    cache.set("s", Rude(**raises))
    for each in (cache, other):
        for key in "ks":
            first = each.get_or_load(key, fail)
            assert isinstance(first, Rude)
            assert (each.get(key) is first) == (sharing == "shared")
    assert other.stats().l2_hits == 2
    assert other.stats().entries == 2


def test_a_codec_may_raise_anything_when_it_encodes(world: World) -> None:
    """Readers get their value, nothing is stored, others need not wait; `set` says it."""
    codec = RudeCodec()
    codec.encoding = RecursionError()
    cache, other = one(world, codec=codec), one(world, codec=codec)
    value = Rude()
    assert isinstance(cache.get_or_load("k", lambda: value), Rude)
    assert isinstance(other.get_or_load("k", lambda: value), Rude)
    assert cache.stats().entries == 0
    assert cache.stats().refused == 0
    with pytest.raises(NotEncodable, match="RecursionError"):
        cache.set("k", value)
    strict = one(world, codec=codec, coherence={"strict": True})
    with pytest.raises(NotEncodable):
        strict.get_or_load("k", lambda: value)
    assert not strict._local._tickets


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_codec_may_raise_anything_on_a_hit(world: World, colour: str) -> None:
    """What cannot be made any more is a miss for those who read, and is loaded for those who load."""
    codec = RudeCodec()
    cache = one(world, codec=codec)
    told: list[Any] = []
    cache.hooks.add(told.append, NotStored)

    @cache.cached("f")
    def function() -> Any:
        return "rude"

    @cache.cached("g")
    async def afunction() -> Any:
        return "rude"

    async def loaded() -> Any:
        return "loaded"

    async def play() -> None:
        face = cache.aio
        assert await face.get("k", "default") == "default"
        assert await face.get_or_load("k", loaded) == "loaded"
        assert await afunction() == "rude"

    for key in (function.key(), afunction.key(), "k", "m"):
        cache.set(key, Rude())
    codec.decoding = MemoryError()
    if colour == "async":
        asyncio.run(play())
    else:
        assert cache.get("k", "default") == "default"
        assert cache.get_or_load("k", lambda: "loaded") == "loaded"
        assert function() == "rude"
    assert cache.get_or_load_many(["m", "m"], lambda keys: dict.fromkeys(keys, 7)) == [7, 7]
    assert {"k", "m"} <= {event.key for event in told}
    cache.clear()
    # Encoded, and never to be decoded: each caller loads for itself.
    assert cache.get_or_load("n", Rude).raises == {}
    assert cache.get_or_load_many(["o"], lambda keys: {"o": Rude()})[0].raises == {}


@pytest.mark.parametrize("within", [0, 50])
def test_what_is_stale_and_cannot_be_made_does_not_serve(
    world: World, clock: ManualClock, within: float
) -> None:
    """Neither for callers nor for the loader's own look."""
    codec = RudeCodec()
    policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=within)
    cache = one(world, codec=codec, policy=policy)
    cache.set("k", Rude())
    clock.advance(11 * SECOND_US)
    codec.decoding = KeyError()
    with pytest.raises(OSError, match="away"):
        cache.get_or_load("k", fail)
    assert cache.get_many(["k"])


def test_a_chance_that_raises_harms_nobody(clock: ManualClock) -> None:
    """What the cache asks of others for its own ends."""

    def chance() -> float:
        raise ArithmeticError

    cache = Cache(MemoryStore(clock=clock), policy=CachePolicy(jitter=0.1), chance=chance)
    assert cache.get_or_load("k", lambda: 1) == 1
    assert cache.stats().entries == 0


def test_hooks_and_keys(make: Any) -> None:
    """A hook that raises is contained; a key that is none is named, hashable or not."""
    cache = make()

    def hook(event: Any) -> None:
        raise RuntimeError("a hook")

    cache.cache.hooks.add(hook)
    assert cache.get_or_load("k", lambda: 1) == 1
    keys: list[Any] = [[], {}, None, 1, ""]
    for key in keys:
        for call in (cache.get, lambda key: cache.get_or_load(key, int)):
            with pytest.raises(InvalidArgument, match="key"):
                call(key)


@pytest.mark.filterwarnings("error")
def test_a_synchronous_loader_that_would_have_to_be_awaited(clock: ManualClock) -> None:
    """A clear error, and no warning of a coroutine that was never awaited."""
    cache = Cache(MemoryStore(clock=clock))

    async def load() -> int:
        return 1

    class Promise:
        def __await__(self) -> Any:
            yield

    for loader in (load, Promise):
        with pytest.raises(InvalidArgument, match="aio"):
            cache.get_or_load("k", loader)
    with pytest.raises(InvalidArgument, match="aio"):
        cache.get_or_load_many(["k"], lambda keys: load())  # type: ignore[arg-type, return-value]
    assert cache.stats().entries == 0


# What is stale, and what is not revived (M8)


@pytest.mark.parametrize("remove", ["invalidate", "clear", "tags"])
@pytest.mark.parametrize("hard", [None, 3])
@pytest.mark.parametrize("many", [False, True])
def test_a_soft_timeout_does_not_revive_what_was_removed_meanwhile(
    clock: ManualClock, remove: str, hard: float | None, many: bool
) -> None:
    """At whichever step: who has waited gets what was loaded, or an error."""
    served = 0
    for stop in range(5):
        policy = CachePolicy(ttl=10, max_stale=100, soft_timeout=2, hard_timeout=hard)
        cache = Cache(MemoryStore(clock=clock), policy=policy)
        cache.set("k", "old", tags=["t"])
        clock.advance(11 * SECOND_US)
        spawned: list[Running] = []
        store: Any = cache._store
        io = SteppedIO(store, cache._local.flights, spawned)
        call = Calls(cache._core).one("k", lambda: lambda: "new", tags=["t"])

        def load(keys: list[str]) -> Any:
            return lambda: dict.fromkeys(keys, "new")

        core = cache._core
        flow = bulk.get_or_load_many(io, core, [call], load) if many else flows.get_or_load(io, core, call)  # fmt: skip
        reading = Running(flow)
        for _ in range(stop):
            if reading.outcome is None:
                reading.step()
        if reading.outcome is not None:
            assert ended(reading, spawned) in ("old", ["old"])
            served += 1
            continue
        REMOVE[remove](cache)
        assert ended(reading, spawned) in (LoadTimeout if hard else None, "new", ["new"])
    assert served


REMOVE: dict[str, Callable[[Cache], None]] = {
    "invalidate": lambda cache: cache.invalidate("k"),
    "clear": lambda cache: cache.clear(),
    "tags": lambda cache: cache.invalidate_tags("t"),
}


def ended(reading: Running, spawned: list[Running]) -> Any:
    """Step a flow to its end, while what it has spawned stands still; return its value, or its error's class."""
    while reading.outcome is None:
        reading.step()
    for running in spawned:
        running.work.close()
    return (
        type(reading.outcome.error) if isinstance(reading.outcome, Error) else reading.outcome.value
    )


def test_an_expired_copy_serves_those_who_wait(clock: ManualClock) -> None:
    """`expire` leaves it for emergencies, also to loads that were under way."""
    cache = Cache(MemoryStore(clock=clock), policy=STALE)
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)

    def load() -> Any:
        cache.expire("k")
        return fail()

    assert cache.get_or_load("k", load) == "old"
    assert cache.get_or_load("k", load) == "old"


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("within", [0, 50])
def test_every_interleaving_of_a_stale_read_and_a_removal(heard: bool, within: float) -> None:
    """Whatever the step at which it is learnt: what is removed does not serve in the loader's place."""
    served = 0
    for stop in range(30):
        clock = ManualClock(mono_us=1_000_000)
        world = World(clock)
        policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=within, beta=0)
        cache, other = one(world, policy=policy), one(world, policy=policy)
        other.set("k", "old")
        hear(cache)
        clock.advance(11 * SECOND_US)
        spawned: list[Running] = []
        store: Any = cache._store
        io = SteppedIO(store, cache._local.flights, spawned)
        call = Calls(cache._core).one("k", lambda: fail)
        reading = Running(flows.get_or_load(io, cache._core, call))
        for _ in range(stop):
            if reading.outcome is None:
                reading.step()
        if reading.outcome is not None:
            assert ended(reading, spawned) == "old"
            served += 1
        else:
            (other if heard else cache).invalidate("k")
            hear(cache)
            assert ended(reading, spawned) is OSError, f"revived after {stop} steps"
    assert served


def hear(cache: Cache) -> None:
    """Let all messages through."""
    upkeep: Any = cache._core.upkeep
    upkeep.receive(1_000)


def test_a_removal_at_the_last_moment_keeps_the_error(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is stale and its being kept for a while."""
    cache = Cache(MemoryStore(clock=clock), policy=STALE)
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)
    core = cache._core
    throttled = core.throttled

    def late(self: Any, *args: Any) -> Any:
        cache.invalidate("k")
        return throttled(*args)

    monkeypatch.setattr(type(core), "throttled", late)
    with pytest.raises(OSError, match="away"):
        cache.get_or_load("k", fail)


# What is left in time


def hangs(gate: threading.Event, loads: list[str], key: str) -> Callable[[], str]:
    """Return a loader that answers when the gate opens."""

    def load() -> str:
        loads.append(key)
        gate.wait(30)
        return f"new {key}"

    return load


def test_where_no_thread_is_free_nobody_waits_longer_for_it(clock: ManualClock) -> None:
    """Than the policy says: what is stale serves, else it is an error; no load runs where it could not be left."""
    policy = CachePolicy(ttl=10, max_stale=100, hard_timeout=0.05)
    cache = Cache(MemoryStore(clock=clock), policy=policy)
    io: BlockingIO = cache._io
    io._bounded = Behind(1)
    cache.set("stale", "old")
    clock.advance(11 * SECOND_US)
    gate, loads = threading.Event(), list[str]()
    with pytest.raises(LoadTimeout):
        cache.get_or_load("a", hangs(gate, loads, "a"))
    for _ in range(2):
        with pytest.raises(LoadTimeout):
            cache.get_or_load("b", hangs(gate, loads, "b"))
        assert cache.get_or_load("stale", hangs(gate, loads, "stale")) == "old"
    assert loads == ["a"]
    assert len(cache._local.flights) == 1
    gate.set()
    eventually(lambda: cache.get("a") == "new a", "the load has gone on")
    eventually(lambda: not len(cache._local.flights), "its thread is free")
    assert cache.get_or_load("b", hangs(gate, loads, "b")) == "new b"


def test_a_thread_that_becomes_free_in_time_is_used(clock: ManualClock) -> None:
    """A crowd of quick loads does not fail for there being few threads."""
    cache = Cache(MemoryStore(clock=clock), policy=CachePolicy(hard_timeout=30))
    io: BlockingIO = cache._io
    io._bounded = Behind(2)
    got: list[int] = []

    def ask(number: int) -> None:
        got.append(cache.get_or_load(f"k{number}", lambda: number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))


def test_one_thread_serves_all_who_wait_for_its_key(clock: ManualClock) -> None:
    """Only who leads needs one; and after a timeout the same caller joins its own earlier load."""
    policy = CachePolicy(ttl=10, max_stale=100, soft_timeout=0.02)
    cache = Cache(MemoryStore(clock=clock), policy=policy)
    io: BlockingIO = cache._io
    io._bounded = Behind(4)  # room that is not needed
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)
    gate, loads = threading.Event(), list[str]()
    for _ in range(3):
        assert cache.get_or_load("k", hangs(gate, loads, "k")) == "old"
    assert loads == ["k"]
    gate.set()
    eventually(lambda: cache.get("k") == "new k", "the load has gone on")
    assert cache.stats().stale == 3


def test_who_joins_a_load_that_gets_no_thread_leads_it(clock: ManualClock) -> None:
    """Somebody else's lack of time is not its error."""
    cache = Cache(MemoryStore(clock=clock))
    io: BlockingIO = cache._io
    io._bounded = Behind(1)
    io._bounded._room.acquire()
    hasty, patient = CachePolicy(hard_timeout=0.3), CachePolicy(hard_timeout=30)
    got: list[Any] = []

    def ask(policy: CachePolicy) -> None:
        try:
            got.append(cache.get_or_load("k", lambda: "loaded", policy=policy))
        except LoadTimeout as error:
            got.append(type(error).__name__)

    first = threading.Thread(target=ask, args=(hasty,))
    first.start()
    eventually(lambda: "k" in cache._local.flights, "somebody waits for a thread")
    others = [threading.Thread(target=ask, args=(each,)) for each in (CachePolicy(), patient)]
    for thread in others:
        thread.start()
    first.join()
    io._bounded._room.release()
    for thread in others:
        thread.join()
    assert sorted(got) == ["LoadTimeout", "loaded", "loaded"]


def test_no_thread_at_all(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may leave gets an error at once; who may not loads here."""
    cache = Cache(MemoryStore(clock=clock))

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        with pytest.raises(LoadTimeout):
            cache.get_or_load("k", lambda: 1, policy=CachePolicy(hard_timeout=60))
        assert cache.get_or_load("k", lambda: 1, policy=CachePolicy(soft_timeout=60)) == 1
    assert cache.get_or_load("l", lambda: 1, policy=CachePolicy(hard_timeout=60)) == 1


def test_what_ends_a_thread_is_for_who_started_it(clock: ManualClock) -> None:
    """Others who wait for the key load for themselves."""
    cache = Cache(MemoryStore(clock=clock), policy=CachePolicy(hard_timeout=30))
    begun, gate = threading.Event(), threading.Event()

    def leaves() -> Any:
        begun.set()
        gate.wait(30)
        raise SystemExit(3)

    def lead() -> None:
        with pytest.raises(SystemExit):
            cache.get_or_load("k", leaves)

    leading = threading.Thread(target=lead)
    leading.start()
    assert begun.wait(30)
    got: list[Any] = []
    joining = threading.Thread(target=lambda: got.append(cache.get_or_load("k", lambda: "v")))
    joining.start()
    gate.set()
    joining.join()
    leading.join()
    assert got == ["v"]


SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    "policy",
    [
        CachePolicy(ttl=10),
        CachePolicy(ttl=10, hard_timeout=30),
        CachePolicy(ttl=10, max_stale=100, soft_timeout=30),
        CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=50, beta=0),
    ],
    ids=["plain", "hard", "soft", "behind"],
)
def test_a_loader_runs_in_its_callers_context(
    clock: ManualClock, colour: str, policy: CachePolicy
) -> None:
    """Wherever it runs: records tell the request's id, variables are as they were."""
    cache = Cache(MemoryStore(clock=clock), policy=policy)
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)
    seen: list[Any] = []

    def load() -> str:
        seen.append((context.request_id(), SEEN.get()))
        return "new"

    async def aload() -> str:
        return load()

    async def awaited() -> None:
        await cache.aio.get_or_load("k", aload)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    def ask() -> None:
        SEEN.set("something")
        request = context.Request("r-1")
        token = context.enter(request)
        if colour == "sync":
            cache.get_or_load("k", load)
        else:
            asyncio.run(awaited())
        context.leave(request, token)

    contextvars.copy_context().run(ask)
    eventually(lambda: seen == [("r-1", "something")], "the loader has run")


# Interrupted loads, cycles, loops that close, forks


def test_followers_of_an_interrupted_load_load_for_themselves(clock: ManualClock) -> None:
    """A Ctrl-C that hits the leader is nobody else's error."""
    cache = Cache(MemoryStore(clock=clock))
    begun, gate = threading.Event(), threading.Event()

    def stopped() -> Any:
        begun.set()
        gate.wait(30)
        raise KeyboardInterrupt

    def lead() -> None:
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_load("k", stopped)

    async def awaited() -> str:
        async def load() -> str:
            return "task"

        return await cache.aio.get_or_load("k", load)

    leading = threading.Thread(target=lead)
    leading.start()
    assert begun.wait(30)
    got: list[Any] = []
    followers = [
        threading.Thread(target=lambda: got.append(cache.get_or_load("k", lambda: "thread"))),
        threading.Thread(target=lambda: got.append(asyncio.run(awaited()))),
    ]
    for follower in followers:
        follower.start()
    flight = cache._local.flights._flights["k"]
    eventually(lambda: flight._waiters, "the task waits")
    gate.set()
    for thread in [leading, *followers]:
        thread.join()
    assert got[0] == got[1]
    assert got[0] in ("thread", "task")


def test_a_loop_that_closes_leaves_its_loads_to_others(clock: ManualClock) -> None:
    """A thread that waits for a task's load goes on by itself when the task is gone with its loop."""
    cache = Cache(MemoryStore(clock=clock))
    begun = threading.Event()
    got: list[Any] = []

    async def never() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async def leave() -> None:
        task = asyncio.ensure_future(cache.aio.get_or_load("k", never))
        await asyncio.to_thread(eventually, lambda: got, "somebody waits")
        del task

    def follow() -> None:
        assert begun.wait(30)
        got.append("waits")
        got.append(cache.get_or_load("k", lambda: "mine"))

    follower = threading.Thread(target=follow)
    follower.start()
    asyncio.run(leave())
    follower.join()
    assert got == ["waits", "mine"]
    assert not cache._local._tickets


def test_a_cancellation_inside_a_loader_is_its_own(make: Any, clock: ManualClock) -> None:
    """Something that it awaits was cancelled, and not the load: its callers get that, and a lease is given back."""
    cache = make().cache
    loads: list[int] = []

    async def cancelled() -> Any:
        loads.append(1)
        inner = asyncio.ensure_future(asyncio.Event().wait())
        inner.cancel()
        await inner

    async def play() -> None:
        with pytest.raises(asyncio.CancelledError):
            await cache.aio.get_or_load("k", cancelled)

        async def load() -> int:
            return 1

        assert await cache.aio.get_or_load("k", load, policy=CachePolicy(max_wait=3_000)) == 1

    asyncio.run(play())
    assert loads == [1]


def test_a_load_that_is_cancelled_gives_its_lease_back(world: World) -> None:
    """With its loop: nobody else waits for it."""
    cache, other = one(world), one(world)

    async def never() -> Any:
        await asyncio.Event().wait()

    async def leave() -> None:
        task = asyncio.ensure_future(cache.aio.get_or_load("k", never))
        for _ in range(10):
            await asyncio.sleep(0)
        del task

    asyncio.run(leave())
    assert other.get_or_load("k", lambda: 1, policy=CachePolicy(max_wait=3_000)) == 1
    assert not cache._local._tickets
    upkeep: Any = cache._core.upkeep
    assert not upkeep._leases


def test_the_last_waiter_may_go_too(world: World) -> None:
    """Nobody waits any more: the load goes on, and what it brings is stored."""
    cache = one(world)

    async def play() -> None:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def load() -> str:
            begun.set()
            await gate.wait()
            return "v"

        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(cache.aio.get_or_load("k", load)) for _ in range(2)
        ]
        waiting.append(asyncio.ensure_future(cache.aio.get_or_load_many(["k", "l"], load_many)))
        await begun.wait()
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        gate.set()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)
        assert all(task.cancelled() for task in waiting)

    async def load_many(keys: list[str]) -> dict[str, str]:
        return dict.fromkeys(keys, "v")

    asyncio.run(play())
    assert cache.get_many(["k", "l"]) == {"k": "v", "l": "v"}
    assert not cache._local._tickets


def test_a_flow_that_is_closed_leaves_no_ticket(world: World) -> None:
    """A loop that is closed under its tasks: at whichever step."""
    for stop in range(1, 12):
        cache = one(world)
        store: Any = cache._store
        io = SteppedIO(store, cache._local.flights, [])
        call = Calls(cache._core).one(f"k{stop}", lambda: lambda: "v")
        reading = Running(flows.get_or_load(io, cache._core, call))
        for _ in range(stop):
            if reading.outcome is None:
                reading.step()
        reading.work.close()
        assert not cache._local._tickets
        assert len(cache._local.flights) == 0
        upkeep: Any = cache._core.upkeep
        assert not upkeep._leases


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_cycle_of_loads_is_told(make: Any, colour: str) -> None:
    """`a` asks for `b`, which asks for `a`: at once, with and without timeouts."""
    cache = make().cache
    for policy in (CachePolicy(), CachePolicy(hard_timeout=30)):

        def ask(key: str, other: str, policy: CachePolicy = policy) -> Any:
            return cache.get_or_load(key, lambda: ask(other, key), policy=policy)

        async def aask(key: str, other: str, policy: CachePolicy = policy) -> Any:
            async def load() -> Any:
                return await aask(other, key)

            return await cache.aio.get_or_load(key, load, policy=policy)

        with pytest.raises(NestedLoad):
            ask("a", "b") if colour == "sync" else asyncio.run(aask("a", "b"))


def test_a_loader_that_forks(clock: ManualClock) -> None:
    """It returns in both processes: in the child too nothing outlives what removes it."""
    cache = Cache(MemoryStore(clock=clock))
    children: list[int] = []

    def load() -> str:
        children.append(os.fork())
        return "v"

    value = cache.get_or_load("k", load, tags=["t"])
    if not children[0]:
        wrong = value != "v" or len(cache._local.flights) > 0
        cache.invalidate_tags("t")
        os._exit(1 if wrong or cache.get("k") is not None else 0)
    assert value == "v"
    assert cache.get("k") == "v"
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_a_stop_iteration_is_no_end_of_the_flow(make: Any) -> None:
    """It is an error as others are: a RuntimeError, as in any generator."""
    cache = make()
    with pytest.raises(RuntimeError, match="StopIteration"):
        cache.get_or_load("k", lambda: next(iter(())))
    assert cache.get_or_load("k", lambda: 1) == 1


def test_an_interruption_that_repeats_is_told(clock: ManualClock) -> None:
    """Whoever retries does so once."""

    async def play() -> None:
        cache = Cache(MemoryStore(clock=clock))
        loads: list[int] = []

        async def load() -> Any:
            loads.append(1)
            raise Interrupted

        with pytest.raises(Interrupted):
            await cache.aio.get_or_load("k", load)
        assert len(loads) == 2

    asyncio.run(play())


def test_the_event_tells_each_who_got_what_is_stale(make: Any, clock: ManualClock) -> None:
    """Throttled copies too: they are no hits."""
    cache = make(policy=STALE)
    told: list[Any] = []
    cache.cache.hooks.add(told.append, StaleServed)
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)
    before = cache.cache.stats().l1_hits
    for _ in range(3):
        assert cache.get_or_load("k", fail) == "old"
    assert [event.reason for event in told] == ["error"] * 3
    assert cache.cache.stats().stale == 3
    assert cache.cache.stats().l1_hits == before
    assert cache.cache.stats().loads == 1


def test_waiting_for_bells_is_bounded_as_a_whole(clock: ManualClock) -> None:
    """However many there are."""
    cache = Cache(MemoryStore(clock=clock))

    async def listen(io: Any) -> float:
        start = time.monotonic()
        await io.listen([Bell() for _ in range(1_000)], 20_000)
        return time.monotonic() - start

    assert step(listen(cache._io)) < 10
    assert asyncio.run(listen(cache.aio._io)) < 10


def test_no_room_behind_for_what_is_stale_in_redis(world: World, clock: ManualClock) -> None:
    """Then its caller waits for the load."""
    policy = CachePolicy(ttl=10, max_stale=100, stale_while_revalidate=50, beta=0)
    writer, reader = one(world, policy=policy), one(world, policy=policy)
    writer.set("k", "old")
    clock.advance(11 * SECOND_US)
    io: BlockingIO = reader._io
    io._behind._room = threading.Semaphore(0)
    assert reader.get_or_load("k", lambda: "new") == "new"
    assert not reader._local._tickets


@pytest.mark.parametrize("many", [False, True])
def test_what_lands_before_the_take_off_serves(
    make: Any, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody loads what somebody has just brought."""
    cache: Cache = make().cache
    local = cache._local
    monkeypatch.setattr(type(local), "part", lambda self, key: cache.set(key, "landed"))
    if many:
        assert cache.get_or_load_many(["k"], lambda keys: fail()) == ["landed"]
    else:
        assert cache.get_or_load("k", fail) == "landed"
    assert cache.stats().loads == 0


def test_a_caller_that_its_own_thread_would_have_to_wait_for(clock: ManualClock) -> None:
    """On a loop's thread, a flight that a task of that loop leads: with a timeout too it loads for itself."""
    cache = Cache(MemoryStore(clock=clock))

    async def play() -> None:
        gate = asyncio.Event()

        async def load() -> str:
            await gate.wait()
            return "task's"

        leading = asyncio.ensure_future(cache.aio.get_or_load("k", load))
        for _ in range(5):
            await asyncio.sleep(0)
        policy = CachePolicy(hard_timeout=30)
        assert cache.get_or_load("k", lambda: "own", policy=policy) == "own"
        gate.set()
        assert await leading == "task's"

    asyncio.run(play())


def test_versions_that_cannot_be_read_are_no_hurt(world: World) -> None:
    """Where Redis goes between two questions of one load: it loads, and stores nothing there."""
    cache = one(world)
    store: Any = cache._store
    cache.get("nothing")
    run = store.run

    def goes(operation: Any) -> Any:
        store.run = run
        reply = run(operation)
        store.cut = True
        return reply

    store.run = goes
    assert cache.get_or_load("k", lambda: "v", tags=["unknown"]) == "v"
    assert cache.stats().errors >= 1


def test_a_late_tag_that_cannot_be_looked_up_keeps_the_value_out(world: World) -> None:
    """Nobody knows whether it was invalidated."""
    cache = one(world)
    store: Any = cache._store

    def load() -> str:
        running = loading()
        assert running is not None
        running.tag("late")
        store.cut = True
        return "v"

    assert cache.get_or_load("k", load) == "v"
    assert cache.stats().entries == 0


def test_a_load_that_is_waited_for_no_longer(world: World) -> None:
    """In another process: after `max_wait` it is loaded here, and not stored; nor is it called a refusal."""
    here, there = one(world, policy=CachePolicy(max_wait=0)), one(world)

    def load() -> str:
        assert here.get_or_load("k", lambda: "mine") == "mine"
        assert here.stats().entries == 0
        return "theirs"

    assert there.get_or_load("k", load) == "theirs"
    assert here.stats().refused == 0
