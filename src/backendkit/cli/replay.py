"""Replaying a trace through the first tier, and through what else one might have taken."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple, Protocol

from backendkit.cache import L1, Entry
from backendkit.cache.l1 import ENTRY_BYTES
from backendkit.cli.trace import Look

UNBOUNDED_BYTES = 1 << 50


class Replay(Protocol):
    """A cache that is asked for one key after another."""

    def hit(self, key: str, size: int, at: int) -> bool:
        """Look a key up, store it if it is not there, and tell whether it was; `at` counts the look-ups."""
        ...


class Row(NamedTuple):
    """What was found at one size.

    Attributes:
        items: the bound.
        hits: of each cache, by its name.
    """

    items: int
    hits: dict[str, int]


class FirstTier:
    """The library's own, as it is."""

    def __init__(self, items: int, most_bytes: int) -> None:
        self._l1 = L1(items, most_bytes)

    def hit(self, key: str, size: int, at: int) -> bool:
        """Look up and store."""
        if self._l1.get(key) is not None:
            return True
        self._l1[key] = Entry(None, size, math.inf)
        return False


class Lru:
    """Least recently used."""

    def __init__(self, items: int, most_bytes: int) -> None:
        self._items, self._bytes, self._used = items, most_bytes, 0
        self._held: OrderedDict[str, int] = OrderedDict()

    def hit(self, key: str, size: int, at: int) -> bool:
        """Look up and store."""
        held = self._held
        if key in held:
            held.move_to_end(key)
            return True
        if size + ENTRY_BYTES > self._bytes:
            return False
        held[key] = size + ENTRY_BYTES
        self._used += size + ENTRY_BYTES
        while len(held) > self._items or self._used > self._bytes:
            _, freed = held.popitem(last=False)
            self._used -= freed
        return False


class Ranked:
    """Pushes out what ranks lowest; what is asked for is ranked anew.

    Args:
        items: the bound in number.
        most_bytes: the bound in bytes.
        rank: of a key, the how manieth look it is and the key's looks since it was stored.
    """

    def __init__(self, items: int, most_bytes: int, rank: Callable[[int, int], int]) -> None:
        self._items, self._bytes, self._used = items, most_bytes, 0
        self._rank = rank
        self._held: dict[str, tuple[int, int, int]] = {}
        """Bytes, looks, and the place in the heap that counts."""
        self._heap: list[tuple[int, int, str]] = []

    def hit(self, key: str, size: int, at: int) -> bool:
        """Look up and store."""
        size, looks, _ = self._held.get(key, (size + ENTRY_BYTES, 0, 0))
        if size > self._bytes:
            return False
        self._used += 0 if looks else size
        self._held[key] = (size, looks + 1, at)
        heappush(self._heap, (self._rank(at, looks + 1), at, key))
        while len(self._held) > self._items or self._used > self._bytes:
            _, place, out = heappop(self._heap)
            held = self._held.get(out)
            if held is not None and held[2] == place:
                self._used -= held[0]
                del self._held[out]
        if len(self._heap) > 8 * len(self._held) + 64:
            self._heap = [each for each in self._heap if self._counts(each)]
            heapify(self._heap)
        return looks > 0

    def _counts(self, each: tuple[int, int, str]) -> bool:
        held = self._held.get(each[2])
        return held is not None and held[2] == each[1]


def next_looks(trace: Sequence[Look]) -> list[int]:
    """Return, for each look-up, which is the next of the same key; the trace's length: none is."""
    after = [0] * len(trace)
    seen: dict[str, int] = {}
    for at in range(len(trace) - 1, -1, -1):
        after[at] = seen.get(trace[at].key, len(trace))
        seen[trace[at].key] = at
    return after


def packed_hits(trace: Sequence[Look], after: Sequence[int], most_bytes: int) -> int:
    """Return a bound that no cache of so many bytes exceeds.

    A hit costs its bytes for as long as they must be kept, and all hits together cost no more than the bytes times the
    trace's length; so many of the cheapest go in (PFOO-L: Berger, Beckmann, Harchol-Balter, "Practical bounds on
    optimal caching with variable object sizes", 2018).
    """
    left = most_bytes * len(trace)
    costs = sorted(
        (following - at) * (look.size + ENTRY_BYTES)
        for at, (look, following) in enumerate(zip(trace, after, strict=True))
        if following < len(trace) and look.size + ENTRY_BYTES <= most_bytes
    )
    for hits, cost in enumerate(costs):
        left -= cost
        if left < 0:
            return hits
    return len(costs)


def replay(
    trace: Sequence[Look],
    sizes: Sequence[int],
    most_bytes: int,
    progress: Callable[[int, int], None],
) -> list[Row]:
    """Play a trace through every cache at every size.

    Args:
        trace: the look-ups.
        sizes: bounds in number.
        most_bytes: the bound in bytes, of values together with what an entry costs.
        progress: told how many of how many look-ups are done.
    """
    after = next_looks(trace)
    # Belady, 1966: what is needed last goes, the newest included. Exact for entries of one size; for bytes there is a bound.
    makers: dict[str, Callable[[int], Replay]] = {
        "backendkit": lambda items: FirstTier(items, most_bytes),
        "LRU": lambda items: Lru(items, most_bytes),
        "LFU": lambda items: Ranked(items, most_bytes, lambda _, looks: looks),
        "optimum": lambda items: Ranked(items, UNBOUNDED_BYTES, lambda at, _: -after[at]),
    }
    most_hits = packed_hits(trace, after, most_bytes)
    done, of = 0, len(trace) * len(sizes) * len(makers)
    rows: list[Row] = []
    for items in sizes:
        hits: dict[str, int] = {}
        for name, make in makers.items():
            cache, found = make(items), 0
            for at, (key, size, _) in enumerate(trace):
                found += cache.hit(key, size, at)
                if not at & 1_023:
                    progress(done + at, of)
            hits[name] = found
            done += len(trace)
        hits["optimum"] = min(hits["optimum"], most_hits)
        rows.append(Row(items, hits))
    return rows
