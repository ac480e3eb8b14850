"""The invalidation channel of one store: messages in, heartbeats out, for every cache that uses the store.

A first tier counts until `max_l1_staleness` after the *sending* of the last heartbeat that every server has answered:
an answer comes after all that was published before its question. Whoever was paused finds that time over at its first
look, before any thread of ours has run. After a loss nothing counts until the first tier is empty, its subscription is
confirmed, and a heartbeat is answered. This page decides what to do; `keeper` has the thread that does it.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from backendkit.cache import events
from backendkit.cache.core import Core
from backendkit.cache.names import CLEAR, DROP, SOFTEN, TAGS, WAKE, Message, read_message
from backendkit.core.errors import StoreUnavailable
from backendkit.core.store import Broadcasts, Listener


class Ear:
    """One cache's part of the channel: what a message does there, and for how long its first tier is trusted.

    Attributes:
        name: of the channel that it listens to.
        up: whether every server has confirmed that it listens, and its first tier was emptied after that.
        alive_at: when the last heartbeat was sent that every server has answered; None before the first.
    """

    __slots__ = ("_awaited", "_mourned", "_ref", "_seen", "alive_at", "name", "up")

    def __init__(self, core: Core) -> None:
        self._ref = weakref.ref(core)
        self._awaited: set[str] = set()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self.name = core.names.channel
        self.up = False
        self.alive_at: float | None = None
        self._mourned = False

    @property
    def core(self) -> Core | None:
        """Its cache's core while that lives."""
        return self._ref()

    @property
    def staleness(self) -> float:
        """Seconds for which its cache may be stale."""
        core = self._ref()
        return _NEVER_S if core is None else core.local.staleness

    def begin(self, servers: Iterator[str]) -> None:
        """Wait until these have confirmed."""
        self.up = False
        self._awaited = set(servers)

    def confirmed(self, lines: Sequence[Listener], server: str) -> None:
        """Note that a server has confirmed; after the last one forget what may have changed before."""
        core = self._ref()
        self._awaited.discard(server)
        if self.up or self._awaited or core is None:
            return
        core.local.flush()
        self.up, self._mourned = True, False
        core.tell(events.ChannelUp(tuple(line.server for line in lines)))
        for line in lines:
            if line.eviction == "volatile-ttl":
                core.tell(events.LeasesEvicted(line.server, line.eviction))

    def hear(self, raw: bytes, *, repeats: bool) -> None:
        """Do what a message says; `repeats`: several servers tell each of them."""
        core = self._ref()
        if core is None:
            return
        message = read_message(raw)
        if message is None:
            core.local.flush()  # from a later version of this library, perhaps: it meant something
        elif message.kind != WAKE and core.names.is_done(message):
            return
        elif not (repeats and self._repeated(message)):
            handle(core, message)

    def trust(self, sent: float) -> None:
        """Trust until the staleness allowed after a heartbeat was sent that all servers have answered."""
        core = self._ref()
        if core is not None and self.up:
            self.alive_at = sent
            core.local.l1.trusted_until = sent + core.local.staleness

    def mute(self) -> bool:
        """Hear nothing from now on; tell whether it did."""
        core, was_up = self._ref(), self.up
        self.up = False
        if core is not None:
            core.local.l1.trusted_until = 0.0
        return was_up

    def lose(self, reason: str) -> None:
        """Hear nothing from now on: what the first tier has counts no longer than it does by itself.

        It is told once, also where it has never heard anything: who may not subscribe would else never learn of it.
        """
        if self.mute() or not self._mourned:
            self.mourn(reason)

    def mourn(self, reason: str) -> None:
        """Tell that it hears nothing."""
        self._mourned = True
        core = self._ref()
        if core is not None:
            core.tell(events.ChannelLost(reason))

    def _repeated(self, message: Message) -> bool:
        """Whether a Cluster's other node has told it before."""
        number = message.origin + message.number
        if number in self._seen:
            return True
        self._seen[number] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False


