"""How a shared circuit asks its store: never waiting for one that is known to be down, and never inside a deadline.

A guard stands around whatever store is handed in. It takes a server for down when the first answer is late, answers at once
from then on, and probes by a task or a thread of its own.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any, NamedTuple, Protocol, TypeVar

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.core.operation import Operation
from backendkit.core.store import AsyncStore, Store
from backendkit.stores import FailurePolicy, Guarded, MemoryStore

R = TypeVar("R")


class Impatient(Guarded):
    """A guard that takes a server for down when the first answer is late."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, FailurePolicy(timeouts=1))


def guarded(store: Store) -> Store:
    """Return a store that answers at once when its server is down; one of memory always does."""
    return store if isinstance(store, MemoryStore | Impatient) else Impatient(store)


class Told(NamedTuple):
    """An outcome that is owed to the others.

    Attributes:
        generation: what its permit was granted with.
        bits: what came of it.
        retry_after_us: how long a failed dependency asked to be left alone.
        successes: good calls before it.
    """

    generation: int
    bits: int
    retry_after_us: int
    successes: int


class IO(Protocol):
    """Runs an operation, in one colour."""

    async def run(self, operation: Operation[R]) -> R:
        """Carry it out."""
        ...


class Blocking:
    """Runs operations in the caller's thread, outside of its deadline: what is over must still be told."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, operation: Operation[R]) -> R:
        """Carry it out."""
        return Context().run(self._store.run, operation)


class Awaiting:
    """Runs operations on the event loop."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def run(self, operation: Operation[R]) -> R:
        """Carry it out."""
        return await self._store.run(operation)


def take_shared(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take what concerns the store out of a breaker's arguments; nothing where there is none."""
    store = arguments.pop("store", None)
    namespace = arguments.pop("namespace", "bk")
    coalesce_us = checks.duration_us(
        "coalesce", arguments.pop("coalesce", 0.1), least_us=0, most_us=SECOND_US
    )
    if store is None:
        return {}
    return {"store": store, "namespace": namespace, "coalesce_us": coalesce_us}
