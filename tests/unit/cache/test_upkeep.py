"""What goes on beside the callers of a cache, turn by turn: late removals, the queue, replays, one keeper for many."""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from itertools import pairwise
from typing import Any

import pytest

from backendkit.cache import Coherence, JsonCodec, UpkeepFailed
from backendkit.cache.channel import Channel, Ear
from backendkit.cache.decide import tier, versions
from backendkit.cache.face import Cache
from backendkit.cache.keeper import Keeper
from backendkit.cache.names import DROP, Names, read_message
from backendkit.cache.upkeep import Busy, anew
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import ReplyTimeout, StoreClosed, StoreUnavailable
from tests.ground.waiting import eventually
from tests.unit.cache.world import World


@pytest.fixture
def world() -> World:
    """One server."""
    return World(ManualClock(mono_us=1_000_000))


def one(world: World, **options: Any) -> tuple[Cache, Any, Any]:
    """Return a cache, its store and its upkeep."""
    coherence = Coherence(max_l1_staleness=2, **options.pop("coherence", {}))
    cache = world.cache(namespace="n", codec=JsonCodec(), coherence=coherence, **options)
    return cache, cache._store, cache._core.upkeep


class Late:
    """Has the next operation run only when the test says so; its caller is told that no answer came."""

    def __init__(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        self.held: list[Any] = []
        self._store = store
        self._run = store.run
        patch.setattr(store, "run", self.run)

    def run(self, operation: Any) -> Any:
        """Hold it back."""
        self.held.append(operation)
        raise ReplyTimeout("no answer came")

    def land(self, patch: pytest.MonkeyPatch) -> None:
        """Let it run."""
        patch.setattr(self._store, "run", self._run)
        for operation in self.held:
            self._store.run(operation)


REMOVALS = {
    "invalidate": lambda cache: cache.invalidate("k"),
    "expire": lambda cache: cache.expire("k"),
    "tags": lambda cache: cache.invalidate_tags("t"),
    "clear": lambda cache: cache.clear(),
    "set": lambda cache: cache.set("k", "new"),
}


@pytest.mark.parametrize("what", list(REMOVALS))
def test_a_removal_that_runs_after_its_caller_has_given_up_is_heard(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What was read in between goes, although the message is this process's own."""
    cache, store, upkeep = one(world)
    cache.get_or_load("k", lambda: "old", tags=["t"])
    late = Late(store, monkeypatch)
    with pytest.raises(ReplyTimeout):
        REMOVALS[what](cache)
    monkeypatch.undo()
    assert cache.get("k") == "old"  # nothing has happened yet
    late.land(monkeypatch)
    upkeep.receive(100)
    assert cache.get("k") == ("new" if what == "set" else None)


def test_messages_of_removals_that_returned_are_not_heard(world: World) -> None:
    """What was set stays in the first tier: its own message says nothing new."""
    cache, _, upkeep = one(world)
    cache.set("k", "v")
    upkeep.receive(100)
    assert cache.stats().entries == 1


def test_more_removals_are_given_up_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then all of them up to the latest are handled like another's: dropping too much is safe."""
    monkeypatch.setattr("backendkit.cache.names._MOST_GIVEN_UP", 3)
    names = Names("n")
    posts = [names.post(DROP, "k")[1] for _ in range(6)]
    messages: list[Any] = [read_message(raw) for raw in posts]
    assert all(names.is_done(message) for message in messages)
    for raw in posts[1:5]:
        names.give_up(raw)
    assert [names.is_done(message) for message in messages] == [False] * 5 + [True]
    other: Any = read_message(Names("n").post(DROP, "k")[1])
    assert not names.is_done(other)


def test_the_queue_knows_its_keys(world: World) -> None:
    """A key waits as long as any of its removals does; each is kept once."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})
    store.cut = True
    cache.invalidate("a", "b")
    cache.invalidate("a")
    cache.expire("a")
    assert [upkeep.trusts(key) for key in "abc"] == [False, False, True]
    assert len(upkeep._queue) == 3
    store.cut = False
    upkeep.flush_queue(cache._core)
    assert [upkeep.trusts(key) for key in "abc"] == [True, True, True]
    assert not upkeep._queued


def test_what_waits_costs_the_same_however_long_the_queue(world: World) -> None:
    """Each is counted by itself."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue", "max_queue": 20_000})
    store.cut = True

    def took() -> float:
        began = time.thread_time()
        for _ in range(200):
            cache.invalidate(f"k{len(upkeep._queue)}")
        return time.thread_time() - began

    first = min(took() for _ in range(3))
    while len(upkeep._queue) < 18_000:
        names = cache._core.names
        key = f"k{len(upkeep._queue)}"
        upkeep.queue([key], tier.invalidate(names.keys(key), names.post(DROP, key)))
    assert min(took() for _ in range(3)) < 10 * first + 0.05


def test_versions_read_while_a_clearing_waits_are_not_kept(world: World) -> None:
    """What lies under them was cleared when it has landed."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})
    cache.set("k", "old")
    store.cut = True
    cache.clear()
    store.cut = False
    cache.set("other", 1)  # asks for the namespace's version, which is the old one still
    upkeep.flush_queue(cache._core)
    assert cache.get("k") is None


def test_a_queued_expiry_leaves_the_stale_copy(world: World) -> None:
    """And what waits for longer than it takes is tried again."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})
    store.cut = True
    cache.expire("k")
    assert upkeep.tend(cache._core, 10.0) == pytest.approx(10.05)
    assert upkeep.tend(cache._core, 10.05) == pytest.approx(10.15)
    store.cut = False
    assert upkeep.tend(cache._core, 10.15) == pytest.approx(10.35)
    assert upkeep.trusts("k")
    assert upkeep.tend(cache._core, 10.35) == float("inf")


def test_a_closed_store_ends_the_upkeep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a lease is held or something waits."""
    cache, store, upkeep = one(world, coherence={"on_unreachable": "queue"})

    def closed(_: Any) -> Any:
        raise StoreClosed("closed")

    monkeypatch.setattr(store, "run", closed)
    upkeep.hold(b"t" * 16, cache._core.names.keys("k"))
    assert upkeep.tend(cache._core, 1.0) == pytest.approx(1.3)
    with pytest.raises(StoreClosed):
        upkeep.tend(cache._core, 2.0)
    upkeep.let_go(b"t" * 16)
    cache.invalidate("k")
    with pytest.raises(StoreClosed):
        upkeep.tend(cache._core, 3.0)


def test_what_is_repeated_is_another_message_with_versions_of_its_own(world: World) -> None:
    """A replay must not bring back a version that somebody else has replaced since."""
    cache, _, upkeep = one(world)
    other, _, _ = one(world)
    cache.invalidate_tags("t")
    other.invalidate_tags("t")
    repeated = anew(cache._core, upkeep._recent[0][1])
    assert repeated.script is versions.BUMP
    before = upkeep._recent[0][1].args
    assert repeated.args[0] == before[0]
    assert not set(repeated.args[1:-2]) & set(before[1:-2])
    assert repeated.args[-2] == before[-2]
    assert repeated.args[-1] != before[-1]
    assert read_message(repeated.args[-1]).about == "t"  # type: ignore[union-attr,arg-type]


def test_a_replay_does_not_revive_what_another_has_removed(world: World) -> None:
    """Of two processes that removed a tag, the earlier is the later to repeat it."""
    one_, _, upkeep = one(world)
    two, _, _ = one(world)
    one_.invalidate_tags("t")
    one_.get_or_load("k", lambda: "between", tags=["t"])
    two.invalidate_tags("t")
    upkeep.replay(one_._core)
    assert two.get("k") is None
    assert one_.get("k") is None


def test_recent_removals_are_kept_for_the_window_alone(world: World) -> None:
    """And not until a hundred thousand have come."""
    cache, _, upkeep = one(world)
    cache.invalidate("a")
    world.clock.advance(11 * SECOND_US)
    upkeep.channel.close("silence")
    upkeep.connect()
    cache.invalidate("b")
    assert len(upkeep._recent) == 1


def test_a_cluster_tells_everything_several_times(world: World) -> None:
    """It is done once; another server's heartbeat alone is no answer."""
    cache, _, upkeep = one(world)
    ear = Ear(cache._core)
    names = Names("n")
    _, raw = names.post(DROP, "k")
    cache.set("k", 1)
    ear.hear(raw, repeats=True)
    assert cache.stats().entries == 0
    cache.set("k", 1)
    ear.hear(raw, repeats=True)
    assert cache.stats().entries == 1
    for number in range(5_000):
        ear.hear(names.post(DROP, f"x{number}")[1], repeats=True)
    assert len(ear._seen) == 4_096
    assert upkeep.channel.steady


def test_an_ear_without_its_cache_hears_nothing(world: World) -> None:
    """It is only not yet forgotten."""
    cache = Cache(world.cache(codec=JsonCodec())._store, namespace="n", codec=JsonCodec())
    ear = Ear(cache._core)
    del cache
    gc.collect()
    assert ear.core is None
    ear.begin(iter(["world"]))
    ear.confirmed([], "world")
    ear.hear(b"", repeats=False)
    ear.trust(1.0)
    ear.up = True
    ear.lose("gone")
    assert ear.staleness == 3_600


def test_no_server_is_no_channel(world: World) -> None:
    """Nothing would ever be heard."""
    _, store, _ = one(world)
    store.primaries = list
    with pytest.raises(StoreUnavailable):
        Channel(store, time.monotonic).open()


# The thread


