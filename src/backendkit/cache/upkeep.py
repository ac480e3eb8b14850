"""What goes on beside the callers, in one thread: the channel, the leases of loads that run, invalidations that wait.

The thread starts with the first use of the second tier, again after a fork, and holds its cache weakly: it ends with
it. It never runs a loader.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from backendkit.cache import events
from backendkit.cache.channel import Channel
from backendkit.cache.core import CLEAR, Core
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.tier import Keys
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

    def close(self) -> None:
        """Do nothing."""


class Thread:
    """The upkeep of a cache of two tiers.

    Args:
        core: whose.
        store: where operations run.
        broadcasts: what to listen to; None: there is no channel.
    """

    def __init__(self, core: Core, store: Store, broadcasts: Broadcasts | None) -> None:
        self._core = weakref.ref(core)
        self._store = store
        self._broadcasts = broadcasts
        self._coherence = core.coherence
        self._now = core.local.now
        self._closed = False
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread is the parent's, and so are the loads and the queue."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._leases: dict[bytes, Keys] = {}
        self._recent: deque[tuple[float, Operation[Any]]] = deque(maxlen=_MOST_RECENT)
        self._queue: OrderedDict[object, tuple[tuple[str, ...], Operation[Any]]] = OrderedDict()
        self._queued: dict[str, int] = {}
        self._overflows = 0

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is not None or self._closed:
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(
                    target=_live, args=(weakref.ref(self),), name="backendkit-cache", daemon=True
                )
                with suppress(RuntimeError):  # no more threads: without one entries count less long
                    thread.start()
                    self._thread = thread

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * _TURN_S)

    # Leases

    def hold(self, token: bytes, keys: Keys) -> None:
        """Renew a lease until `let_go`."""
        self._leases[token] = keys

    def let_go(self, token: bytes) -> None:
        """Renew it no longer."""
        self._leases.pop(token, None)

    def renew(self) -> None:
        """Prolong all leases; forget those that have gone."""
        held = list(self._leases.items())
        if not held:
            return
        lease_us = self._coherence.lease_us
        outcomes = self._store.run_many([tier.renew(keys, token, lease_us) for token, keys in held])
        for (token, _), outcome in zip(held, outcomes, strict=True):
            if not isinstance(outcome, Error) and not outcome.value:
                self.let_go(token)

    # Invalidations

    def note(self, operation: Operation[Any]) -> None:
        """Remember an invalidation that was carried out, for as long as a replica may lag behind."""
        self._recent.append((self._now(), operation))

    def replay(self, core: Core) -> None:
        """Repeat recent invalidations where another server answers now, which may never have heard of them."""
        since = self._now() - self._coherence.window_us / 1e6
        operations = [operation for at, operation in list(self._recent) if at >= since]
        if self._coherence.on_restart == "clear":
            key = core.names.versions(())[:1]
            operations.append(versions.bump(key, [core.draw()], core.names.post(CLEAR, "")))
        for outcome in self._store.run_many(operations):
            outcome.unwrap()
        core.local.flush()  # what was read meanwhile; of our own messages we hear nothing
        core.tell(events.Replayed(len(operations)))

    def queue(self, keys: Iterable[str], operation: Operation[Any]) -> None:
        """Keep an invalidation that could not be sent; beyond the bound nothing in the second tier is trusted."""
        with self._lock:
            if len(self._queue) >= self._coherence.max_queue:
                self._overflows += 1
                return
            names = tuple(keys)
            # What names no key concerns all: tags and the namespace.
            self._queue[object() if not names else (names, operation.script)] = (names, operation)
            self._count_queued()
        self.start()

    def trusts(self, key: str) -> bool:
        """Whether no invalidation of `key` waits."""
        if not self._queue and not self._overflows:
            return True
        return not (self._overflows or key in self._queued or "" in self._queued)

    def flush_queue(self, core: Core) -> None:
        """Send what waits, oldest first; after an overflow the whole namespace is cleared instead."""
        if not self._queue and not self._overflows:
            return
        with self._lock:
            waiting = list(self._queue.items())
            overflows = self._overflows
        if overflows:
            key = core.names.versions(())[:1]
            self._store.run(versions.bump(key, [core.draw()], core.names.post(CLEAR, "")))
            core.local.clear()
        outcomes = self._store.run_many([operation for _, (_, operation) in waiting])
        with self._lock:
            for (number, what), outcome in zip(waiting, outcomes, strict=True):
                if not isinstance(outcome, Error):
                    self.note(what[1])
                    if self._queue.get(number) is what:
                        del self._queue[number]
            self._overflows -= overflows  # those that came meanwhile are for the next time
            self._count_queued()

    def _count_queued(self) -> None:
        self._queued = {key: 1 for names, _ in self._queue.values() for key in (names or ("",))}

    # The thread's work

    def channel(self, core: Core) -> Channel | None:
        """Return a channel to open, if there shall be one."""
        if self._broadcasts is None or not self._coherence.channel:
            return None
        return Channel(core, self._broadcasts)

    @property
    def ended(self) -> bool:
        """Whether nobody needs it any more."""
        return self._closed or self._core() is None

    def core(self) -> Core | None:
        """Return its cache's core while that lives."""
        return self._core()


