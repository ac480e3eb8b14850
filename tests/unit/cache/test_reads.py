"""Reading the second tier by a look: what serves, what goes on to a script, and what a server that fails costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.cache import MISSING, CachePolicy, Coherence, JsonCodec
from backendkit.cache.decide import tier
from backendkit.cache.face import Cache
from backendkit.cache.looks import Looks
from backendkit.core.clock import ManualClock
from backendkit.core.errors import ReplyTimeout, StoreError
from backendkit.core.look import LOOK, UNSAID
from backendkit.core.operation import Change, Operation
from tests.unit.cache.world import World, WorldStore

TTL = 60


class Watched:
    """Two processes; what the second sends is written down."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock(mono_us=100_000_000)
        self.world = World(self.clock)
        self.writer = self.world.cache(codec=JsonCodec())
        self.reader: Cache = self.world.cache(codec=JsonCodec(), **options)
        self.sent: list[str] = []
        self.store: WorldStore = self.reader._store  # type: ignore[assignment] # of this world
        run = self.store.run

        def noted(operation: Operation[Any]) -> Any:
            self.sent.append(operation.script.name)
            return run(operation)

        self.store.run = noted  # type: ignore[method-assign] # to listen in
        self.reader.get("warm")  # the versions are known from now on
        self.sent.clear()


def no_loader(*_: object) -> Any:
    """Stand for what must not be called."""
    raise AssertionError("nothing is to be loaded")


def test_what_is_fresh_needs_no_script() -> None:
    """One look each, in every way of reading."""
    watched = Watched()
    watched.writer.set_many({"a": {"n": 1}, "b": 2, "c": None}, ttl=TTL)
    assert watched.reader.get_many(["a", "b", "c", "x"]) == {
        "a": {"n": 1},
        "b": 2,
        "c": None,
        "x": MISSING,
    }
    assert set(watched.sent) == {LOOK.name}
    watched.reader._local.flush()
    watched.reader.get("warm")
    watched.sent.clear()
    assert watched.reader.get_or_load("a", no_loader) == {"n": 1}
    assert watched.reader.get_or_load_many(["b", "c", "b"], no_loader) == [2, None, 2]
    assert set(watched.sent) == {LOOK.name}
    assert watched.reader.stats().l2_hits == 6


def test_what_is_not_fresh_goes_on_to_a_lease() -> None:
    """Nothing there, stale, or of another namespace's version."""
    watched = Watched()
    watched.writer.set("stale", 1, policy=CachePolicy(ttl=1, max_stale=100))
    watched.clock.advance(2_000_000)
    for line in watched.world.lines:
        line.inbox.clear()
    assert watched.reader.get_or_load("stale", lambda: 2) == 2
    assert watched.reader.get_or_load("absent", lambda: 3) == 3
    assert watched.sent.count(tier.READ.name) == 2
    assert watched.sent.count(LOOK.name) == 2


def test_a_place_that_stands_again_gets_a_value_of_its_own() -> None:
    """One caller must not find its change in another place."""
    watched = Watched()
    watched.writer.set_many({"a": {"n": 1}}, ttl=TTL)
    one, two = watched.reader.get_or_load_many(["a", "a"], no_loader)
    one["n"] = 2
    assert two == {"n": 1}
    assert watched.reader.get("a") == {"n": 1}


def test_tags_that_are_not_known_are_asked_for() -> None:
    """Of several kinds in one look; entries whose tags were invalidated are none."""
    watched = Watched()
    watched.writer.set("a", [1], ttl=TTL, tags=["t"])
    watched.writer.set("b", [2], ttl=TTL, tags=["t", "u"])
    watched.writer.set("c", [3], ttl=TTL)
    found = watched.reader.get_many("abc")
    assert found == {"a": [1], "b": [2], "c": [3]}
    watched.writer.invalidate_tags("u")
    assert watched.world.cache(codec=JsonCodec()).get_many("abc") == {
        "a": [1],
        "b": MISSING,
        "c": [3],
    }


def test_an_entry_of_another_namespace_version_is_none() -> None:
    """Untagged, so that nothing but the namespace tells."""
    watched = Watched()
    watched.writer.set("a", [1], ttl=TTL)
    watched.writer.clear()
    assert watched.world.cache(codec=JsonCodec()).get("a") is None


