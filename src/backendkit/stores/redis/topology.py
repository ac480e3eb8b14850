"""Which server runs an operation, and finding that out: what all topologies offer, and what two of them share.

A topology has no colour. What it must ask, it asks through the `Wire` that the caller's flow brings; what it
knows, all callers share. It learns when it has to: at the first operation, after a connection was lost (which may
have been a failover), after a server has sent us elsewhere. One caller asks, the others wait for what it learns.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Protocol

from backendkit.core.clock import SystemClock
from backendkit.core.errors import NotSent, StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial


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

    async def learn(self, wire: Wire, seen: int, due_us: int, *, hurried: bool = False) -> None:
        """Ask the servers, unless somebody has since generation `seen`.

        Args:
            wire: how to ask.
            seen: the generation that proved wrong.
            due_us: when an answer is no longer of use, on the real monotonic clock.
            hurried: whether that is the caller's time, and not the servers': that it runs out says nothing of them.

        Raises:
            StoreUnavailable: nobody answers, or nobody knows.
            NotSent: the time of a caller in a hurry has run out.
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

    async def learn(self, wire: Wire, seen: int, due_us: int, *, hurried: bool = False) -> None:
        """Do nothing: there is nothing to learn."""

    def after_fork_in_child(self) -> None:
        """Do nothing: there is no lock."""


class Learnt:
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

    async def learn(self, wire: Wire, seen: int, due_us: int, *, hurried: bool = False) -> None:
        """Ask the servers, unless somebody has since generation `seen`; whoever waits shares a failure, too."""
        failure = self._failure
        while self.generation == seen:
            asking = self._asking
            if asking.acquire(blocking=False):
                try:
                    await self._lead(wire, due_us, hurried=hurried)
                finally:
                    asking.release()
                return
            if wire.blocks and self._asker == threading.get_ident():
                # A task of this very thread asks, which cannot go on while we wait.
                await self._ask_by(wire, due_us, hurried=hurried)
                return
            now = self._time.mono_us()
            if now >= self._due_us + _ABANDONED_US and asking is self._asking:
                self._asking = threading.Lock()  # the asker's loop has gone, and it will not let go
                continue
            if now >= due_us:
                late = NotSent if hurried else StoreUnavailable
                raise late("nobody has found out in time where the operation belongs")
            await wire.wait(_ASKING_US)
            if self._failure is not failure and self._failure is not None:
                raise copy(self._failure)

    async def _lead(self, wire: Wire, due_us: int, *, hurried: bool) -> None:
        self._asker = threading.get_ident()
        self._due_us = due_us
        try:
            await self._ask_by(wire, due_us, hurried=hurried)
        except StoreUnavailable as error:
            self._failure = error
            raise

    async def _ask_by(self, wire: Wire, due_us: int, *, hurried: bool) -> None:
        half_us = (self._time.mono_us() + due_us) // 2
        try:
            await self._ask(wire, due_us)
        except StoreUnavailable as error:
            # Who is asked first has half of the time: before that is over, nobody was late.
            if hurried and self._time.mono_us() >= half_us:
                raise NotSent(f"the deadline passed: {error.reason}") from error
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


def text_of(word: bytes | str) -> str:
    """Return a word of a server's answer as text."""
    return word.decode() if isinstance(word, bytes) else word


_ASKING_US = 2_000
"""How long to wait between looks at whether another caller has the answer."""

_ABANDONED_US = 1_000_000
"""How long after its own time an asker that has not let go is one whose event loop was closed, or left, under it."""
