"""Which server runs an operation, and finding that out: a single one, the master behind Sentinels, a Cluster.

A topology has no colour. What it must ask, it asks through the `Wire` that the caller's flow brings; what it
knows, all callers share. It learns when it has to: at the first operation, after a connection was lost (which may
have been a failover), after a server has sent us elsewhere. One caller asks, the others wait for what it learns.

Sources: https://redis.io/docs/latest/develop/reference/sentinel-clients/ and the Redis cluster specification.
"""

from __future__ import annotations

import binascii
import threading
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Protocol

from backendkit.core.clock import SystemClock
from backendkit.core.errors import CrossSlot, StoreUnavailable
from backendkit.core.look import LOOK
from backendkit.core.operation import Operation
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial

SLOTS = 16384
"""Hash slots of a Cluster, by its specification."""


class Wire(Protocol):
    """What a flow of this store may ask of the network; the blocking one's verbs never suspend."""

    @property
    def blocks(self) -> bool:
        """Whether waiting keeps all else in this thread from going on."""
        ...

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        """Send one command over a connection of its own and return the reply, by `due_us` of the monotonic clock.

        Raises:
            StoreUnavailable: for any failure whatever, an error reply included.
        """
        ...

    async def wait(self, us: int) -> None:
        """Let `us` microseconds of real time pass."""
        ...


class Topology(Protocol):
    """Which server runs what."""

    @property
    def dial(self) -> Dial:
        """The options of connections to the servers that run operations."""
        ...

    @property
    def slotted(self) -> bool:
        """Whether one command takes keys of one slot only."""
        ...

    @property
    def generation(self) -> int:
        """How often something was learnt: whoever sees it change need not ask again."""
        ...

    def address(self, operation: Operation[Any]) -> Address | None:
        """Return where `operation` runs, or None if that must be learnt first.

        Raises:
            CrossSlot: on a Cluster, for keys in several slots.
        """
        ...

    def route(self, operation: Operation[Any]) -> str:
        """Return a name for what would run `operation`: what fails together shares it."""
        ...

    def primaries(self) -> list[Address] | None:
        """Return all servers that run operations, or None if that must be learnt first."""
        ...

    def suspect(self, address: Address | None = None) -> None:
        """Note that `address` failed or refused: what is known of it, or None: of all, may be out of date."""
        ...

    def moved(self, slot: int, address: Address) -> None:
        """Note that a server named the owner of a slot."""
        ...

    async def learn(self, wire: Wire, seen: int, due_us: int) -> None:
        """Ask the servers, unless somebody has since generation `seen`.

        Args:
            wire: how to ask.
            seen: the generation that proved wrong.
            due_us: when an answer is no longer of use, on the real monotonic clock.

        Raises:
            StoreUnavailable: nobody answers, or nobody knows.
        """
        ...

    def after_fork_in_child(self) -> None:
        """Replace locks that a thread of the parent may have held."""
        ...


class Single:
    """One server, always the same."""

    __slots__ = ("_address", "dial")

    generation = 0
    slotted = False

    def __init__(self, dial: Dial, address: Address) -> None:
        self.dial = dial
        self._address = address

    def address(self, operation: Operation[Any]) -> Address:
        """Return the server's address."""
        return self._address

    def route(self, operation: Operation[Any]) -> str:
        """Return the server's address."""
        return str(self._address)

    def primaries(self) -> list[Address]:
        """Return the server's address."""
        return [self._address]

    def suspect(self, address: Address | None = None) -> None:
        """Do nothing: there is no other server."""

    def moved(self, slot: int, address: Address) -> None:
        """Do nothing: a server that is no Cluster names no owners."""

    async def learn(self, wire: Wire, seen: int, due_us: int) -> None:
        """Do nothing: there is nothing to learn."""

    def after_fork_in_child(self) -> None:
        """Do nothing: there is no lock."""


