"""The nodes of a Redis Cluster, and which of them owns a key.

Source: the Redis cluster specification, https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

from backendkit.core.errors import CrossSlot, StoreUnavailable
from backendkit.core.look import LOOK
from backendkit.core.operation import Operation
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.topology import Learnt, Wire, text_of

SLOTS = 16384
"""Hash slots of a Cluster, by its specification."""


class Cluster(Learnt):
    """A Redis Cluster: each slot's master, from whichever node answers.

    Args:
        dial: options of connections to all nodes.
        nodes: some of them, to ask first.
    """

    __slots__ = ("_answered", "_nodes", "_slots", "_suspects")

    def __init__(self, dial: Dial, nodes: Sequence[Address]) -> None:
        super().__init__(dial)
        self._nodes = list(nodes)
        self._answered = self._nodes[:1]  # who was the last to answer is asked first next time
        self._slots: list[Address | None] = [None] * SLOTS
        self._suspects: set[Address] = set()

    def suspect(self, address: Address | None = None) -> None:
        """Have the next operation on this node ask first; those on others go on."""
        if address is None:
            self._stale = True
        else:
            self._suspects.add(address)

    slotted = True

    def address(self, operation: Operation[Any]) -> Address | None:
        """Return the address of the master that owns the keys' slot, or None if it must be asked for first."""
        slot, alike = slot_of(operation.keys[0]), operation.script is LOOK
        if not alike and any(slot_of(key) != slot for key in operation.keys[1:]):
            raise CrossSlot(
                "keys",
                "must lie in one slot of the Cluster",
                operation.keys,
                fix="give them one {hash tag}, or run them as several operations",
            )
        owner = None if self._stale else self._slots[slot]
        return None if owner in self._suspects else owner

    def primaries(self) -> list[Address] | None:
        """Return all owners of slots, or None if they must be asked for first."""
        if self._stale or self._suspects:
            return None
        return sorted({owner for owner in self._slots if owner is not None})

    def route(self, operation: Operation[Any]) -> str:
        """Return the address of the slot's last known owner."""
        return str(self._slots[slot_of(operation.keys[0])] or "a node not yet known")

    def moved(self, slot: int, address: Address) -> None:
        """Remember the owner that a node named; the rest of the map is asked for at the next loss."""
        self._slots[slot] = address

    async def _ask(self, wire: Wire, due_us: int) -> None:
        reasons: list[str] = []
        owners = (owner for owner in self._slots if owner is not None)
        known = dict.fromkeys([*self._answered, *self._nodes, *owners])
        nodes = sorted(known, key=self._suspects.__contains__)  # those that failed come last
        for node, until_us in self._in_turn(nodes, due_us):
            try:
                ranges = await wire.command(self.dial, node, until_us, "CLUSTER", "SLOTS")
            except StoreUnavailable as error:
                reasons.append(error.reason)
                continue
            if not ranges:
                # It has left the Cluster, or has not yet joined it: what it does not know others may.
                reasons.append(f"{node} knows of no slots")
                continue
            slots: list[Address | None] = [None] * SLOTS
            for first, last, master, *_ in ranges:
                # An empty host means the one that was asked.
                address = Address(text_of(master[0] or node.host), int(master[1]))
                slots[first : last + 1] = [address] * (last + 1 - first)
            self._slots = slots
            self._suspects = set()
            self._answered = [node]
            self._learnt()
            return
        raise StoreUnavailable("no node of the Cluster answers: " + "; ".join(reasons))


def slot_of(key: bytes) -> int:
    """Return the hash slot of `key`: CRC16 of its hash tag, or of all of it where it has none."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS
