"""The garbage collector runs finalizers wherever something is allocated, under locks too; and they may use the cache."""

from __future__ import annotations

import faulthandler
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from backendkit.cache import L1, Coherence, Entry, JsonCodec
from backendkit.cache.face import Cache
from backendkit.core.clock import ManualClock
from backendkit.core.flights import Flights
from backendkit.core.operation import Operation
from backendkit.stores import MemoryStore
from tests.unit.cache.world import Server, World

ROUNDS = 40


class Doomed:
    """Part of a ring that only the collector takes; the next one is made as it goes, so that there is always one."""

    def __init__(self, last_will: Callable[[], None], left: list[int]) -> None:
        self.me = self
        self.last_will = last_will
        self.left = left

    def __del__(self) -> None:
        """Use the cache; while that goes on no other does."""
        if not self.left[0]:
            return
        self.left[0] -= 1
        self.last_will()
        Doomed(self.last_will, self.left)


@pytest.fixture
def alarmed() -> Iterator[None]:
    """Who hangs is shown where."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def collecting(alarmed: None) -> Iterator[None]:
    """Collect at nearly every allocation; since Python 3.12, which puts that off, at every call and return."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what is here already need not be looked at each time
    gc.set_threshold(1, 1, 1)
    if sys.version_info >= (3, 12):
        sys.setprofile(_collect)
    yield
    if sys.version_info >= (3, 12):
        sys.setprofile(None)
    gc.set_threshold(*before)
    gc.unfreeze()


def _collect(*_: object) -> None:
    gc.collect(0)


class Elsewhere(Server):
    """A server's memory: in a process of its own, which collects by itself."""

    def reply(self, operation: Operation[Any]) -> Any:
        """Run it."""
        gc.disable()
        try:
            return super().reply(operation)
        finally:
            gc.enable()


@pytest.fixture(params=["alone", "two"])
def cache(request: pytest.FixtureRequest) -> Cache:
    """A small cache of one tier or two, which evicts all the time."""
    clock = ManualClock(mono_us=1_000_000)
    l1 = L1(max_items=4, clock=clock)
    if request.param == "alone":
        return Cache(MemoryStore(clock=clock), l1=l1)
    world = World(clock)
    world.server = Elsewhere(clock)
    coherence = Coherence(max_l1_staleness=3_600)
    return world.cache(codec=JsonCodec(), coherence=coherence, l1=l1)


