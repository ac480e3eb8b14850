"""Who was pushed out lately: a table of 8-byte slots, where a dict of names would cost 300 bytes each.

A slot holds 32 bits of a key's hash and 32 bits of when it was written. Four slots are a bucket; a bucket that is
full forgets its oldest. So a key is forgotten too early when five met in one bucket, and taken for another once in
two thousand million looks, either of which costs one better or worse guess about what to keep.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

WAYS = 4
"""Slots in a bucket."""

SLOT_BYTES = 8


class Ghosts:
    """Remembers keys, the latest ones. Not safe to share between threads.

    Args:
        capacity: how many to have room for; rounded up to a power of two.

    Cost: 8 to 16 bytes for each of `capacity`, from the start; `add` and `take` look at four slots.
    """

    __slots__ = ("_count", "_shift", "_slots")

    def __init__(self, capacity: int) -> None:
        bits = max((capacity - 1).bit_length(), 2)
        self._slots = array("Q", bytes(SLOT_BYTES << bits))
        self._shift = 64 - (bits - 2)
        self._count = 0

    def add(self, key: Hashable) -> None:
        """Remember `key` as the latest."""
        mark, bucket = self._places(key)
        slots = self._slots
        self._count = now = self._count + 1
        oldest, place = -1, bucket
        for at in range(bucket, bucket + WAYS):
            slot = slots[at]
            if not slot or slot >> 32 == mark:
                place = at
                break
            age = (now - slot) & _LOW
            if age > oldest:
                oldest, place = age, at
        slots[place] = mark << 32 | now & _LOW

    def take(self, key: Hashable, span: int) -> bool:
        """Tell whether `key` is among the latest `span`, and forget it."""
        mark, bucket = self._places(key)
        slots = self._slots
        for at in range(bucket, bucket + WAYS):
            slot = slots[at]
            if slot and slot >> 32 == mark:
                slots[at] = 0
                return (self._count - slot) & _LOW < span
        return False

    def clear(self) -> None:
        """Forget all."""
        self._slots = array("Q", bytes(SLOT_BYTES * len(self._slots)))

    def _places(self, key: Hashable) -> tuple[int, int]:
        """Return a key's mark, never zero, and where its bucket begins."""
        mixed = hash(key) * _GOLDEN & _ALL
        return mixed & _LOW | 1, (mixed >> self._shift) * WAYS


_ALL = 2**64 - 1
_LOW = 2**32 - 1
_GOLDEN = 0x9E3779B97F4A7C15
"""Fibonacci hashing (Knuth, volume 3, section 6.4): small whole numbers are their own hash, and must spread as well."""