class _Life:
    """The thread's own state: when what is due next."""

    def __init__(self, upkeep: Thread, core: Core) -> None:
        self.channel = upkeep.channel(core)
        self.beat_at = self.open_at = self.renew_at = 0.0
        self.pause = _FIRST_PAUSE_S

    def turn(self, upkeep: Thread, core: Core) -> None:
        """Do what is due, and listen for a moment."""
        now = core.local.now()
        channel = self.channel
        if channel is not None and not channel.up and now >= self.open_at:
            self._open(upkeep, core, channel)
        if now >= self.renew_at:
            self.renew_at = now + core.coherence.lease_us / 1e6 * _RENEW_SHARE
            self._mend(upkeep, core)
        if channel is None or not channel.up:
            threading.Event().wait(_TURN_S / 4)
            return
        try:
            if now >= self.beat_at:
                self.beat_at = now + core.local.staleness * _BEAT_SHARE
                channel.beat()
            channel.read(_TURN_S / 4)
        except StoreError as error:
            channel.close(error.reason)
            self.open_at = 0.0

    def _open(self, upkeep: Thread, core: Core, channel: Channel) -> None:
        try:
            other = channel.open()
        except StoreError:
            self.open_at = core.local.now() + self.pause
            self.pause = min(2 * self.pause, _LONGEST_PAUSE_S)
            return
        self.pause, self.beat_at = _FIRST_PAUSE_S, 0.0
        if other:
            try:
                upkeep.replay(core)
            except StoreError as error:
                channel.identities = {}  # another than before, still
                channel.close(error.reason)

    def _mend(self, upkeep: Thread, core: Core) -> None:
        try:
            upkeep.renew()
            upkeep.flush_queue(core)
        except StoreClosed:
            upkeep.close()
        except StoreError:
            return  # the next turn tries again


def _live(ref: weakref.ref[Thread]) -> None:
    """The thread's whole life; between turns nothing here keeps the cache alive."""
    life: _Life | None = None
    while True:
        upkeep = ref()
        core = None if upkeep is None else upkeep.core()
        if upkeep is None or core is None or upkeep.ended:
            break
        if life is None:
            life = _Life(upkeep, core)
        life.turn(upkeep, core)
        del upkeep, core
    if life is not None and life.channel is not None:
        life.channel.close("the cache was closed")


def upkeep_of(core: Core, store: Store) -> Thread:
    """Return the upkeep of a cache of two tiers; it does not run yet."""
    inner = store.store if isinstance(store, Guarded) else store
    broadcasts = inner if isinstance(inner, Broadcasts) else None
    return Thread(core, store, cast("Broadcasts | None", broadcasts))


IDLE = Idle()
"""The upkeep of every cache of one tier."""

_TURN_S = 0.2
"""A caller that closes waits for so long, twice at the most."""

_BEAT_SHARE = 0.25
"""Heartbeats come so often in the staleness allowed."""

_RENEW_SHARE = 0.3
"""Leases are renewed so often in their life: at 1 s, every 0.3 s."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
"""Between attempts to listen again."""

_MOST_RECENT = 100_000
"""Recent invalidations that are kept to be repeated."""