def test_what_a_look_is_not_told_a_script_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets nobody read so, or is about to give the slot away."""
    watched = Watched()
    watched.writer.set_many({"a": {"n": 1}, "b": [2]}, ttl=TTL, tags=["t"])

    def fold(states: Any, now: int, args: Any) -> Change:
        return Change((), [0, *[UNSAID] * len(states)])

    monkeypatch.setattr(LOOK, "fold", fold)
    assert watched.reader.get_many("abx") == {"a": {"n": 1}, "b": [2], "x": MISSING}
    assert watched.reader.get_or_load_many("ab", no_loader) == [{"n": 1}, [2]]
    watched.reader._local.l1.clear()
    assert watched.reader.get_or_load("a", no_loader) == {"n": 1}
    watched.store.cut = True
    watched.reader._local.l1.clear()
    assert watched.reader.get_many("ab") == {"a": MISSING, "b": MISSING}


def test_a_server_that_does_not_answer_costs_one_answer() -> None:
    """Who has waited for it once loads at once, and stores nothing."""
    watched = Watched()
    tried: list[str] = []

    def late(operation: Operation[Any]) -> Any:
        tried.append(operation.script.name)
        raise ReplyTimeout("no answer")

    watched.store.run = late  # type: ignore[method-assign] # as above
    assert watched.reader.get_or_load("a", lambda: 1) == 1
    assert tried == [LOOK.name]
    tried.clear()
    assert watched.reader.get_or_load_many("bc", lambda keys: dict.fromkeys(keys, 2)) == [2, 2]
    assert set(tried) == {LOOK.name}
    assert len(tried) == len(set("bc"))


def test_where_strict_the_failure_is_raised() -> None:
    """As of every read."""
    watched = Watched(coherence=Coherence(strict=True))
    watched.store.cut = True
    with pytest.raises(StoreError):
        watched.reader.get_or_load("a", no_loader)
    with pytest.raises(StoreError):
        watched.reader.get_many("ab")


def test_a_cold_cache_soon_looks_no_more() -> None:
    """A look that finds nothing is a round trip lost; one that would have found something brings looks back."""
    watched = Watched()
    for number in range(10):
        watched.reader.get_or_load(f"cold{number}", lambda: 1)
    assert watched.sent.count(LOOK.name) == 2
    for number in range(200):
        watched.writer.set(f"warm{number}", 1, ttl=TTL)
        watched.reader.get_or_load(f"warm{number}", no_loader)
    watched.sent.clear()
    watched.writer.set("again", 1, ttl=TTL)
    watched.reader.get_or_load("again", no_loader)
    assert watched.sent == [LOOK.name]


def test_who_waits_only_so_long_does_not_look_first() -> None:
    """Reading is part of what a soft timeout bounds."""
    watched = Watched()
    watched.writer.set("a", 1, ttl=TTL)
    policy = CachePolicy(soft_timeout=5)
    assert watched.reader.get_or_load_many(["a"], no_loader, policy=policy) == [1]
    watched.reader._local.l1.clear()
    assert watched.reader.get_or_load("a", no_loader, policy=policy) == 1
    assert LOOK.name not in watched.sent


def test_what_somebody_loads_is_not_looked_at() -> None:
    """It is shared."""
    watched = Watched()

    async def play() -> list[Any]:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def load() -> int:
            begun.set()
            await gate.wait()
            return 1

        get = watched.reader.aio.get_or_load
        tasks = [asyncio.create_task(get("a", load)) for _ in range(3)]
        await begun.wait()
        watched.sent.clear()
        tasks.append(asyncio.create_task(get("a", load)))
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(play()) == [1, 1, 1, 1]
    assert LOOK.name not in watched.sent
    assert not watched.reader._core.looks.at


@given(st.lists(st.booleans(), max_size=60))
def test_the_share_is_one(found: list[bool]) -> None:
    """Whatever is noted, it stays between none and all; many keys are looked at where one is."""
    looks = Looks()
    for hit in found:
        looks.note(int(hit), 1)
        assert 0 <= looks.share <= 1
        assert looks.pays_for_many or not looks.pays


def test_what_was_heard_during_a_look_is_not_filled() -> None:
    """The value still goes to who asked before; another process's message came first."""
    watched = Watched()
    watched.writer.set_many({"a": 1, "b": 2}, ttl=TTL)
    watched.reader._core.upkeep.receive(100)  # type: ignore[attr-defined] # by hand
    run = watched.store.run

    def interrupted(operation: Operation[Any]) -> Any:
        found = run(operation)
        if operation.script is LOOK:
            watched.reader._local.drop("a")
        return found

    watched.store.run = interrupted  # type: ignore[method-assign] # as above
    assert watched.reader.get_many("ab") == {"a": 1, "b": 2}
    assert watched.reader._local.l1.peek("a") is None
    assert watched.reader._local.l1.peek("b") is not None
    assert not watched.reader._local._watches


def test_what_l1_ttl_ends_is_not_loaded_early() -> None:
    """The second tier has it for longer: a look fetches it again, and its load's time does not count."""
    watched = Watched(policy=CachePolicy(ttl=1_000, l1_ttl=10, beta=100))

    def slow() -> dict[str, int]:
        watched.clock.advance(500_000)
        return {"n": 1}

    watched.writer.get_or_load("a", slow, ttl=1_000)
    assert watched.reader.get("a") == {"n": 1}
    record: Any = watched.reader._local.l1.peek("a")
    assert record.times.cost == 0
    assert record.deadline == record.fresh <= watched.reader._local.now() + 10
