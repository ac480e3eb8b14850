"""What goes on beside the callers of one cache: leases of loads that run, invalidations that wait or may be lost.

Callers note here what is to be seen to; the store's `Keeper` has the thread that does it.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any

from backendkit.cache import events
from backendkit.cache.behind import Behind
from backendkit.cache.channel import Ear
from backendkit.cache.core import Core
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.tier import Keys
from backendkit.cache.keeper import Keeper, keeper_of
from backendkit.cache.names import CLEAR
from backendkit.core.errors import StoreClosed, StoreError
from backendkit.core.fork import remake_after_fork
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error
from backendkit.core.store import Broadcasts, Store
from backendkit.stores.guarded import Guarded


class Idle:
    """The upkeep of a cache of one tier: none."""

    __slots__ = ()

    def start(self) -> None:
        """Do nothing."""

    def hold(self, token: bytes, keys: Keys) -> None:
        """Do nothing."""

    def let_go(self, token: bytes) -> None:
        """Do nothing."""

    def note(self, operation: Operation[Any]) -> None:
        """Do nothing."""

    def queue(self, keys: Iterable[str], operation: Operation[Any]) -> None:
        """Do nothing."""

    def trusts(self, key: str) -> bool:
        """Return True."""
        return True

    def behind(self) -> Behind:
        """Return threads of its own."""
        return Behind()

    def close(self) -> None:
        """Do nothing."""


class Busy:
    """The upkeep of a cache of two tiers.

    Args:
        core: whose.
        store: where operations run.
        keeper: who has the thread.
        listens: whether there is a channel.
    """

    def __init__(self, core: Core, store: Store, keeper: Keeper, *, listens: bool) -> None:
        self._ref = weakref.ref(core)
        self._store = store
        self._keeper = keeper
        self._listens = listens
        self._coherence = core.coherence
        self._now = core.local.now
        self._renewal_s = core.coherence.lease_us / 1e6 * _RENEW_SHARE
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: the loads and the queue are the parent's."""
        self._lock = threading.RLock()
        self._leases: dict[bytes, Keys] = {}
        self._recent: deque[tuple[float, Operation[Any]]] = deque(maxlen=_MOST_RECENT)
        self._forgotten = -math.inf
        self._queue: OrderedDict[object, _Waiting] = OrderedDict()
        self._queued: dict[str, int] = {}
        self._overflows = 0
        self._renew_at = math.inf
        self._flush_at = -math.inf
        self._pause = _FIRST_PAUSE_S
        self._joined: object = None
        core = self._ref()
        self.ear = Ear(core) if self._listens and core is not None else None

    @property
    def core(self) -> Core | None:
        """Its cache's core while that lives."""
        return self._ref()

    def behind(self) -> Behind:
        """Return the threads that all caches of the store share."""
        return self._keeper.behind

    def start(self) -> None:
        """See to it that the thread works for this cache; 0.1 us where it does."""
        keeper = self._keeper
        if self._joined is not keeper.term or not keeper.runs:
            self._joined = keeper.term
            keeper.join(self)

    def close(self) -> None:
        """Have the thread work for this cache no more, until it is used again."""
        self._joined = None
        self._keeper.leave(self)

    def tend(self, core: Core, now: float) -> float:
        """Do what is due, and return when there is something again; for the thread.

        Raises:
            StoreClosed: there will be nothing any more.
        """
        if not self._leases:
            self._renew_at = math.inf
        elif self._renew_at == math.inf:
            self._renew_at = now + self._renewal_s
        elif now >= self._renew_at:
            self._renew_at = now + self._renewal_s
            self.renew()
        if not self._waits():
            self._pause = _FIRST_PAUSE_S
            return self._renew_at
        if now >= self._flush_at:
            self._flush_at = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
            self._try_to_flush(core)
        return min(self._renew_at, self._flush_at)

    # Leases

    def hold(self, token: bytes, keys: Keys) -> None:
        """Renew a lease until `let_go`."""
        self._leases[token] = keys
        if self._keeper.sleeps_until > self._now() + self._renewal_s:
            self._keeper.wake()

    def let_go(self, token: bytes) -> None:
        """Renew it no longer."""
        self._leases.pop(token, None)

    def renew(self) -> None:
        """Prolong all leases; forget those that have gone.

        Raises:
            StoreClosed: none can be.
        """
        held = list(self._leases.items())
        lease_us = self._coherence.lease_us
        outcomes = self._store.run_many([tier.renew(keys, token, lease_us) for token, keys in held])
        for (token, _), outcome in zip(held, outcomes, strict=True):
            if not isinstance(outcome, Error):
                if not outcome.value:
                    self.let_go(token)
            elif isinstance(outcome.error, StoreClosed):
                raise outcome.error

    # Invalidations

    def note(self, operation: Operation[Any]) -> None:
        """Remember an invalidation that was carried out, for as long as a failover may lose it."""
        recent, since = self._recent, self._since()
        with self._lock:  # of two threads that see the same old one, the second would drop the next
            if len(recent) == recent.maxlen:
                self._forgotten = recent[0][0]
            recent.append((self._now(), operation))
            while recent and recent[0][0] < since:
                recent.popleft()

    def _since(self) -> float:
        """Return from when on an invalidation may be missing where another server answers.

        A replica lags behind by `replication_window` at the most while its primary lives, which it did at the last
        heartbeat that was answered; how long nobody answered since makes none of them safer.
        """
        alive_at = None if self.ear is None else self.ear.alive_at
        return (self._now() if alive_at is None else alive_at) - self._coherence.window_us / 1e6

    def replay(self, core: Core) -> None:
        """Repeat recent invalidations where another server answers now, which may never have heard of them.

        Raises:
            StoreError: not all have been repeated.
        """
        since = self._since()
        recent = [operation for at, operation in list(self._recent) if at >= since]
        once = {(operation.script, operation.keys): operation for operation in recent}
        operations = [anew(core, operation) for operation in once.values()]
        if self._coherence.on_restart == "clear" or self._forgotten >= since:
            operations.append(clearing(core))
        for outcome in self._store.run_many(operations):
            outcome.unwrap()
        core.local.flush()  # what was read meanwhile; of our own messages we hear nothing
        core.tell(events.Replayed(len(operations)))

    def queue(self, keys: Iterable[str], operation: Operation[Any]) -> None:
        """Keep an invalidation that could not be sent; beyond the bound nothing in the second tier is trusted."""
        # What names no key concerns all: tags and the namespace.
        waiting = _Waiting(tuple(keys) or ("",), operation)
        name = (operation.script, operation.keys)
        with self._lock:
            if name in self._queue:
                self._queue[name] = waiting
            elif len(self._queue) >= self._coherence.max_queue:
                self._overflows += 1
            else:
                self._queue[name] = waiting
                for key in waiting.keys:
                    self._queued[key] = self._queued.get(key, 0) + 1
        self._flush_at = -math.inf
        self.start()
        self._keeper.wake()

    def trusts(self, key: str) -> bool:
        """Whether no invalidation of `key` waits."""
        if not self._waits():
            return True
        return not (self._overflows or key in self._queued or "" in self._queued)

    def flush_queue(self, core: Core) -> None:
        """Send what waits, oldest first; after an overflow the whole namespace is cleared instead.

        Raises:
            StoreError: the namespace could not be cleared.
        """
        with self._lock:
            waiting = list(self._queue.items())
            overflows = self._overflows
        if overflows:
            self._store.run(clearing(core))
            core.local.flush()
        landed = self._landed(core, waiting)
        for _, each in landed:  # before it is trusted again: versions may have been read meanwhile
            _repeat_here(core, each)
            self.note(each.operation)
        with self._lock:
            for name, each in landed:
                if self._queue.get(name) is each:
                    del self._queue[name]
                    self._uncount(each)
            self._overflows -= overflows  # those that came meanwhile are for the next time

    def _landed(
        self, core: Core, waiting: list[tuple[object, _Waiting]]
    ) -> list[tuple[object, _Waiting]]:
        outcomes = self._store.run_many([anew(core, each.operation) for _, each in waiting])
        for outcome in outcomes:
            if isinstance(outcome, Error) and isinstance(outcome.error, StoreClosed):
                raise outcome.error
        return [
            each
            for each, outcome in zip(waiting, outcomes, strict=True)
            if not isinstance(outcome, Error)
        ]

    def _uncount(self, waiting: _Waiting) -> None:
        for key in waiting.keys:
            left = self._queued[key] - 1
            if left:
                self._queued[key] = left
            else:
                del self._queued[key]

    def _waits(self) -> bool:
        return bool(self._queue or self._overflows)

    def _try_to_flush(self, core: Core) -> None:
        try:
            self.flush_queue(core)
        except StoreClosed:
            raise
        except StoreError:
            return  # another time


