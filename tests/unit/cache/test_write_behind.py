"""Values that reach their source a moment later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from backendkit.cache import Cache, NotWritten, WriteBehind
from backendkit.core.errors import InvalidArgument, Overloaded
from backendkit.core.events import Event, Hooks
from backendkit.stores import MemoryStore
from tests.ground.loops import in_fork
from tests.ground.waiting import eventually


class Source:
    """A database that may fail, or hang at a gate."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.dead: list[tuple[dict[str, Any], Exception]] = []
        self.fails = 0
        self.gate = threading.Event()
        self.gate.set()

    def write(self, batch: Mapping[str, Any]) -> None:
        """Write."""
        self.gate.wait(10)
        if self.fails:
            self.fails -= 1
            raise OSError("down")
        self.batches.append(dict(batch))

    def bury(self, batch: Mapping[str, Any], error: Exception) -> None:
        """Take what could not be written."""
        self.dead.append((dict(batch), error))


def behind(source: Source, **options: Any) -> WriteBehind:
    """Return a write-behind without delay."""
    options.setdefault("delay", 0)
    return WriteBehind(Cache(MemoryStore()), source.write, dead_letter=source.bury, **options)


def test_a_value_is_there_at_once_and_written_soon() -> None:
    """The last value of a key counts; a batch holds several."""
    source = Source()
    source.gate.clear()
    writes = behind(source, batch=2)
    writes.set("first", 0)
    eventually(lambda: not len(writes), "the first is on its way")
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        writes.set(key, value, ttl=60)
    assert writes._cache.get("a") == 3
    source.gate.set()
    assert writes.close()
    assert source.batches == [{"first": 0}, {"a": 3, "b": 2}, {"c": 4}]
    with pytest.raises(Overloaded):
        writes.set("late", 1)


def test_a_failure_is_tried_again() -> None:
    """And what fails to the end is handed over."""
    source = Source()
    source.fails = 2
    with behind(source, attempts=3) as writes:
        writes.set("a", 1)
    assert source.batches == [{"a": 1}]
    source.fails = 2
    with behind(source, attempts=2) as writes:
        writes.set("a", 2)
    assert [batch for batch, _ in source.dead] == [{"a": 2}]


def test_it_is_bounded() -> None:
    """Who comes when it is full is told; a key that waits already may change."""
    source = Source()
    source.gate.clear()
    writes = behind(source, max_waiting=1, batch=1)
    writes.set("first", 0)
    eventually(lambda: not len(writes), "the first is on its way")
    writes.set("a", 1)
    writes.set("a", 2)
    with pytest.raises(Overloaded):
        writes.set("b", 1)
    assert not writes.close(within=0.01)
    assert source.dead[0][0] == {"first": 0, "a": 2}  # nobody knows of what is on its way
    source.gate.set()


def test_closing_what_never_wrote() -> None:
    """Needs no thread."""
    assert behind(Source()).close()


def test_what_was_hung_at_the_end_is_handed_over_once() -> None:
    """Also if its writing fails after that."""
    source = Source()
    source.gate.clear()
    source.fails = 9
    writes = behind(source, attempts=3)
    writes.set("a", 1)
    eventually(lambda: not len(writes), "it is on its way")
    assert not writes.close(within=0.01)
    source.gate.set()
    thread = writes._thread
    assert thread is not None
    thread.join(10)
    assert [batch for batch, _ in source.dead] == [{"a": 1}]


def test_closing_gives_a_source_time_to_recover() -> None:
    """Attempts are not used up at once because somebody waits for the end."""
    source = Source()
    source.gate.clear()
    source.fails = 2
    writes = behind(source, attempts=3)
    writes._core.chance = lambda: 1.0
    writes.set("a", 1)
    eventually(lambda: not len(writes), "it is on its way")
    pauses: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        pauses.append(timeout or 0)
        return False

    writes._over.wait = wait  # type: ignore[method-assign]  # watched
    threading.Timer(0.05, source.gate.set).start()
    assert writes.close(within=20)
    assert pauses == [0.05, 0.1]
    assert source.batches == [{"a": 1}]


