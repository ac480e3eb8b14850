"""Several steps, written once as `async def`, for callers that await and for callers that block.

A flow asks the world through an `IO` of five verbs. The asynchronous face awaits the flow; the synchronous face
steps it: a coroutine whose awaits never suspend is a function, and `step` runs it without an event loop, a thread
or generated code. Hot paths return before a flow starts; a step costs about a microsecond.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar, cast

from backendkit.core.clock import Clock
from backendkit.core.flights import Flights
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import AsyncStore, Store

R = TypeVar("R")
T = TypeVar("T")

Load = Callable[[], Awaitable[Outcome[T]]]
"""A step of a flow that may be shared: an `async def` without arguments that returns an outcome."""


class IO(Protocol):
    """All that a flow may ask of the world. A synchronous IO's verbs never suspend."""

    async def run(self, operation: Operation[R]) -> R:
        """Carry out an operation on the store."""
        ...

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations in one batch per server."""
        ...

    async def wait(self, us: int) -> None:
        """Let `us` microseconds pass."""
        ...

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Call what the user gave us: `def`, or `async def` on the asynchronous side; never raises an `Exception`."""
        ...

    async def share(self, key: object, load: Load[T]) -> Outcome[T]:
        """Run `load` once for all who ask for `key` meanwhile, and give each its outcome."""
        ...


def step(flow: Coroutine[Any, Any, T]) -> T:
    """Run a flow to its end in the calling thread.

    Raises:
        RuntimeError: an await suspended, so an asynchronous IO was handed to a synchronous face.
    """
    try:
        flow.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # StopIteration.value is untyped
    flow.close()
    raise RuntimeError("a synchronous flow suspended: its IO must only use blocking calls")


class SyncIO:
    """The five verbs for a caller that blocks.

    Args:
        store: where operations run.
        clock: what waiting means.
        flights: loads in the air, shared with the asynchronous side of the same feature.
    """

    __slots__ = ("_clock", "_flights", "_store")

    def __init__(self, store: Store, clock: Clock, flights: Flights) -> None:
        self._store = store
        self._clock = clock
        self._flights = flights

    async def run(self, operation: Operation[R]) -> R:
        """Carry out an operation, blocking the thread."""
        return self._store.run(operation)

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations, blocking the thread."""
        return self._store.run_many(operations)

    async def wait(self, us: int) -> None:
        """Block the thread for `us` microseconds."""
        self._clock.sleep(us)

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Call `function` in this thread."""
        try:
            return Value(function())
        except Exception as error:  # noqa: BLE001 - the user's error is the outcome
            return Error(error)

    async def share(self, key: object, load: Load[T]) -> Outcome[T]:
        """Lead the load of `key` in this thread, or wait for whoever leads it."""
        return self._flights.share_sync(key, lambda: step(awaited(load)))


class AsyncIO:
    """The five verbs for a caller that awaits; arguments as for `SyncIO`."""

    __slots__ = ("_clock", "_flights", "_store")

    def __init__(self, store: AsyncStore, clock: Clock, flights: Flights) -> None:
        self._store = store
        self._clock = clock
        self._flights = flights

    async def run(self, operation: Operation[R]) -> R:
        """Carry out an operation, suspending the task."""
        return await self._store.run(operation)

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations, suspending the task."""
        return await self._store.run_many(operations)

    async def wait(self, us: int) -> None:
        """Suspend the task for `us` microseconds."""
        await self._clock.sleep_async(us)

    async def call(self, function: Callable[[], Any]) -> Outcome[Any]:
        """Call `function`, and await what it returns if that can be awaited."""
        try:
            result: object = function()
            if isinstance(result, Awaitable):
                result = await cast("Awaitable[object]", result)
            return Value(result)
        except Exception as error:  # noqa: BLE001 - the user's error is the outcome
            return Error(error)

    async def share(self, key: object, load: Load[T]) -> Outcome[T]:
        """Start a task of its own that loads `key`, or wait for whoever loads it."""
        return await self._flights.share_async(key, lambda: awaited(load))


async def awaited(load: Load[T]) -> Outcome[T]:
    """Make a coroutine of any awaitable, and an outcome of any error."""
    try:
        return await load()
    except Exception as error:  # noqa: BLE001 - the load's error is the outcome
        return Error(error)
