"""Keys by the time they expire: a timer wheel without a timer, which its owner turns.

A bucket is as wide as a 32nd of the time to live or less, a second at least: what lives for weeks needs no bucket for
each second of them, there are never more than some thousand buckets, and a key that is written all the time moves
from one to another a few dozen times in its life. Buckets are cut into chunks, so that none of them grows large.
"""

from __future__ import annotations

from heapq import heappop, heappush


class Chunk:
    """Some of the keys of a bucket.

    Attributes:
        due: when all of them have expired.
        keys: in the order in which they came.
    """

    __slots__ = ("due", "keys")

    def __init__(self, due: int) -> None:
        self.due = due
        self.keys: dict[bytes, None] = {}


class Wheel:
    """Lists each key once; times are microseconds of one monotonic clock. Every call takes constant time, or nearly.

    Attributes:
        buckets: chunks, by when all that is in them has expired.
        due: a heap of the same times.
    """

    __slots__ = ("buckets", "due")

    def __init__(self) -> None:
        self.buckets: dict[int, list[Chunk]] = {}
        self.due: list[int] = []

    def clear(self) -> None:
        """Forget all keys."""
        self.buckets.clear()
        self.due.clear()

    def is_due(self, now: int) -> bool:
        """Return whether there is a bucket whose time has passed."""
        return bool(self.due) and self.due[0] <= now

    def enlist(self, key: bytes, expires: int, ttl_us: int) -> Chunk:
        """List a key that is not listed; return where, for `strike`."""
        bits = max(_LEAST_BITS, ttl_us.bit_length() - _FINENESS)
        due = ((expires >> bits) + 1) << bits
        bucket = self.buckets.get(due)
        if bucket is None:
            bucket = self.buckets[due] = []
            heappush(self.due, due)
        if not bucket or len(bucket[-1].keys) >= CHUNK:
            bucket.append(Chunk(due))
        chunk = bucket[-1]
        chunk.keys[key] = None
        return chunk

    def strike(self, key: bytes, chunk: Chunk) -> None:
        """Take a key off its chunk. An empty one goes at once: the time of long-lived ones may be weeks away."""
        keys = chunk.keys
        del keys[key]
        if not keys:
            self.buckets[chunk.due].remove(chunk)
        elif len(keys) in _THINNED:
            chunk.keys = dict.fromkeys(keys)  # else it keeps the room of all that have left

    def pop(self) -> bytes | None:
        """Take a key off the bucket that is due first; None where that was empty, and has gone instead."""
        bucket = self.buckets[self.due[0]]
        if not bucket:
            del self.buckets[heappop(self.due)]
            return None
        keys = bucket[-1].keys
        # The last, for a dictionary emptied from its front is searched through its holes each time.
        key, _ = keys.popitem()
        if not keys:
            bucket.pop()
        return key


CHUNK = 1024
"""Keys in a chunk."""

_LEAST_BITS = 20
"""The narrowest bucket spans 2**20 microseconds."""
_FINENESS = 6
"""The bucket of a life of n bits spans 2**(n - 6) microseconds: a 32nd to a 64th of it."""
_THINNED = frozenset({CHUNK // 8, CHUNK // 64})
"""At these numbers of keys left a chunk is laid out anew."""