def test_a_dead_letter_that_fails_stops_nothing() -> None:
    """It is told, and what waits behind is written; so it is when a writer ends its thread."""
    told: list[Event] = []
    hooks = Hooks()
    hooks.add(told.append)
    calls: list[object] = []

    def write(batch: Mapping[str, Any]) -> None:
        calls.append(dict(batch))
        if "bad" in batch:
            raise OSError("down")
        if "exit" in batch:
            raise SystemExit

    def bury(batch: Mapping[str, Any], error: Exception) -> None:
        raise ValueError("full")

    cache = Cache(MemoryStore(), hooks=hooks)
    with WriteBehind(cache, write, dead_letter=bury, delay=0, batch=1, attempts=1) as writes:
        for key in ("bad", "exit", "good"):
            writes.set(key, 1)
    assert calls == [{"bad": 1}, {"exit": 1}, {"good": 1}]
    assert [event for event in told if isinstance(event, NotWritten)] == [
        NotWritten(("bad",), "OSError", handed_over=False),
        NotWritten(("exit",), "Overloaded", handed_over=False),
    ]


def test_a_writer_may_do_what_it_likes_with_its_batch() -> None:
    """It is its own: the next attempt has all of it."""
    source = Source()

    def write(batch: Any) -> None:
        batch.clear()
        raise OSError("down")

    cache = Cache(MemoryStore())
    with WriteBehind(cache, write, dead_letter=source.bury, delay=0, attempts=2) as writes:
        writes.set("a", 1)
    assert [batch for batch, _ in source.dead] == [{"a": 1}]


@pytest.mark.parametrize("wrong", [{"ttl": -1}, {"tags": [""]}])
def test_what_the_cache_would_refuse_is_not_written(wrong: dict[str, Any]) -> None:
    """Nothing was stored: neither here nor there."""
    source = Source()
    with behind(source) as writes:
        with pytest.raises(InvalidArgument):
            writes.set("a", 1, **wrong)
        with pytest.raises(InvalidArgument):
            writes.set("", 1)
    assert source.batches == []


def test_the_cache_ends_with_what_the_source_gets() -> None:
    """Of two who set one key at once the later one counts in both, whichever reaches the cache first."""
    source = Source()
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Cache):
        """Is held up where it is set first."""

        __slots__ = ()

        def set(self, key: str, value: Any, **options: Any) -> bool:
            """Set."""
            if value == "earlier" and not reached.is_set():
                reached.set()
                go_on.wait(10)
            return super().set(key, value, **options)

    cache = Slow(MemoryStore())
    with WriteBehind(cache, source.write, dead_letter=source.bury, delay=0) as writes:
        earlier = threading.Thread(target=writes.set, args=("a", "earlier"))
        earlier.start()
        reached.wait(10)
        writes.set("a", "later")
        go_on.set()
        earlier.join(10)
        assert writes._setting == {}
    assert cache.get("a") == "later"
    assert source.batches[-1] == {"a": "later"}


def test_it_is_awaited_likewise() -> None:
    """The loop goes on while the end is waited for."""
    source = Source()

    async def scenario() -> None:
        writes = behind(source)
        async with writes.aio as values:
            await asyncio.gather(*(values.set("a", number) for number in range(5)))
            assert len(values) <= 1
            assert await writes._cache.aio.get("a") == 4
        with pytest.raises(Overloaded):
            await values.set("b", 1)

    asyncio.run(scenario())
    assert source.batches[-1] == {"a": 4}


def test_a_child_writes_nothing_of_its_parents() -> None:
    """And what it sets itself, it writes."""
    source = Source()
    source.gate.clear()
    writes = behind(source)
    writes.set("a", 1)

    def work() -> object:
        source.gate.set()
        writes.set("b", 2)
        return writes.close(), source.batches

    assert in_fork(work) == (True, [{"b": 2}])
    source.gate.set()
    assert writes.close()
    assert source.batches == [{"a": 1}]
