"""Moving one slot from master to master, in steps, so that a test can stop in between.

Between `begin` and `end` the old owner answers ASK for keys that have gone, the new owner serves
only who says ASKING, and a command whose keys have gone in part gets TRYAGAIN. After `end`, the old
owner answers MOVED.
Source: Redis documentation of CLUSTER SETSLOT, "Redis Cluster live resharding explained".
"""

from tests.ground.ports import HOST
from tests.ground.servers import Server

_MIGRATE_TIMEOUT_MS = 5_000


class SlotMove:
    """One slot under way; made by `ClusterGroup.begin_move`."""

    def __init__(self, slot: int, *, source: Server, target: Server, masters: list[Server]) -> None:
        self.slot = slot
        self.source = source
        self.target = target
        self._masters = masters

    def begin(self) -> None:
        """Open the window: the target is IMPORTING, the source MIGRATING."""
        self._set_slot(self.target, "IMPORTING", self.source.text("CLUSTER", "MYID"))
        self._set_slot(self.source, "MIGRATING", self.target.text("CLUSTER", "MYID"))

    def migrate(self, limit: int = 1_000_000) -> int:
        """Move keys, at most `limit` of them, and return how many were moved."""
        keys = self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, limit)
        names = [key for key in keys if isinstance(key, bytes)] if isinstance(keys, list) else []
        if names:
            self.migrate_keys(*names)
        return len(names)

    def migrate_keys(self, *keys: bytes | str) -> None:
        """Move these keys."""
        place = (HOST, self.target.port, "", 0, _MIGRATE_TIMEOUT_MS)
        self.source.command("MIGRATE", *place, "KEYS", *keys)

    def end(self) -> None:
        """Close the window: the slot is the target's. Keys must have been migrated.

        The target learns it first: were it the other way round, both would send clients to each
        other if we died in between.
        """
        target_id = self.target.text("CLUSTER", "MYID")
        others = [node for node in self._masters if node not in (self.target, self.source)]
        for node in (self.target, self.source, *others):
            if node.alive:
                self._set_slot(node, "NODE", target_id)

    def cancel(self) -> None:
        """Close the window: the slot stays the source's, without the keys that went."""
        for node in (self.source, self.target):
            self._set_slot(node, "STABLE")

    def _set_slot(self, node: Server, *state: str) -> None:
        node.command("CLUSTER", "SETSLOT", self.slot, *state)
