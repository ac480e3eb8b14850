"""An entry of the second tier as bytes: a head that scripts read, versions that readers compare, the encoded value.

Times are microseconds of the server's clock, so that processes whose clocks differ agree on them.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import NamedTuple

TOKEN_BYTES = 16
"""The length of version and lease tokens: 64 random bits, in hexadecimal."""

HEAD = Struct(">QQQ")
"""When it was stored, until when it is fresh, until when it may serve as stale. All that scripts write themselves."""

GRACE_US = 60_000_000
"""Microseconds: how much longer than its logical life an entry is kept: collecting garbage must not decide anything."""

FIXED = Struct(">QQQ16sQ")
"""The head, the version of the namespace, and the load's time: all that stands in every entry at the same place."""

UNTAGGED = b"\0\0"
"""What follows in an entry that has no tags: their number."""

_TAIL = Struct(">16sQH")
_NAME = Struct(">H16s")


class Entry(NamedTuple):
    """What lies under a key.

    Attributes:
        at: when it was stored; names this very entry where one is refused.
        fresh: until when it is fresh.
        stale: until when it may serve where nothing fresh can be had.
        namespace: the version of the namespace that it was loaded under.
        cost: microseconds that its load took.
        tags: names and versions of its tags.
        meta: the bytes between head and payload, which the payload is sealed with.
        payload: the encoded value.
    """

    at: int
    fresh: int
    stale: int
    namespace: bytes
    cost: int
    tags: tuple[tuple[str, bytes], ...]
    meta: bytes
    payload: bytes


def meta_of(namespace: bytes, cost: int, tags: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return an entry's bytes between the head and the encoded value: all that no script writes."""
    parts = [_TAIL.pack(namespace, cost, len(tags))]
    for name, version in tags:
        raw = name.encode("utf-8", "surrogatepass")
        parts += (_NAME.pack(len(raw), version), raw)
    return b"".join(parts)


def parse(raw: bytes) -> Entry | None:
    """Return the entry that `raw` spells, or None where it spells none."""
    try:
        at, fresh, stale = HEAD.unpack_from(raw)
        namespace, cost, count = _TAIL.unpack_from(raw, HEAD.size)
        place = HEAD.size + _TAIL.size
        if not count:
            return Entry(at, fresh, stale, namespace, cost, (), raw[HEAD.size : place], raw[place:])
        tags: list[tuple[str, bytes]] = []
        for _ in range(count):
            length, version = _NAME.unpack_from(raw, place)
            place += _NAME.size
            tags.append((raw[place : place + length].decode("utf-8", "surrogatepass"), version))
            place += length
        return Entry(
            at, fresh, stale, namespace, cost, tuple(tags), raw[HEAD.size : place], raw[place:]
        )
    except (struct.error, UnicodeDecodeError):
        return None
