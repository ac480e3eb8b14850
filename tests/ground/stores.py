"""Every store in every colour, behind one blocking face, so that one test plays on all of them.

The one room of the ground that knows backendkit: it opens stores, and decides nothing. A `Driver` runs operations on
one store in one colour; the asynchronous one sends them to an event loop in a thread of its own. Scripts see the
time that the test's clock shows, on Redis as well (`connect(url, now=...)`), so that a history with a stepping clock
plays alike everywhere. Only times to live are Redis's own.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

from backendkit.core.clock import ManualClock
from backendkit.core.operation import Operation
from backendkit.core.outcome import Outcome
from backendkit.core.store import Store
from backendkit.stores import MemoryStore, connect

R = TypeVar("R")

Kind: TypeAlias = Literal["memory", "single", "sentinel", "cluster"]
Colour: TypeAlias = Literal["sync", "async"]

KINDS: tuple[Kind, ...] = get_args(Kind)
COLOURS: tuple[Colour, ...] = get_args(Colour)
EVERY: tuple[tuple[Kind, Colour], ...] = tuple(
    (kind, colour) for kind in KINDS for colour in COLOURS
)
"""All stores in all colours."""

PATIENT_S = 10.0
"""Timeout of operations: where nothing is meant to fail, a busy machine must not look like a dead server."""


class LoopThread:
    """An event loop in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="test-loop", daemon=True)

    def run(self, work: Coroutine[Any, Any, R], *, within: float = 60.0) -> R:
        """Run a coroutine there and return what it returns, or raise what it raises."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Colouring(Protocol):
    """How a colour runs operations, seen from a caller that blocks."""

    def run(self, operation: Operation[R]) -> R:
        """Run one."""
        ...

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Run several."""
        ...

    def close(self) -> None:
        """Close the store."""
        ...


class Driver:
    """One store in one colour, for a caller that blocks.

    Attributes:
        kind: which store.
        colour: which face of it.
        store: the store itself.
        clock: what scripts see as now.
    """

    def __init__(
        self,
        kind: Kind,
        colour: Colour,
        store: Store,
        *,
        clock: ManualClock,
        namespace: str,
        loop: LoopThread,
    ) -> None:
        self.kind = kind
        self.colour = colour
        self.store = store
        self.clock = clock
        self._namespace = namespace
        self._generation = 0
        self._face: Colouring = store if colour == "sync" else _Awaited(store, loop)

    def run(self, operation: Operation[R]) -> R:
        """Carry out an operation and return its result."""
        return self._face.run(operation)

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out several and return their outcomes."""
        return self._face.run_many(operations)

    def key(self, name: str, *, tag: str = "") -> bytes:
        """Return a key of this test; those with one tag lie in one slot of a Cluster."""
        return (
            f"{self._namespace}{self.colour}.{self._generation}:{{{tag or name}}}:{name}".encode()
        )

    def begin_anew(self) -> None:
        """Let all keys be new ones: for an example of Hypothesis, which shares its test's fixtures."""
        self._generation += 1

    def close(self) -> None:
        """Close the store by this colour's own way."""
        self._face.close()

    def __repr__(self) -> str:
        return f"<{self.kind}-{self.colour}>"


class _Awaited:
    """The asynchronous face, awaited on another thread's loop."""

    def __init__(self, store: Store, loop: LoopThread) -> None:
        self._store = store
        self._loop = loop

    def run(self, operation: Operation[R]) -> R:
        return self._loop.run(self._store.aio.run(operation))

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        return self._loop.run(self._store.aio.run_many(operations))

    def close(self) -> None:
        self._loop.run(self._store.aio.close())


class Bench:
    """Opens stores for one test and closes them after it.

    Args:
        url_of: the URL of a kind's servers, which may start at the first question.
        loop: where asynchronous faces run.
        clock: what scripts see as now.
        namespace: a prefix of keys that no other test has.
    """

    def __init__(
        self, url_of: Callable[[Kind], str], loop: LoopThread, clock: ManualClock, namespace: str
    ) -> None:
        self.clock = clock
        self._url_of = url_of
        self._loop = loop
        self._namespace = namespace

    def store(self, kind: Kind, **options: str | float | bool) -> Store:
        """Return a store of a kind, which whoever asked closes."""
        if kind == "memory":
            return MemoryStore(clock=self.clock)
        given: dict[str, Any] = {"timeout": PATIENT_S, "connect_timeout": PATIENT_S, **options}
        return connect(self._url_of(kind), clock=self.clock, now=self.clock.wall_us, **given)

    @contextmanager
    def driver(self, kind: Kind, colour: Colour, **options: str | float | bool) -> Iterator[Driver]:
        """Open a store in one colour for a block."""
        store = self.store(kind, **options)
        driver = Driver(
            kind, colour, store, clock=self.clock, namespace=self._namespace, loop=self._loop
        )
        try:
            yield driver
        finally:
            driver.close()
