"""Counting without locks on hot paths: every connection counts for itself, and a snapshot adds up."""

from __future__ import annotations

import threading
from typing import Protocol

from backendkit.core.store import StoreStats


class Tally:
    """The counts of one connection or lane, written by one thread at a time."""

    __slots__ = (
        "batches",
        "connects",
        "largest_batch",
        "operations",
        "resent",
        "timeouts",
        "waits",
    )

    def __init__(self) -> None:
        self.operations = self.batches = self.largest_batch = self.connects = 0
        self.timeouts = self.resent = self.waits = 0

    def add(self, other: Tally) -> None:
        """Add the counts of `other` to these."""
        self.operations += other.operations
        self.batches += other.batches
        self.largest_batch = max(self.largest_batch, other.largest_batch)
        self.connects += other.connects
        self.timeouts += other.timeouts
        self.resent += other.resent
        self.waits += other.waits


class Counted(Protocol):
    """Something that carries operations and can say how many right now."""

    @property
    def tally(self) -> Tally:
        """What it has done."""
        ...

    @property
    def connected(self) -> bool:
        """Whether it has an open connection."""
        ...

    @property
    def in_flight(self) -> int:
        """Operations sent and not answered."""
        ...

    @property
    def waiting(self) -> int:
        """Operations not yet sent."""
        ...


class Ledger:
    """The counts of a whole store."""

    __slots__ = ("_live", "_lock", "_past")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[Counted] = set()
        self._past = Tally()

    def open(self, counted: Counted) -> None:
        """Begin to include `counted`."""
        with self._lock:
            self._live.add(counted)

    def close(self, counted: Counted) -> None:
        """Keep what `counted` has done and let go of it."""
        with self._lock:
            if counted in self._live:
                self._live.remove(counted)
                self._past.add(counted.tally)

    def resent(self) -> None:
        """Count one operation that was sent again: rare, and so under the lock."""
        with self._lock:
            self._past.resent += 1

    def stats(self) -> StoreStats:
        """Add up."""
        total = Tally()
        with self._lock:
            live = list(self._live)
            total.add(self._past)
        for counted in live:
            total.add(counted.tally)
        return StoreStats(
            in_flight=sum(c.in_flight for c in live),
            waiting=sum(c.waiting for c in live),
            waits=total.waits,
            operations=total.operations,
            batches=total.batches,
            largest_batch=total.largest_batch,
            connections=sum(c.connected for c in live),
            connects=total.connects,
            timeouts=total.timeouts,
            resent=total.resent,
        )
