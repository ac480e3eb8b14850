"""What both faces of one cache share, and the records they make of values and entries."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from backendkit.cache import events
from backendkit.cache.behind import Behind
from backendkit.cache.decide import entry as entries
from backendkit.cache.decide import timing
from backendkit.cache.decide.entry import TOKEN_BYTES, Entry
from backendkit.cache.decide.tier import Answer, Keys, Life
from backendkit.cache.errors import Corrupt, NotEncodable
from backendkit.cache.loading import Marker
from backendkit.cache.local import Local
from backendkit.cache.looks import Looks
from backendkit.cache.names import Names
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.cache.record import Record, Ticket, Times
from backendkit.cache.scope import Scope
from backendkit.cache.stats import Counts
from backendkit.cache.values import frozen, is_immutable, size_of, uncopied
from backendkit.cache.wire import Wire
from backendkit.core.clock import SECOND_US
from backendkit.core.events import Event, Hooks


class Upkeep(Protocol):
    """What keeps leases and the channel alive."""

    def start(self) -> None:
        """See to it that it runs; cheap where it does."""
        ...

    def hold(self, token: bytes, keys: Keys) -> None:
        """Renew a lease until `let_go`."""
        ...

    def let_go(self, token: bytes) -> None:
        """Renew it no longer."""
        ...

    def note(self, operation: Any) -> None:
        """Remember an invalidation that was carried out, to be repeated after a failover that lost it."""
        ...

    def queue(self, keys: Iterable[str], operation: Any) -> None:
        """Carry out an invalidation as soon as possible."""
        ...

    def trusts(self, key: str) -> bool:
        """Whether no invalidation of `key` waits in the queue."""
        ...

    def behind(self) -> Behind:
        """Return the threads for loads behind callers that block."""
        ...

    def close(self) -> None:
        """End it."""
        ...


UNGIVEN: Final = Marker("UNGIVEN")
"""There was a value, and it cannot be made any more."""

UNKEPT: Final = sys.maxsize
"""The size of what the first tier must not keep: it refuses it, and drops what was there before."""

THROTTLED: Final = 0.0
"""The deadline of what is stale and serves for a while: always over, so that its callers are counted."""


class Call(NamedTuple):
    """One call of `get_or_load`."""

    key: str
    loader: Callable[[], Any]
    ttl_us: int
    tags: tuple[str, ...]
    policy: CachePolicy


class Brought(NamedTuple):
    """What a loader brought, or a caller sets, on its way into both tiers."""

    value: Any
    life: Life
    cost_us: int
    began: float


class Packed(NamedTuple):
    """An entry's bytes behind the head."""

    meta: bytes
    payload: bytes

    @property
    def tail(self) -> bytes:
        """All of them."""
        return self.meta + self.payload


