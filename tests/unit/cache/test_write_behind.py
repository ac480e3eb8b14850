"""Values that reach their source a moment later."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from backendkit.cache import Cache, WriteBehind
from backendkit.core.errors import Overloaded
from backendkit.stores import MemoryStore
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
    assert source.dead[0][0] == {"a": 2}
    source.gate.set()


def test_closing_what_never_wrote() -> None:
    """Needs no thread."""
    assert behind(Source()).close()
