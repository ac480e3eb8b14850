"""A bounded memory of what was seen of late, for paths where a lock and an LRU's bookkeeping would cost too much.

Two plain dictionaries: what is new goes into the young one; when that is full it becomes the old one, and the old
one is dropped. Between `size` and twice that many entries are kept, reading is one or two look-ups without a lock
(dictionary operations are atomic), and what is read stays.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers at least the last `size` keys and at most twice as many."""

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was put under `key`, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember; two threads that do so at once lose at most an entry."""
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def pop(self, key: K) -> None:
        """Forget one key."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._old, self._young = {}, {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
