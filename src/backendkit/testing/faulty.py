"""A store around a store that fails on command: what a network does now and then, done exactly when a test says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from backendkit.core.checks import whole
from backendkit.core.clock import Clock
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome
from backendkit.core.store import AsyncStore, Store, StoreStats
from backendkit.testing.faults import Fault

R = TypeVar("R")


class FaultyStore:
    """A store that does what `store` does, save where a fault was injected. Both colours share the faults.

    Args:
        store: where operations run; a `MemoryStore` in most tests. It stays the caller's to close, `close` closes it too.
    """

    __slots__ = ("_aio", "_lock", "_plans", "_scripts", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self._plans: list[_Plan] = []
        self._scripts: list[str] = []
        self._lock = threading.Lock()
        self._aio = AsyncFaultyStore(self)

    @property
    def aio(self) -> AsyncStore:
        """The asynchronous face."""
        return self._aio

    @property
    def clock(self) -> Clock:
        """The clock of the store within; delays pass on it."""
        return self.store.clock

    @property
    def scripts(self) -> list[str]:
        """The names of the scripts of all operations so far, in order, those that failed included."""
        return list(self._scripts)

    def inject(self, fault: Fault, *, times: int | None = 1, script: str = "*") -> None:
        """Do this to coming operations. Faults apply in the order in which they were injected, one to an operation.

        Args:
            fault: see `backendkit.testing.faults`.
            times: to how many operations; None: to all, until `heal`.
            script: a pattern as `fnmatch` has it: only to operations of scripts of such a name, like `ratelimit.*`.
        """
        left = None if times is None else whole("times", times, least=1)
        with self._lock:
            self._plans.append(_Plan(fault, left, script))

    def heal(self) -> None:
        """Fail no more."""
        with self._lock:
            self._plans.clear()

    def run(self, operation: Operation[R]) -> R:
        """Carry out `operation` as `Store.run`, or do to it what was injected."""
        fault = self.take(operation)
        if fault is None:
            return self.store.run(operation)
        self.clock.sleep(fault.delay_us)
        if not fault.runs:
            raise broken(fault, operation)
        reply = self.store.run(operation)
        if fault.error is not None:
            raise broken(fault, operation)
        return reply

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations as `Store.run_many`, each with its own fault; the longest delay is that of all."""
        faults = [self.take(operation) for operation in operations]
        self.clock.sleep(longest(faults))
        found = self.store.run_many(running(operations, faults))
        return merged(operations, faults, found)

    def take(self, operation: Operation[Any]) -> Fault | None:
        """Return what is to happen to `operation`, and count it; None: nothing out of the ordinary."""
        name = operation.script.name
        with self._lock:
            self._scripts.append(name)
            for plan in self._plans:
                if fnmatchcase(name, plan.script):
                    return self._used(plan)
        return None

    def route(self, operation: Operation[Any]) -> str:
        """Return what the store within says."""
        return self.store.route(operation)

    def stats(self) -> StoreStats:
        """Return what the store within says: operations that did not run are not among its own."""
        return self.store.stats()

    def close(self) -> None:
        """Close the store within."""
        self.store.close()

    def _used(self, plan: _Plan) -> Fault:
        if plan.left is not None:
            plan.left -= 1
            if plan.left == 0:
                self._plans.remove(plan)
        return plan.fault


class AsyncFaultyStore:
    """The asynchronous face of a `FaultyStore`, which makes it."""

    __slots__ = ("_face",)

    def __init__(self, face: FaultyStore) -> None:
        self._face = face

    @property
    def sync(self) -> Store:
        """The synchronous face."""
        return self._face

    async def run(self, operation: Operation[R]) -> R:
        """See `FaultyStore.run`."""
        face = self._face
        fault = face.take(operation)
        if fault is None:
            return await face.store.aio.run(operation)
        if fault.delay_us:
            await face.clock.sleep_async(fault.delay_us)
        if not fault.runs:
            raise broken(fault, operation)
        reply = await face.store.aio.run(operation)
        if fault.error is not None:
            raise broken(fault, operation)
        return reply

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """See `FaultyStore.run_many`."""
        face = self._face
        faults = [face.take(operation) for operation in operations]
        if longest(faults):
            await face.clock.sleep_async(longest(faults))
        found = await face.store.aio.run_many(running(operations, faults))
        return merged(operations, faults, found)

    async def close(self) -> None:
        """Close the store within."""
        await self._face.store.aio.close()


class _Plan:
    """A fault, to how many operations more, and of which scripts."""

    __slots__ = ("fault", "left", "script")

    def __init__(self, fault: Fault, left: int | None, script: str) -> None:
        self.fault = fault
        self.left = left
        self.script = script


def broken(fault: Fault, operation: Operation[Any]) -> Exception:
    """Return what `fault` raises of `operation`."""
    text = f"injected into {operation.script.name}"
    return RuntimeError(text) if fault.error is None else fault.error(text)


def longest(faults: Sequence[Fault | None]) -> int:
    """Return the longest delay, in microseconds."""
    return max((fault.delay_us for fault in faults if fault is not None), default=0)


def running(
    operations: Sequence[Operation[Any]], faults: Sequence[Fault | None]
) -> list[Operation[Any]]:
    """Return the operations that run all the same."""
    pairs = zip(operations, faults, strict=True)
    return [operation for operation, fault in pairs if fault is None or fault.runs]


def merged(
    operations: Sequence[Operation[Any]],
    faults: Sequence[Fault | None],
    found: Sequence[Outcome[Any]],
) -> list[Outcome[Any]]:
    """Return an outcome for each operation, from those that ran and from what was injected."""
    ran = iter(found)
    out: list[Outcome[Any]] = []
    for operation, fault in zip(operations, faults, strict=True):
        outcome = next(ran) if fault is None or fault.runs else None
        if fault is not None and (outcome is None or fault.error is not None):
            outcome = Error(broken(fault, operation))
        if outcome is not None:
            out.append(outcome)
    return out
