"""Which of the 16,384 slots of a cluster a key lies in.

Source: Redis Cluster specification, "Key distribution model" and "Hash tags": CRC-16/XMODEM of the
key, or of what stands between the first brace and the next closing one, if that is not empty.
"""

import binascii
from collections.abc import Callable
from functools import lru_cache
from itertools import count

SLOTS = 16_384


def key_slot(key: bytes | str) -> int:
    """Return the slot of a key."""
    raw = key.encode() if isinstance(key, str) else key
    _, opened, rest = raw.partition(b"{")
    tag, closed, _ = rest.partition(b"}")
    return binascii.crc_hqx(tag if opened and closed and tag else raw, 0) % SLOTS


@lru_cache(maxsize=1_024)
def tag_in(slot: int) -> str:
    """Return a short hash tag, without braces, for keys in this slot (some 20 ms at first)."""
    return find_tag(lambda candidate: candidate == slot)


def find_tag(wanted: Callable[[int], bool]) -> str:
    """Return the first of the tags "t0", "t1", ... whose slot is wanted."""
    return next(tag for number in count() if wanted(key_slot(tag := f"t{number}")))