class Member:
    """Does what a test says."""

    ear = None

    def __init__(self, core: Any) -> None:
        self.core = core
        self.turns = 0
        self.wanted = 0.01
        self.error: BaseException | None = None

    def tend(self, core: Any, now: float) -> float:
        """Count."""
        self.turns += 1
        if self.error is not None:
            raise self.error
        return now + self.wanted

    def replay(self, core: Any) -> None:
        """Nothing to repeat."""


class Told:
    """A core that only listens to events."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.tell = self.events.append


@pytest.fixture
def keeper() -> Any:
    """One of real time, without a channel."""
    from backendkit.core.clock import SystemClock

    made = Keeper(SystemClock(), None)
    yield made
    made.store_closed()


def test_one_members_trouble_is_none_of_the_others(keeper: Keeper) -> None:
    """It is told, and tried again in a second; the others go on."""
    bad, good = Member(Told()), Member(Told())
    bad.error = KeyError("a fault")
    keeper.join(bad)
    keeper.join(good)
    eventually(lambda: good.turns > 20, "the other goes on")
    assert bad.core.events
    assert set(bad.core.events) == {UpkeepFailed("KeyError")}
    assert not good.core.events


def test_a_fault_between_the_turns_neither_ends_nor_spins_it(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told, and followed by a pause."""
    from backendkit.cache.keeper import Turns

    member = Member(Told())
    failing = threading.Event()
    failing.set()
    tries: list[float] = []
    work = Turns._work

    def fails(self: Turns, members: Any) -> float:
        tries.append(time.monotonic())
        if failing.is_set():
            raise ValueError("a bug")
        return work(self, members)

    monkeypatch.setattr(Turns, "_work", fails)
    keeper.join(member)
    eventually(lambda: len(tries) > 3, "it goes on trying")
    assert all(later - earlier > 0.04 for earlier, later in pairwise(tries))
    failing.clear()
    eventually(lambda: member.turns, "it works again")
    assert UpkeepFailed("ValueError") in member.core.events


def test_a_thread_that_dies_is_replaced(
    keeper: Keeper, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even `SystemExit` of a hook leaves a cache without one."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    cache = Cache(world.cache(codec=JsonCodec())._store, namespace="n", codec=JsonCodec())
    busy = Busy(cache._core, cache._store, keeper, listens=False)
    bad = Member(Told())
    bad.error = SystemExit()
    keeper.join(bad)
    eventually(lambda: not keeper.runs, "it has died")
    bad.error = None
    busy.start()
    eventually(lambda: bad.turns > 1, "another works for all")
    busy.close()
    assert keeper.runs


def test_it_ends_with_the_last_cache_and_begins_with_the_next(keeper: Keeper) -> None:
    """Held weakly: who has gone needs none."""
    member = Member(Told())
    member.wanted = 3_600.0
    keeper.join(member)
    keeper.join(member)
    assert keeper.members() == [member]
    eventually(lambda: keeper.sleeps_until > time.monotonic() + 600, "it works, and sleeps")
    del member
    gc.collect()
    eventually(lambda: not keeper.runs, "nobody needs it")
    again = Member(Told())
    keeper.join(again)
    eventually(lambda: again.turns, "it works again")


def test_who_was_dismissed_with_the_store_joins_again(keeper: Keeper, world: World) -> None:
    """Also where another came first."""
    cache = Cache(world.cache(codec=JsonCodec())._store, namespace="n", codec=JsonCodec())
    busy = Busy(cache._core, cache._store, keeper, listens=False)
    busy.start()
    keeper.store_closed()
    other = Member(Told())
    keeper.join(other)
    busy.start()
    assert set(keeper.members()) == {other, busy}
    busy.close()
    assert keeper.members() == [other]


def test_two_threads_that_note_removals_drop_only_what_is_old(world: World) -> None:
    """Both see the same old one: the second would drop the next, which a failover may yet lose."""
    cache, _, upkeep = one(world)
    threads: list[threading.Thread] = []

    class Watched(deque[Any]):
        """Has another thread note something while the first looks at what is old."""

        def __getitem__(self, at: Any) -> Any:
            found = super().__getitem__(at)
            if not threads:
                threads.append(threading.Thread(target=cache.invalidate, args=("c",)))
                threads[0].start()
                threads[0].join(0.2)
            return found

    cache.invalidate("a")
    world.clock.advance(8 * SECOND_US)
    cache.invalidate("b")
    world.clock.advance(8 * SECOND_US)
    assert upkeep.ear is not None
    upkeep.ear.alive_at = cache._local.now()
    upkeep._recent = Watched(upkeep._recent)
    cache.invalidate("d")
    threads[0].join()
    assert [operation.args[-1][17:] for _, operation in upkeep._recent].count(b"b") == 1
    assert len(upkeep._recent) == 3
