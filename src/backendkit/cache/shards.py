"""A mapping of many small dicts, because one large dict stops the world.

A dict in which keys come and go is built anew whenever its table is used up: 294 ms at a million keys, during which
no thread of the process runs. Dicts of at most `SHARD_ITEMS` keys are built anew in less than a millisecond each.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

V = TypeVar("V")

SHARD_ITEMS = 8_192
"""Keys in a dict, on average at most."""


class Shards(MutableMapping[str, V]):
    """A mapping with text as keys, in as many dicts as `max_items` keys need."""

    __slots__ = ("_mask", "_shards")

    def __init__(self, max_items: int) -> None:
        count = 1 << (-(-max_items // SHARD_ITEMS) - 1).bit_length()
        self._mask = count - 1
        self._shards: tuple[dict[str, V], ...] = tuple({} for _ in range(count))

    def __getitem__(self, key: str) -> V:
        return self._shards[hash(key) & self._mask][key]

    def __setitem__(self, key: str, value: V) -> None:
        self._shards[hash(key) & self._mask][key] = value

    def __delitem__(self, key: str) -> None:
        del self._shards[hash(key) & self._mask][key]

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from list(shard)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def clear(self) -> None:
        """Drop all, shard by shard, so that other threads run in between."""
        for shard in self._shards:
            shard.clear()