@dataclass(slots=True, weakref_slot=True, eq=False)
class Core:
    """The parts of one cache; `lost` are tickets of leases that were let fall, to be landed when next one is taken."""

    local: Local
    names: Names
    wire: Wire | None
    policy: CachePolicy
    coherence: Coherence
    hooks: Hooks
    counts: Counts
    upkeep: Upkeep
    alone: bool
    chance: Callable[[], float]
    together: Callable[[Sequence[bytes]], list[list[int]]]
    looks: Looks = field(default_factory=Looks)
    lost: deque[tuple[str, Ticket]] = field(default_factory=deque)

    def tell(self, event: Event) -> None:
        """Emit an event."""
        if self.hooks:
            self.hooks.emit(event)

    def draw(self) -> bytes:
        """Return a new token for a version or a lease."""
        return os.urandom(8).hex().encode()

    def draws(self, number: int) -> list[bytes]:
        """Return so many new tokens."""
        drawn = os.urandom(8 * number).hex().encode()
        return [drawn[at : at + TOKEN_BYTES] for at in range(0, len(drawn), TOKEN_BYTES)]

    def life(self, call: Call, value: Any, ttl_us: int | None) -> Life:
        """Return how long what was loaded lives."""
        policy = call.policy
        if ttl_us is None:
            ttl_us = (
                call.ttl_us
                if value is not None or policy.negative_ttl is None
                else policy.negative_us
            )
        fresh = timing.jittered(ttl_us, policy.jitter, self.chance()) if policy.jitter else ttl_us
        return Life(fresh, fresh + policy.stale_us)

    def packed(
        self, call: Call, brought: Brought, scope: Scope, *, strict: bool = False
    ) -> Packed | None:
        """Return an entry's bytes; None, which is told, where the codec cannot keep the value."""
        assert self.wire is not None  # noqa: S101 - only what has a second tier packs
        tags = tuple((name, version.token) for name, version in scope.tags.items())
        meta = entries.meta_of(scope.namespace.token, brought.cost_us, tags)
        try:
            about = self.names.keys(call.key)[0] + meta
            return Packed(meta, self.wire.pack(brought.value, about))
        except Exception as error:
            if strict or self.coherence.strict:
                if isinstance(error, NotEncodable):
                    raise
                raise NotEncodable(f"the codec raised {type(error).__name__}") from error
            self.tell(events.NotStored(call.key, type(error).__name__))
            return None

    def record(
        self,
        call: Call,
        brought: Brought,
        scope: Scope,
        packed: Packed | None = None,
        *,
        strict: bool = False,
    ) -> Record:
        """Return what the first tier keeps of a loaded value; its life begins now.

        What can be neither copied nor decoded is told, and comes as a record that the first tier has no room for; where
        `strict`, NotEncodable is raised instead.
        """
        try:
            record = self._kept(call, brought.value, packed)
        except Exception as error:
            if strict:
                raise uncopied(brought.value) from error
            self.tell(events.NotStored(call.key, type(error).__name__))
            record = Record(brought.value, UNKEPT, thaw=None)
        now, life = self.local.now(), brought.life
        fresh = now + life.fresh_us / SECOND_US
        stale = now + life.stale_us / SECOND_US
        until = brought.began + self.local.staleness
        times = Times(fresh, stale, until, brought.cost_us / SECOND_US, 0)
        return self._timed(record, call.policy, times, scope)

    def thawed(self, call: Call, answer: Answer, began: float, scope: Scope) -> Record | None:
        """Return what the first tier keeps of the second's entry, or None where it cannot be read."""
        entry = answer.entry
        if entry is None or self.wire is None or not agrees(entry, scope):
            return None
        try:
            about = self.names.keys(call.key)[0] + entry.meta
            value = self.wire.unpack(entry.payload, about)
            record = self._kept(call, value, Packed(entry.meta, entry.payload))
        except Corrupt as error:
            self.tell(events.NotStored(call.key, type(error).__name__))
            return None
        fresh = began + (entry.fresh - answer.now) / SECOND_US
        stale = began + (entry.stale - answer.now) / SECOND_US
        until = self.counts_until(began, scope)
        times = Times(fresh, stale, until, entry.cost / SECOND_US, entry.at)
        return self._timed(record, call.policy, times, scope)

    def counts_until(self, began: float, scope: Scope) -> float:
        """Return until when an entry counts whose read began at `began`, while nobody tells of changes.

        Versions may have been read long before it: what has replaced them since was not asked for.
        """
        return min(began + self.local.staleness, max(self.local.l1.trusted_until, scope.until))

    def throttled(self, call: Call, stale: Record) -> Record:
        """Return a stale record that serves for a while, because its loader has failed."""
        record = Record(stale.value, stale.size, thaw=stale.thaw)
        record.scope = stale.scope
        times = stale.times
        fresh = min(self.local.now() + call.policy.throttle_us / SECOND_US, times.stale)
        blind = self.coherence.fail_safe_when_blind
        until = max(times.until, fresh) if blind else times.until
        record.live(Times(fresh, times.stale, until, 0.0, 0), THROTTLED)
        return record

    def given(self, key: str, record: Record) -> Any:
        """Return a record's value for one caller; UNGIVEN where it cannot be made: then the record is forgotten."""
        try:
            return record.give()
        except Exception as error:  # noqa: BLE001 - a user's codec or class may raise anything
            self.local.spoil(key, record)
            self.tell(events.NotStored(key, type(error).__name__))
            return UNGIVEN

    def usable(self, record: Record | None, *, within: float | None = None) -> bool:
        """Whether a record may serve although it is not fresh; `within` seconds after it was, if given."""
        if record is None or not self.local.lives(record):
            return False
        now, times = self.local.now(), record.times
        if now >= times.stale or (within is not None and now >= times.fresh + within):
            return False
        return self.coherence.fail_safe_when_blind or self.local.trusts(record, now)

    def is_early(self, record: Record, now: float, policy: CachePolicy) -> bool:
        """Whether this read has a fresh record refreshed before it expires."""
        if now < record.deadline or not policy.beta:
            return False
        times = record.times
        cost, fresh = int(times.cost * 1e9), int(times.fresh * 1e9)
        return timing.refreshes_early(int(now * 1e9), fresh, cost, policy.beta, self.chance())

    def _kept(self, call: Call, value: Any, packed: Packed | None) -> Record:
        """Return a record of a value: bytes where each caller must get one of its own, for decoding beats copying."""
        if packed is None or self.wire is None:
            kept, thaw = frozen(value, shared=call.policy.sharing == "shared")
            return Record(kept, size_of(kept), thaw=thaw)
        shared = call.policy.sharing == "shared"
        try:
            shared = shared or is_immutable(value)
            body = None if shared else self.wire.body(packed.payload)
            if body is not None:
                return Record(body, len(body), thaw=self.wire.codec.decode)
            kept, thaw = frozen(value, shared=shared)
            return Record(kept, size_of(kept), thaw=thaw)
        except Exception:  # noqa: BLE001 - a value may raise anything when it is copied or measured
            if shared:
                return Record(value, len(packed.payload), thaw=None)
        about = self.names.keys(call.key)[0] + packed.meta
        return Record(
            packed.payload, len(packed.payload), thaw=partial(self.wire.unpack, about=about)
        )

    def _timed(self, record: Record, policy: CachePolicy, times: Times, scope: Scope) -> Record:
        """Return a record with its times, and what follows from them and the policy."""
        record.scope = scope
        fresh = times.fresh
        if policy.l1_ttl is not None:
            end = self.local.now() + policy.l1_ttl_us / SECOND_US
            if end < fresh:  # the second tier has it for longer: nothing to load early
                fresh = end
                times = times._replace(fresh=end, cost=0.0)
        record.live(times, fresh - times.cost * policy.beta * timing.LONGEST_EARLY)
        return record


def agrees(entry: Entry, scope: Scope) -> bool:
    """Whether an entry was stored under the versions of a scope that has all its tags."""
    if entry.namespace != scope.namespace.token:
        return False
    return all(tag in scope.tags and scope.tags[tag].token == token for tag, token in entry.tags)