class _Waiting:
    """An invalidation in the queue; `keys` is `("",)` where it concerns all."""

    __slots__ = ("keys", "operation")

    def __init__(self, keys: tuple[str, ...], operation: Operation[Any]) -> None:
        self.keys = keys
        self.operation = operation


def anew(core: Core, operation: Operation[Any]) -> Operation[Any]:
    """Return a removal to be sent once more: another message, which nobody has heard, and versions that nothing carries.

    The versions that it had may have been replaced by somebody else's since, and entries that carry them still lie there.
    """
    *args, raw = operation.args
    if operation.script is versions.BUMP:
        args[1:-1] = [core.draw() for _ in args[1:-1]]
    args.append(core.names.again(raw))  # type: ignore[arg-type] # a removal's last argument is its message
    return Operation(operation.script, operation.keys, tuple(args), operation.read)


def clearing(core: Core) -> Operation[bool]:
    """Return the operation that clears the namespace."""
    return versions.bump(core.names.versions(())[:1], [core.draw()], core.names.post(CLEAR, ""))


def _repeat_here(core: Core, waiting: _Waiting) -> None:
    if waiting.keys == ("",):
        core.local.flush()
        return
    softens = waiting.operation.script is tier.EXPIRE
    for key in waiting.keys:
        (core.local.soften if softens else core.local.drop)(key)


def upkeep_of(core: Core, store: Store) -> Busy:
    """Return the upkeep of a cache of two tiers; it does not run yet."""
    inner: object = store.store if isinstance(store, Guarded) else store
    if not isinstance(inner, Broadcasts):
        return Busy(core, store, Keeper(store.clock, None), listens=False)
    return Busy(core, store, inner.companion(keeper_of), listens=core.coherence.channel)


IDLE = Idle()
"""The upkeep of every cache of one tier."""

_RENEW_SHARE = 0.3
"""Leases are renewed so often in their life: at 1 s, every 0.3 s."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""Between attempts to send what waits."""

_MOST_RECENT = 100_000
"""Recent invalidations that are kept to be repeated; where there were more, the namespace is cleared instead."""