class Channel:
    """Listens to all servers of one store, with one connection each. For one thread.

    Args:
        broadcasts: the store.
        now: seconds on its clock.

    Attributes:
        lines: the connections; empty while it is closed.
        identities: of the servers that were last listened to, by name; None before the first time.
    """

    def __init__(self, broadcasts: Broadcasts, now: Callable[[], float]) -> None:
        self._broadcasts = broadcasts
        self._now = now
        self._ears: dict[bytes, list[Ear]] = {}
        self._sent: dict[int, float] = {}
        self._heard: dict[str, float] = {}
        self._answered: dict[str, int] = {}
        self._number = 0
        self.lines: list[Listener] = []
        self.identities: dict[str, bytes] | None = None

    @property
    def up(self) -> bool:
        """Whether it is connected."""
        return bool(self.lines)

    @property
    def steady(self) -> bool:
        """Whether a heartbeat was answered since it was opened."""
        return bool(self._answered)

    @property
    def ears(self) -> list[Ear]:
        """Who listens."""
        return [ear for ears in self._ears.values() for ear in ears]

    @property
    def staleness(self) -> float:
        """The least that a cache allows."""
        return min((ear.staleness for ear in self.ears), default=_NEVER_S)

    def open(self) -> bool:
        """Connect to all servers; tell whether another one answers than before.

        Raises:
            StoreError: one of them cannot be listened to.
        """
        for server in self._broadcasts.primaries():
            try:
                self.lines.append(self._broadcasts.listen(server))
            except BaseException:
                self._broadcasts.suspect(server)
                self.abandon()
                raise
        if not self.lines:
            raise StoreUnavailable("there is no server to listen to")
        self._sent.clear()
        self._answered.clear()
        self._heard = dict.fromkeys((line.server for line in self.lines), self._now())
        before, now = self.identities, {line.server: line.identity for line in self.lines}
        self.identities = now
        for ear in self.ears:
            self._subscribe(ear)
        return before is not None and set(before.values()) != set(now.values())

    def join(self, ear: Ear) -> None:
        """Listen for one cache more; it is trusted as soon as all servers have confirmed and answered.

        Raises:
            StoreError: a connection is lost.
        """
        ears = self._ears.setdefault(ear.name, [])
        if ear not in ears:
            ears.append(ear)
        self._subscribe(ear)

    def leave(self, ear: Ear) -> None:
        """Listen for one cache less.

        Raises:
            StoreError: a connection is lost.
        """
        ears = self._ears[ear.name]
        ears.remove(ear)
        if ear.mute():
            ear.mourn("the cache was closed")
        if not ears:
            del self._ears[ear.name]
            for line in self.lines:
                line.unsubscribe(ear.name)

    def beat(self) -> None:
        """Send a heartbeat to every server.

        Raises:
            StoreError: one is lost, silent for too long, or there are others now.
        """
        now, staleness = self._now(), self.staleness
        silent = [server for server, heard in self._heard.items() if now - heard > staleness]
        for server in silent:
            self._broadcasts.suspect(server)
        if silent:
            raise StoreUnavailable("a heartbeat was not answered in time")
        if set(self._heard) != set(self._broadcasts.primaries()):
            raise StoreUnavailable("there are other servers now")
        self._number += 1
        self._sent[self._number] = now
        for line in self.lines:
            line.ping(self._number)

    def read(self, line: Listener) -> list[tuple[Ear, Exception]]:
        """Handle what has come from a server; return who failed at it, and hears nothing any more.

        Raises:
            StoreError: the connection is lost.
        """
        heard, beat = line.read()
        failed: list[tuple[Ear, Exception]] = []
        repeats = len(self.lines) > 1
        for name, raw in heard:
            for ear in tuple(self._ears.get(name, ())):
                try:
                    if raw is None:
                        ear.confirmed(self.lines, line.server)
                    elif ear.up:
                        ear.hear(raw, repeats=repeats)
                except Exception as error:  # noqa: BLE001 - one cache's trouble is none of the others'
                    ear.lose(f"a message was not handled: {type(error).__name__}")
                    failed.append((ear, error))
        if heard or beat is not None:
            self._heard[line.server] = self._now()
        if beat is not None:
            self._answered[line.server] = beat
            self._count()
        return failed

    def close(self, reason: str) -> None:
        """Disconnect: what the first tiers have counts no longer than it does by itself."""
        self.abandon()
        for ear in self.ears:
            ear.lose(reason)

    def end(self) -> list[Ear]:
        """Disconnect, and listen for nobody; return who is to be told of it."""
        self.abandon()
        ears, self._ears = self.ears, {}
        return [ear for ear in ears if ear.mute()]

    def abandon(self) -> None:
        """Close the connections, and tell nobody."""
        lines, self.lines = self.lines, []
        for line in lines:
            line.close()

    def _subscribe(self, ear: Ear) -> None:
        ear.begin(line.server for line in self.lines)
        for line in self.lines:
            line.subscribe(ear.name)

    def _count(self) -> None:
        """Trust until the staleness allowed after the last heartbeat that all have answered was sent."""
        if len(self._answered) < len(self.lines):
            return
        number = min(self._answered.values())
        sent = self._sent.get(number)
        if sent is None:
            return
        for ear in self.ears:
            ear.trust(sent)
        for old in [n for n in self._sent if n < number]:
            del self._sent[old]


def handle(core: Core, message: Message) -> None:
    """Do what a message says."""
    local = core.local
    match message.kind:
        case k if k == WAKE:
            local.ring(message.about)
        case k if k == DROP:
            local.drop(message.about)
        case k if k == SOFTEN:
            local.soften(message.about)
        case k if k == TAGS:
            local.kill(tags_of(message.about))
        case k if k == CLEAR:
            local.clear()
        case _:
            local.flush()


def tags_of(about: str) -> Sequence[str]:
    """Return the tags that a message is about."""
    return about.split("\0")


_REMEMBERED = 4_096
"""Numbers of messages that are kept to know them again."""

_NEVER_S = 3_600.0
"""The staleness of a cache that has gone."""
