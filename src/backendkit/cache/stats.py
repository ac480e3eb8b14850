"""What a cache has done so far."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from backendkit.core.fork import hold_during_fork


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """A snapshot; counters start when the cache is made, and are this process's.

    Each key that a caller asks for counts as one of four: `l1_hits`, `l2_hits`, `misses`, `stale`; what is refreshed behind
    callers counts as a load alone.

    Attributes:
        l1_hits: answered by the first tier; counted without a lock, so that a few may be missing where threads hit at once.
        l2_hits: answered by the second.
        misses: answered by neither: its caller waited for a loader, had its error, or got nothing.
        loads: loaders that were run; one for many keys is one.
        load_us: microseconds that they took together.
        load_errors: of them, those that raised.
        stale: callers that got what was stale.
        refused: loaded values that were not stored, because they were invalidated meanwhile or their lease had ended.
        errors: failures of the second tier that no caller has seen.
        entries: in the first tier now.
        bytes: of them.
        evictions: of them, for room.
        trusted: whether this process hears of invalidations now.
    """

    l1_hits: int = 0
    l2_hits: int = 0
    misses: int = 0
    loads: int = 0
    load_us: int = 0
    load_errors: int = 0
    stale: int = 0
    refused: int = 0
    errors: int = 0
    entries: int = 0
    bytes: int = 0
    evictions: int = 0
    trusted: bool = True


class Counts:
    """Counters that threads share."""

    __slots__ = ("__weakref__", "_counted", "fork_lock")

    def __init__(self) -> None:
        self.fork_lock = threading.RLock()  # a finalizer that runs within may count
        self._counted: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        hold_during_fork(self)

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        with self.fork_lock:
            self._counted[name] += number

    def of(self, name: str) -> int:
        """Return one counter."""
        return self._counted[name]

    def all(self) -> dict[str, int]:
        """Return all counters."""
        with self.fork_lock:
            return dict(self._counted)


_COUNTED: tuple[str, ...] = (
    "l1_hits",
    "l2_hits",
    "misses",
    "loads",
    "load_us",
    "load_errors",
    "stale",
    "refused",
    "errors",
)
"""What is counted; the rest is looked at."""
