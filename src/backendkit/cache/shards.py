"""A mapping of many small dicts, because one large dict stops the world.

A dict in which keys come and go is built anew whenever its table is used up: 294 ms at a million keys, during which
no thread of the process runs. Dicts of about `SHARD_ITEMS` keys are built anew in a tenth of a millisecond each.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

V = TypeVar("V")

SHARD_ITEMS = 2_560
"""Keys in a dict, on average at most. A dict makes room for thrice its keys in a power of two, here 2**13: 40 bytes a key;
with 3,000 it would be 69."""


class Shards(MutableMapping[str, V]):
    """A mapping with text as keys, in as many dicts as `max_items` keys need."""

    __slots__ = ("_count", "_shards")

    def __init__(self, max_items: int) -> None:
        self._count = -(-max_items // SHARD_ITEMS)
        self._shards: tuple[dict[str, V], ...] = tuple({} for _ in range(self._count))

    def __getitem__(self, key: str) -> V:
        return self._shards[hash(key) % self._count][key]

    def __setitem__(self, key: str, value: V) -> None:
        self._shards[hash(key) % self._count][key] = value

    def __delitem__(self, key: str) -> None:
        del self._shards[hash(key) % self._count][key]

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from list(shard)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def clear(self) -> None:
        """Drop all, shard by shard, so that other threads run in between."""
        for shard in self._shards:
            shard.clear()
