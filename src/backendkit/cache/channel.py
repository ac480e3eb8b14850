"""The invalidation channel of one cache: messages in, heartbeats out, and from both how far the first tier is to be trusted.

The first tier counts until `max_l1_staleness` after the *sending* of the last heartbeat that every server has answered:
an answer comes after all that was published before its question. Whoever was paused finds that time over at its first
look, before any thread of ours has run. After a loss nothing counts until the first tier is empty and a new heartbeat is
back. This page decides what to do; `upkeep` has the thread that does it.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence

from backendkit.cache import events
from backendkit.cache.core import CLEAR, DROP, SOFTEN, TAGS, WAKE, Core, Message, read_message
from backendkit.core.errors import StoreClosed, StoreError, StoreUnavailable
from backendkit.core.store import Broadcasts, Listener


class Channel:
    """Listens to all servers of one store for one cache. For one thread.

    Attributes:
        identities: of the servers that were last listened to, by name; None before the first time.
    """

    def __init__(self, core: Core, broadcasts: Broadcasts) -> None:
        self._ref = weakref.ref(core)
        self._broadcasts = broadcasts
        self._lines: list[Listener] = []
        self._sent: dict[int, float] = {}
        self._answered: dict[str, int] = {}
        self._number = 0
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._last_answer = 0.0
        self.identities: dict[str, bytes] | None = None

    @property
    def _core(self) -> Core:
        core = self._ref()
        if core is None:
            raise StoreClosed("the cache has gone")
        return core

    @property
    def up(self) -> bool:
        """Whether it listens."""
        return bool(self._lines)

    def open(self) -> bool:
        """Listen to all servers and forget what may have changed meanwhile; tell whether another one answers than before.

        Raises:
            StoreError: one of them cannot be listened to.
        """
        core = self._core
        for server in self._broadcasts.primaries():
            try:
                self._lines.append(self._broadcasts.listen(server, core.names.channel))
            except StoreError:
                self._broadcasts.suspect(server)
                self._hang_up()
                raise
        core.local.flush()
        self._sent.clear()
        self._answered.clear()
        self._last_answer = core.local.now()
        before, now = self.identities, {line.server: line.identity for line in self._lines}
        self.identities = now
        core.tell(events.ChannelUp(tuple(now)))
        return before is not None and set(before.values()) != set(now.values())

    def beat(self) -> None:
        """Send a heartbeat to every server.

        Raises:
            StoreError: one is lost, silent for too long, or there are others now.
        """
        now = self._core.local.now()
        if now - self._last_answer > self._core.local.staleness:
            for line in self._lines:
                self._broadcasts.suspect(line.server)
            raise StoreUnavailable("a heartbeat was not answered in time")
        if {line.server for line in self._lines} != set(self._broadcasts.primaries()):
            raise StoreUnavailable("there are other servers now")
        self._number += 1
        self._sent[self._number] = now
        for line in self._lines:
            line.ping(self._number)

    def read(self, seconds: float) -> None:
        """Handle what comes within `seconds`, which is shared by the servers.

        Raises:
            StoreError: one is lost.
        """
        for line in self._lines:
            messages, beat = line.read(seconds / len(self._lines))
            for raw in messages:
                self._handle(raw)
            if beat is not None:
                self._answered[line.server] = beat
                self._count()

    def close(self, reason: str) -> None:
        """Stop listening: what the first tier has counts no longer than it does by itself."""
        self._hang_up()
        core = self._ref()
        if core is not None:
            core.local.l1.trusted_until = 0.0
            core.tell(events.ChannelLost(reason))

    def _hang_up(self) -> None:
        for line in self._lines:
            line.close()
        self._lines = []

    def _count(self) -> None:
        """Trust until the staleness allowed after the last heartbeat that all have answered was sent."""
        if len(self._answered) < len(self._lines):
            return
        number = min(self._answered.values())
        sent = self._sent.get(number)
        if sent is None:
            return
        self._last_answer = self._core.local.now()
        self._core.local.l1.trusted_until = sent + self._core.local.staleness
        for old in [n for n in self._sent if n < number]:
            del self._sent[old]

    def _handle(self, raw: bytes) -> None:
        message = read_message(raw)
        if message is None:
            self._core.local.flush()  # from a later version of this library, perhaps: it meant something
            return
        if message.kind != WAKE and message.origin == self._core.names.origin:
            return  # our own, which we have carried out before it returned
        if len(self._lines) > 1 and self._repeated(message):
            return
        handle(self._core, message)

    def _repeated(self, message: Message) -> bool:
        """Whether a Cluster's other node has told it before."""
        number = message.origin + message.number
        if number in self._seen:
            return True
        self._seen[number] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False


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
