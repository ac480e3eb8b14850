"""A bounded memory of what was seen of late, for paths where a lock and an LRU's bookkeeping would cost too much.

Two plain dictionaries: what is new goes into the young one; when that is full it becomes the old one, and the old
one is dropped. Between `size` and twice that many entries are kept, and what is read stays. Reading is one or two
look-ups without a lock (dictionary operations are atomic); writing takes one, so that nothing newer is written over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from backendkit.core.fork import remake_after_fork

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Remembers at least the last `size` keys and at most twice as many. Safe to share between threads."""

    __slots__ = ("__weakref__", "_lock", "_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget the lock: the thread that may have held it is not here."""
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return what was put under `key`, or None."""
        found = self._young.get(key)
        if found is None and key in self._old:
            return self.update(key, _as_it_is)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember."""
        with self._lock:
            self._put(key, value)

    def update(self, key: K, change: Callable[[V | None], V | None]) -> V | None:
        """Remember what `change` makes of what is known, while nobody else writes; None: leave it."""
        with self._lock:
            found = self._young.get(key)
            changed = change(self._old.get(key) if found is None else found)
            if changed is not None:
                self._put(key, changed)
            return changed

    def pop(self, key: K) -> None:
        """Forget one key."""
        with self._lock:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def _put(self, key: K, value: V) -> None:
        if len(self._young) >= self._size and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


def _as_it_is(found: V | None) -> V | None:
    return found