class _Learnt:
    """What the two topologies share that must ask: one asks at a time, and the others share what came of it."""

    __slots__ = (
        "_asker",
        "_asking",
        "_due_us",
        "_failure",
        "_stale",
        "_time",
        "dial",
        "generation",
    )

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self.generation = 0
        self._stale = True
        self._failure: StoreUnavailable | None = None
        self._time = SystemClock()
        self._asker = 0
        self._due_us = 0
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Replace the lock that a thread of the parent may have held."""
        self._asking = threading.Lock()

    slotted = False

    def suspect(self, address: Address | None = None) -> None:
        """Have the next operation ask first."""
        self._stale = True

    async def learn(self, wire: Wire, seen: int, due_us: int) -> None:
        """Ask the servers, unless somebody has since generation `seen`; whoever waits shares a failure, too."""
        failure = self._failure
        while self.generation == seen:
            asking = self._asking
            if asking.acquire(blocking=False):
                try:
                    await self._lead(wire, due_us)
                finally:
                    asking.release()
                return
            if wire.blocks and self._asker == threading.get_ident():
                # A task of this very thread asks, which cannot go on while we wait.
                await self._ask(wire, due_us)
                return
            now = self._time.mono_us()
            if now >= self._due_us + _ABANDONED_US and asking is self._asking:
                self._asking = threading.Lock()  # the asker's loop has gone, and it will not let go
                continue
            if now >= due_us:
                raise StoreUnavailable("nobody has found out in time where the operation belongs")
            await wire.wait(_ASKING_US)
            if self._failure is not failure and self._failure is not None:
                raise copy(self._failure)

    async def _lead(self, wire: Wire, due_us: int) -> None:
        self._asker = threading.get_ident()
        self._due_us = due_us
        try:
            await self._ask(wire, due_us)
        except StoreUnavailable as error:
            self._failure = error
            raise

    def _in_turn(self, servers: Sequence[Address], due_us: int) -> Iterator[tuple[Address, int]]:
        """Yield whom to ask, and until when: half of the time left each, so that one that hangs leaves some."""
        for server in servers[:-1]:
            now = self._time.mono_us()
            yield server, now + (due_us - now) // 2
        yield servers[-1], due_us

    def _learnt(self) -> None:
        self._stale = False
        self.generation += 1

    async def _ask(self, wire: Wire, due_us: int) -> None:
        raise AssertionError("each topology asks in its own way")


class SentinelMaster(_Learnt):
    """The master that Sentinels name, as they name it now.

    Args:
        dial: options of connections to the master.
        sentinels: where Sentinels listen, in the order in which to ask.
        service: the name under which they watch the master.
        sentinel_dial: options of connections to them.
    """

    __slots__ = ("_master", "_sentinel_dial", "_sentinels", "_service")

    def __init__(
        self, dial: Dial, sentinels: Sequence[Address], service: str, sentinel_dial: Dial
    ) -> None:
        super().__init__(dial)
        self._sentinels = list(sentinels)
        self._service = service
        self._sentinel_dial = sentinel_dial
        self._master: Address | None = None

    def address(self, operation: Operation[Any]) -> Address | None:
        """Return the master's address, or None if it must be asked for first."""
        return None if self._stale else self._master

    def primaries(self) -> list[Address] | None:
        """Return the master's address, or None if it must be asked for first."""
        return None if self._stale or self._master is None else [self._master]

    def route(self, operation: Operation[Any]) -> str:
        """Return the service's name: it fails and recovers as one, whichever server is its master."""
        return self._service

    def moved(self, slot: int, address: Address) -> None:
        """Do nothing: a server that is no Cluster names no owners."""

    async def _ask(self, wire: Wire, due_us: int) -> None:
        reasons: list[str] = []
        for sentinel, until_us in self._in_turn(list(self._sentinels), due_us):
            try:
                named = await wire.command(
                    self._sentinel_dial,
                    sentinel,
                    until_us,
                    "SENTINEL",
                    "GET-MASTER-ADDR-BY-NAME",
                    self._service,
                )
                if named is None:
                    reasons.append(f"{sentinel} does not know {self._service!r}")
                    continue
                master = Address(_text(named[0]), int(named[1]))
                # A Sentinel that was cut off may name the old master; the server itself knows what it is.
                role = await wire.command(self.dial, master, until_us, "ROLE")
            except StoreUnavailable as error:
                reasons.append(error.reason)
                continue
            if _text(role[0]) == "master":
                self._master = master
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # who answered is asked first next time
                self._learnt()
                return
            reasons.append(f"{master}, which {sentinel} names, is no master")
        raise StoreUnavailable(f"no master of {self._service!r} found: " + "; ".join(reasons))


class Cluster(_Learnt):
    """A Redis Cluster: each slot's master, from whichever node answers.

    Args:
        dial: options of connections to all nodes.
        nodes: some of them, to ask first.
    """

    __slots__ = ("_nodes", "_slots", "_suspects")

    def __init__(self, dial: Dial, nodes: Sequence[Address]) -> None:
        super().__init__(dial)
        self._nodes = list(nodes)
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
        known = dict.fromkeys([*self._nodes, *(a for a in self._slots if a is not None)])
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
                address = Address(_text(master[0] or node.host), int(master[1]))
                slots[first : last + 1] = [address] * (last + 1 - first)
            self._slots = slots
            self._suspects = set()
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


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word


_ASKING_US = 2_000
"""How long to wait between looks at whether another caller has the answer."""

_ABANDONED_US = 1_000_000
"""How long after its own time an asker that has not let go is one whose event loop was closed, or left, under it."""
