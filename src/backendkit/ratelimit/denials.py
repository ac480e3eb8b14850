"""Denials that this process remembers, so that a flood that is refused costs the store nothing.

Bounded in number and in time: a denial is true for at least as long as time alone would free quota, and is believed
for no longer than `deny_cache_max`, because quota may be freed elsewhere (cancel, reset, a raised limit, FLUSHALL).
Its time runs from before the request was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

from backendkit.core.fork import remake_after_fork


class Denial(NamedTuple):
    """What the store said of one limit, on one key.

    Attributes:
        cost: denied at this cost and any larger one.
        due_us: until when, on the monotonic clock.
        sent_us: since when its times run.
        keys: all keys that were asked together.
        numbers: the whole reply.
        place: which of the limits it is.
        blocked: whether a penalty box decided.
    """

    cost: int
    due_us: int
    sent_us: int
    keys: tuple[bytes, ...]
    numbers: list[int]
    place: int
    blocked: bool


class Denials:
    """Denials by key.

    Args:
        most: entries, from 0: which remembers nothing.

    Attributes:
        by_key: look only; empty while nothing is denied, which hits test first.
    """

    __slots__ = ("__weakref__", "_lock", "_most", "by_key")

    def __init__(self, most: int) -> None:
        self._most = most
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = Lock()
        self.by_key: dict[bytes, Denial] = {}

    def find(self, keys: tuple[bytes, ...], cost: int, now_us: int) -> Denial | None:
        """Return the denial with the longest time left that concerns a hit, or None."""
        found: Denial | None = None
        for key in keys:
            denial = self.by_key.get(key)
            if denial is None or cost < denial.cost or now_us >= denial.due_us:
                continue
            if found is None or denial.due_us > found.due_us:
                found = denial
        return found

    def add(self, key: bytes, denial: Denial) -> None:
        """Remember; the oldest makes room where there is none."""
        with self._lock:
            self.by_key.pop(key, None)
            while self._most <= len(self.by_key):
                if not self.by_key:
                    return
                del self.by_key[next(iter(self.by_key))]
            self.by_key[key] = denial

    def forget(self, keys: Iterable[bytes]) -> None:
        """Forget what concerns these keys."""
        with self._lock:
            for key in keys:
                self.by_key.pop(key, None)
