"""What a store is: the one thing that runs operations, in two colours over the same state.

Features hold a `Store` and never ask which one it is. `store.run` blocks the calling thread; `store.aio.run` is
awaited; both reach the same keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from backendkit.core.clock import Clock
from backendkit.core.operation import Operation
from backendkit.core.outcome import Outcome

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A snapshot of what a store has done, over both colours; counters start when the store is made.

    Attributes:
        entries: keys held by this process; 0 for a remote store.
        bytes: their approximate size; 0 for a remote store.
        in_flight: operations sent and not answered.
        waiting: operations not yet sent: a connection is being made, or the last write has not drained.
        waits: operations that had to wait so before they were sent.
        operations: operations carried out or failed.
        batches: writes to a connection; `operations / batches` is the mean batch.
        largest_batch: operations in the largest single write.
        connections: open connections.
        connects: connections ever made.
        timeouts: operations that got no answer in time.
        resent: operations sent again after a refusal that proves that nothing ran.
        evicted: entries dropped for room before they expired.
    """

    entries: int = 0
    bytes: int = 0
    in_flight: int = 0
    waiting: int = 0
    waits: int = 0
    operations: int = 0
    batches: int = 0
    largest_batch: int = 0
    connections: int = 0
    connects: int = 0
    timeouts: int = 0
    resent: int = 0
    evicted: int = 0


class AsyncStore(Protocol):
    """The asynchronous face of a store; usable from any number of event loops."""

    async def run(self, operation: Operation[R]) -> R:
        """Carry out `operation` and return what its reader makes of the reply; see `Store.run`."""
        ...

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations that do not depend on each other; see `Store.run_many`."""
        ...

    async def close(self) -> None:
        """Close both faces; see `Store.close`."""
        ...

    @property
    def sync(self) -> Store:
        """The synchronous face of the same store."""
        ...


class Store(Protocol):
    """Runs operations; safe to share between threads."""

    @property
    def clock(self) -> Clock:
        """The clock that measures this store's timeouts; features that need a clock share it."""
        ...

    @property
    def aio(self) -> AsyncStore:
        """The asynchronous face of the same store."""
        ...

    def run(self, operation: Operation[R]) -> R:
        """Carry out `operation` atomically and return what its reader makes of the reply.

        Raises:
            NotSent: nothing ran, which is proven.
            OutcomeUnknown: it may have run, once.
            CrossSlot: its keys lie in several slots of a Cluster.
        """
        ...

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations that do not depend on each other, each atomic by itself, in one trip per node.

        Returns one outcome per operation, in order; an operation that fails does not stop the others.
        """
        ...

    def route(self, operation: Operation[Any]) -> str:
        """Return the name of the server that would run `operation` now: what fails together has one name."""
        ...

    def stats(self) -> StoreStats:
        """Return what the store has done so far; cheap, and exact only while nothing runs."""
        ...

    def close(self) -> None:
        """Close connections; later operations raise `StoreClosed`. Closing twice does nothing."""
        ...


@runtime_checkable
class Reopening(Protocol):
    """A store that can be used again after it was closed."""

    def reopen(self) -> None:
        """Undo `close`; does nothing where it was not called."""
        ...


class Listener(Protocol):
    """Listens to one server.

    Attributes:
        server: its name.
        identity: changes when another server, or one that has lost its data, answers to the name.
        eviction: what the server drops when it is full, in Redis's words.
        pending: whether more has come than `read` has returned.
    """

    server: str
    identity: bytes
    eviction: str
    pending: bool

    def fileno(self) -> int:
        """Return the socket to wait on."""
        ...

    def subscribe(self, channel: bytes) -> None:
        """Ask for a channel; `read` returns it with None as soon as the server has heard of that."""
        ...

    def unsubscribe(self, channel: bytes) -> None:
        """Ask for a channel no more."""
        ...

    def ping(self, number: int) -> None:
        """Send a heartbeat: its answer comes after all that was published before it was sent."""
        ...

    def read(self) -> tuple[list[tuple[bytes, bytes | None]], int | None]:
        """Return channels and messages that have come, and the last heartbeat that was answered; never waits."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Companion(Protocol):
    """What lives beside a store."""

    def store_closed(self) -> None:
        """End what needs the store."""
        ...


C = TypeVar("C", bound=Companion)


@runtime_checkable
class Broadcasts(Protocol):
    """A store whose scripts can publish, and which can be listened to."""

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        ...

    def primaries(self) -> Sequence[str]:
        """Return the servers whose scripts may publish: to miss nothing, all must be listened to."""
        ...

    def listen(self, server: str) -> Listener:
        """Return who listens to a server.

        Raises:
            StoreError: it cannot be listened to.
        """
        ...

    def suspect(self, server: str) -> None:
        """Note that a server does not answer: `primaries` asks anew."""
        ...

    def companion(self, make: Callable[[Broadcasts], C]) -> C:
        """Return what `make` has made of this store for whoever asked first; it is told when the store closes."""
        ...
