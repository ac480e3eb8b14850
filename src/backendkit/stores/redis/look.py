"""A `core.look` as plain commands: the values, then the time, in one write.

What comes back of several commands is put into the one reply that the script would have given. Whatever a server
refuses is left unsaid: who asked then asks by a script, which knows what to do about redirections, servers that are loading, and
missing rights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import StoreError
from backendkit.core.look import ABSENT, UNSAID, look, unsaid
from backendkit.core.operation import Item, Operation
from backendkit.stores.redis.cluster import slot_of
from backendkit.stores.redis.topology import Topology
from backendkit.stores.redis.verdict import Raw

MOST_KEYS = 250
"""Values that one look reads: as many as a server answers well within any timeout that makes sense."""


class Packed(NamedTuple):
    """Commands, and how many replies they get."""

    payload: bytes
    replies: int


def pack_look(operation: Operation[Any], *, slotted: bool) -> Packed:
    """Return a look as commands; on a Cluster, where one command takes keys of one slot, a `GET` for each."""
    keys = operation.keys
    words = [b"$%d\r\n%b\r\n" % (len(key), key) for key in keys]
    if slotted or len(keys) == 1:
        return Packed(_GET + _GET.join(words) + _TIME, len(keys) + 1)
    return Packed(b"*%d\r\n$4\r\nMGET\r\n" % (len(keys) + 1) + b"".join(words) + _TIME, 2)


def reply_of(operation: Operation[Any], raws: Sequence[Raw], now: Callable[[], int] | None) -> Raw:
    """Return the one reply for what came back, or the store's error.

    Args:
        operation: the look.
        raws: what came back for each command.
        now: for tests only: what is taken for the server's time.
    """
    time = raws[-1]
    if isinstance(time, StoreError):
        return time
    if not isinstance(time, list):
        return unsaid(operation)
    us = int(time[0]) * SECOND_US + int(time[1]) if now is None else now()
    values: Sequence[Raw] = raws[:-1]
    if len(raws) == 2 and len(operation.keys) > 1:
        found = raws[0]
        if not isinstance(found, list):
            return unsaid(operation)
        values = found
    return [us, *[_item(value) for value in values]]


def together(topology: Topology, keys: Sequence[bytes]) -> list[list[int]]:
    """Return the places of keys that one look may ask for: of one server, or of one slot while nobody knows whose it is."""
    groups: dict[object, list[int]] = {}
    if topology.slotted:
        for place, key in enumerate(keys):
            owner = topology.address(look((key,))) or slot_of(key)
            groups.setdefault(owner, []).append(place)
    else:
        groups[None] = list(range(len(keys)))
    return [
        places[at : at + MOST_KEYS]
        for places in groups.values()
        for at in range(0, len(places), MOST_KEYS)
    ]


def _item(raw: Raw) -> Item:
    if raw is None:
        return ABSENT
    return raw if isinstance(raw, bytes) else UNSAID


_GET = b"*2\r\n$3\r\nGET\r\n"
_TIME = b"*1\r\n$4\r\nTIME\r\n"