REMOVALS: dict[str, Callable[[Cache], None]] = {
    "invalidate": lambda cache: cache.invalidate("k"),
    "expire": lambda cache: cache.expire("k"),
    "tags": lambda cache: cache.invalidate_tags("t"),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.usefixtures("collecting")
@pytest.mark.parametrize("removal", list(REMOVALS))
def test_a_finalizer_may_remove_what_is_being_stored(cache: Cache, removal: str) -> None:
    """Nothing hangs; and what is asked for afterwards was loaded afterwards, wherever the finalizer ran."""
    numbers = count(1)
    removed = [0]

    def remove() -> None:
        REMOVALS[removal](cache)
        cache.get("k")
        cache.set("other", 1)
        removed[0] = next(numbers)

    left = [40 * ROUNDS]
    Doomed(remove, left)
    for each in range(ROUNDS):
        floor = removed[0]
        assert cache.get_or_load("k", lambda: next(numbers), tags=["t"]) > floor
        floor = removed[0]
        found = cache.get("k")
        assert found is None or found > floor
        cache.set(f"x{each % 7}", each)
        cache.get_or_load_many(["k", f"y{each % 5}"], lambda keys: {k: next(numbers) for k in keys})
        cache.invalidate("k", "other")
        cache.stats()
    assert left[0] < 40 * ROUNDS - ROUNDS
    left[0] = 0


@pytest.mark.usefixtures("collecting")
def test_a_finalizer_may_use_the_first_tier_itself() -> None:
    """Whatever is half done is brought to its end; the counts are right afterwards."""
    l1 = L1(max_items=8, max_bytes=100_000)
    names = count()

    def entry() -> Entry:
        return Entry("v", 10, float("inf"))

    def use() -> None:
        number = next(names)
        l1[f"d{number % 9}"] = entry()
        l1.pop(f"d{number % 5}", None)
        if number % 11 == 0:
            l1.clear()
        try:
            l1.popitem()
        except KeyError:
            return

    left = [2_000]
    Doomed(use, left)
    for number in range(200):
        l1[f"k{number % 13}"] = entry()
        l1.pop(f"k{number % 3}", None)
        if number % 17 == 0:
            l1.clear()
    left[0] = 0
    gc.set_threshold(700, 10, 10)
    l1.clear()
    assert (len(l1), l1.currsize) == (0, 0)
    for number in range(20):
        l1[f"k{number}"] = entry()
    assert len(l1) == len(list(l1)) == 8
    assert l1.currsize == 8 * 260


def test_what_is_dead_in_its_place_is_not_seen() -> None:
    """Until its turn comes."""
    l1 = L1(max_items=8)
    l1["k"] = kept = Entry("v", 10, float("inf"))
    l1._changing = True
    with l1.lock:
        assert l1.drop("k") is kept
        assert l1.drop("k") is None
        assert l1.place("new", Entry("v", 10, float("inf"))) == []
    with pytest.raises(KeyError):
        l1.popitem()
    l1._changing = False
    assert l1.get("k") is l1.peek("k") is l1.get("new") is None
    assert "k" not in l1
    l1["k"] = Entry("again", 10, float("inf"))
    found: Any = l1.get("k")
    assert found.value == "again"
    assert l1.currsize == 260


def test_flights_may_be_asked_for_from_within() -> None:
    """A key has one flight, whoever came in between."""
    flights = Flights()
    with flights._lock:
        within, leads = flights.board("k")
        flights.detach("other")
    assert leads
    assert flights.board("k") == (within, False)
    assert threading.active_count() < 50


class Interrupting:
    """Stands for the ghosts, and does something once while an entry is half stored, as a finalizer would."""

    def __init__(self, ghosts: Any, what: Callable[[], None]) -> None:
        self.ghosts = ghosts
        self.what: Callable[[], None] | None = what

    def take(self, key: str, span: int) -> bool:
        """Interrupt."""
        what, self.what = self.what, None
        if what is not None:
            what()
        return bool(self.ghosts.take(key, span))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ghosts, name)


@pytest.mark.parametrize("removal", list(REMOVALS))
@pytest.mark.usefixtures("alarmed")
@pytest.mark.parametrize("how", ["load", "set", "lease"])
def test_what_is_removed_while_it_is_stored_is_not_kept(
    cache: Cache, removal: str, how: str
) -> None:
    """The removal returned before the value was in its place, which must not bring it back."""
    l1 = cache._local.l1
    kept = l1._ghosts
    remove = REMOVALS[removal]
    lease = cache.lease("k") if how == "lease" else None
    l1._ghosts = Interrupting(kept, lambda: remove(cache))  # type: ignore[assignment]
    if how == "load":
        cache.get_or_load("k", lambda: "old", tags=["t"])
    elif how == "set":
        cache.set("k", "old", tags=["t"])
    else:
        cache.set("k", "old", tags=["t"], lease=lease)
    assert l1._ghosts.what is None  # type: ignore[attr-defined]
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "new", tags=["t"]) == "new"


def test_an_entry_that_is_half_stored_is_not_stored_twice() -> None:
    """The one from within is refused: the next eviction would meet its key a second time."""
    l1 = L1(max_items=4)
    l1._ghosts = Interrupting(l1._ghosts, lambda: l1.update(k=Entry("within", 1, 1e300)))  # type: ignore[assignment]
    l1["k"] = Entry("v", 1, 1e300)
    found: Any = l1.get("k")
    assert found.value == "v"
    for number in range(20):
        l1[f"k{number}"] = Entry("v", 1, 1e300)
    assert len(l1) == len(list(l1)) == 4
