"""What one process knows: its first tier, the loads in the air, the versions it has read, and how far to trust them.

Every change of the first tier happens under its lock, by one rule: what is to be stored belongs to a `Ticket` taken
before anything was asked of anybody, and is stored only if nobody has detached the ticket since. Handling a message
detaches under the same lock. Versions are objects: whoever learns that one was replaced marks it dead, and all that
was loaded under it is dead with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from weakref import WeakValueDictionary

from cachetools import LRUCache

from backendkit.cache.bell import Bell
from backendkit.cache.l1 import L1, Entry
from backendkit.cache.record import Record, Ticket, Watch, Watches
from backendkit.cache.scope import Scope, Version
from backendkit.core.clock import Clock, seconds_of
from backendkit.core.flights import Flights


class Local:
    """One cache's state in this process.

    Args:
        l1: the first tier.
        flights: loads in the air.
        clock: the store's.
        staleness: seconds for which an entry counts after its load or read began, while nobody tells of changes;
            infinite where nobody else can change anything.
    """

    def __init__(self, l1: L1, flights: Flights, clock: Clock, staleness: float) -> None:
        self.l1 = l1
        self.flights = flights
        self.now = seconds_of(clock)
        self.staleness = staleness
        self.era: object = object()
        # By the short ways of the faces; without a lock, so that threads may lose some.
        self.hits = 0
        self._lock = l1.lock
        self._removals = 0
        self._forget()

    def _forget(self) -> None:
        self.namespace: Version | None = None
        self.epoch: Version | None = None
        self._tags: WeakValueDictionary[str, Version] = WeakValueDictionary()
        # Whose entries have been evicted: without it each read from the second tier would ask for them again.
        self._recent: LRUCache[str, Version] = LRUCache(_RECENT_TAGS)
        self._tickets: dict[str, Ticket] = {}
        self._watches, self._marks = Watches(), Watches()
        self._scopes: dict[tuple[str, ...], Scope] = {}
        self._bells: dict[str, Bell] = {}

    def after_fork_in_child(self) -> None:
        """Begin anew: what the parent's thread kept up to date nobody does here."""
        self.l1.clear()
        self.era = object()
        self._watches.detach()
        self._marks.detach()
        # A loader that has forked goes on here as well: nobody would tell it of anything.
        self._bury([self.namespace, self.epoch, *self._tags.values()])
        for ticket in self._tickets.values():
            ticket.attached = False
        self._forget()

    # Entries

    def board(self, key: str) -> Ticket:
        """Take a ticket, before anything about `key` is asked of anybody; give it back by `land`."""
        with self._lock:
            ticket = self._tickets.get(key)
            if ticket is None:
                ticket = self._tickets.setdefault(key, Ticket(self.now()))
            ticket.count += 1
            return ticket

    def watch(self) -> Watch:
        """Begin to hear what concerns any key, before many are asked for at once; end it by `unwatch`."""
        with self._lock:
            return self._watches.begin()

    def unwatch(self, watch: Watch) -> None:
        """Hear no more."""
        with self._lock:
            self._watches.end(watch)

    def land(self, key: str, ticket: Ticket) -> None:
        """Give a ticket back."""
        with self._lock:
            ticket.count -= 1
            if not ticket.count and self._tickets.get(key) is ticket:
                self._detach(key)

    def part(self, key: str) -> None:
        """Keep who asks now from joining a load that began too long ago, if nobody tells of changes: one may be due."""
        if key not in self.flights:
            return
        now = self.now()
        with self._lock:
            ticket = self._tickets.get(key)
            if ticket is None or now < self.l1.trusted_until or now < ticket.began + self.staleness:
                return
            self._detach(key)
        self.flights.detach(key)

    def fill(self, key: str, ticket: Ticket, record: Record) -> bool:
        """Store, if the ticket is still attached and no version was replaced; tell whether it was."""
        with self._lock:
            removals = self._removals
            if not ticket.attached or (record.scope is not None and not record.scope.alive):
                return False
            gone, stored = self._place(key, record, removals)
        gone.clear()
        return stored

    def fill_all(self, watch: Watch, found: Mapping[str, tuple[Record, object]]) -> None:
        """Store all of which nothing was heard, as `fill` does."""
        items = iter(found.items())
        while some := list(islice(items, _FILLED)):
            gone: list[Entry] = []
            with self._lock:
                heard, scope, alive, removals = watch.heard, None, False, -1
                for key, (record, _) in some:
                    if record.scope is not scope or removals != self._removals:
                        removals, scope = self._removals, record.scope
                        alive = watch.attached and scope is not None and scope.alive
                    if alive and key not in heard:
                        gone += self._place(key, record, removals)[0]
            gone.clear()

    def replace(self, key: str, ticket: Ticket, record: Record) -> None:
        """Store what this process itself has just set; all that was asked for before is detached."""
        if not self.settle(key, ticket, record):
            self.drop(key)

    def settle(self, key: str, ticket: Ticket, record: Record) -> bool:
        """Store as `fill` does, and tell whether; all else that was asked for before is detached."""
        with self._lock:
            removals = self._removals
            if not ticket.attached or (record.scope is not None and not record.scope.alive):
                return False
            gone = self._drop(key)
            more, stored = self._place(key, record, removals + 1)
        self.flights.detach(key)
        gone.clear()
        more.clear()
        return stored

    def spoil(self, key: str, record: Record) -> None:
        """Forget this very entry: its value cannot be made."""
        with self._lock:
            gone = [self.l1.drop(key)] if self.l1.peek(key) is record else []
        gone.clear()

    def drop(self, key: str) -> None:
        """Forget an entry, and detach all that is under way for it."""
        with self._lock:
            gone = self._drop(key)
        self.flights.detach(key)
        self.ring(key)
        gone.clear()

    def soften(self, key: str) -> None:
        """Let an entry be stale from now on, and detach all that is under way for it."""
        now = self.now()
        with self._lock:
            self._removals += 1
            self._hear(key)
            record = self.l1.peek(key)
            if isinstance(record, Record):
                times = record.times
                fresh = min(times.fresh, now)
                record.live(times._replace(fresh=fresh), min(record.deadline, now))
        self.flights.detach(key)
        self.ring(key)

    def flush(self) -> None:
        """Forget all: something may have been missed."""
        with self._lock:
            self._removals += 1
            self.era = object()
            tags, self._tags = self._tags, WeakValueDictionary()
            self._bury([self.namespace, self.epoch, *tags.values()])
            self.namespace = self.epoch = None
            tickets, self._tickets = self._tickets, {}
            for ticket in tickets.values():
                ticket.attached = False
            self._watches.detach()
            self._marks.detach()
        self.l1.clear()
        self.flights.detach_all()
        for key in list(self._bells):
            self.ring(key)

    def lives(self, record: Record) -> bool:
        """Whether the versions of an entry are those of now."""
        era = self.era  # before the look: a version that dies after it changes the era once more
        if record.era is era:
            return True
        if record.scope is None or not record.scope.alive:
            return False
        record.era = era
        return True

    def trusts(self, record: Record, now: float) -> bool:
        """Whether nothing that concerns an entry can have changed for longer than the staleness allowed."""
        return now < self.l1.trusted_until or now < record.times.until

    def _drop(self, key: str) -> list[Entry]:
        self._removals += 1
        self._hear(key)
        gone = self.l1.drop(key)
        return [] if gone is None else [gone]

    def _detach(self, key: str) -> None:
        ticket = self._tickets.pop(key, None)
        if ticket is not None:
            ticket.attached = False

    def _hear(self, key: str) -> None:
        """Let nothing be stored that was asked for before now."""
        self._detach(key)
        self._watches.tell(key)

    def _place(self, key: str, record: Record, removals: int) -> tuple[list[Entry], bool]:
        """Store, and tell whether it is; not where a finalizer that ran within has removed something: it may be this."""
        record.era = self.era
        gone = self.l1.place(key, record)
        if self._removals == removals:
            return gone, True
        return gone + self._drop(key), False

    # Versions

    def known(self, tags: Iterable[str]) -> Scope | None:
        """Return the versions of now, if all of them are known."""
        now = self.now()
        with self._lock:
            namespace, epoch = self._valid(self.namespace, now), self._valid(self.epoch, now)
            if namespace is None or epoch is None:
                return None
            found: dict[str, Version] = {}
            for tag in tags:
                version = self._valid(self._tags.get(tag), now)
                if version is None:
                    return None
                found[tag] = version
            return self._scope(namespace, epoch, found)

    def mark(self) -> Watch:
        """Return what `learn` needs; to be taken before versions are asked for, and given back by `unmark`."""
        with self._lock:
            return self._marks.begin()

    def unmark(self, mark: Watch) -> None:
        """Hear no more."""
        with self._lock:
            self._marks.end(mark)

    def learn(
        self, mark: Watch, began: float, tokens: tuple[bytes, bytes], tags: dict[str, bytes]
    ) -> Scope | None:
        """Note versions as they were read; None if the namespace's or a tag's may have been replaced since `mark`.

        The epoch may be one that was: what is stored under it then is refused once too often, for whoever names tags late
        compares it with what is read with those. Were it waited for, nothing would be read while many tags are invalidated.
        """
        until = began + self.staleness
        with self._lock:
            removals = self._removals
            if not mark.attached or not mark.heard.isdisjoint(tags):
                return None
            old = self.namespace
            self.namespace = self._kept(old, tokens[0], until)
            self.epoch = self._kept(self.epoch, tokens[1], until)
            found: dict[str, Version] = {}
            for tag, token in tags.items():
                known = self._tags.get(tag)
                found[tag] = self._kept(known, token, until)
                if found[tag] is not known:
                    self._marks.tell(tag, but=mark)
            if self.namespace is not old:
                self._marks.detach(but=mark)
            self._tags.update(found)
            self._recent.update(found)
            if self._removals == removals:
                return self._scope(self.namespace, self.epoch, found)
        self.flush()  # a finalizer that ran within has removed something: it may be one of these
        return None

    def invent(self, tags: Iterable[str], draw: Callable[[], bytes], *, read: bool) -> Scope:
        """Return versions where nobody can be asked: those that were known, else new ones.

        Args:
            tags: of the load.
            draw: makes tokens.
            read: whether they count as read: True where there is no second tier.
        """
        with self._lock:
            namespace, epoch = self.namespace, self.epoch
            if namespace is None:
                namespace = self.namespace = Version(draw(), math.inf, read=read)
            if epoch is None:
                epoch = self.epoch = Version(draw(), math.inf, read=read)
            found: dict[str, Version] = {}
            for tag in tags:
                version = self._tags.get(tag)
                if version is None:
                    version = self._tags[tag] = Version(draw(), math.inf, read=read)
                found[tag] = version
            return self._scope(namespace, epoch, found)

    def clear(self) -> None:
        """Let the namespace's version die, and all that was loaded under it."""
        with self._lock:
            self._removals += 1
            self.era = object()
            self._marks.detach()
            self._bury([self.namespace])
            self.namespace = None
        self.l1.clear()
        self.flights.detach_all()

    def kill(self, tags: Iterable[str]) -> None:
        """Let versions of tags die; loads in the air go on for those who wait, and nobody joins them."""
        with self._lock:
            self._removals += 1
            self.era = object()
            tags = tuple(tags)
            for tag in tags:
                self._marks.tell(tag)
            self._bury([self.epoch, *(self._tags.pop(tag, None) for tag in tags)])
            self.epoch = None
        self.flights.detach_all()

    def _scope(self, namespace: Version, epoch: Version, tags: dict[str, Version]) -> Scope:
        """Return the scope of these versions, one for all entries that share them."""
        names = tuple(tags)
        scope = self._scopes.get(names)
        if (
            scope is None
            or scope.namespace is not namespace
            or scope.epoch is not epoch
            or scope.tags != tags
        ):
            if len(self._scopes) >= _MOST_SCOPES:
                self._scopes.clear()
            scope = self._scopes[names] = Scope(namespace, epoch, tags)
        return scope

    def _valid(self, version: Version | None, now: float) -> Version | None:
        told = now < self.l1.trusted_until
        return version if version is not None and version.counts(now, told=told) else None

    def _kept(self, old: Version | None, token: bytes, until: float) -> Version:
        """Return the version object for a token: the old one if it is the same, for entries refer to it."""
        if old is not None and old.token == token and old.alive:
            old.until = max(old.until, until)
            return old
        self._bury([old])
        return Version(token, until)

    def _bury(self, versions: Iterable[Version | None]) -> None:
        for version in versions:
            if version is not None:
                was_alive, version.alive = version.alive, False
                if was_alive:
                    # Afterwards: `lives` reads the era first, and takes no lock.
                    self.era = object()

    # Waiting for other processes

    def bell(self, key: str) -> Bell:
        """Return what rings when the load of `key` elsewhere has ended; `hang_up` after use."""
        with self._lock:
            return self._bells.setdefault(key, Bell())

    def ring(self, key: str) -> None:
        """Wake whoever waits for `key`."""
        with self._lock:
            bell = self._bells.pop(key, None)
        if bell is not None:
            bell.ring()


_FILLED = 64
"""Entries that are stored under one hold of the lock, which messages wait for."""

_MOST_SCOPES = 1_024
"""Combinations of tags whose scopes are kept."""

_RECENT_TAGS = 4_096
"""Versions of tags that are kept although no entry of the first tier has them."""
