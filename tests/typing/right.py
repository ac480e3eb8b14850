"""Uses that a type checker must accept, with the types it must see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import assert_type

import backendkit
from backendkit.core import checks
from backendkit.core.clock import ManualClock
from backendkit.core.events import Event, Hooks
from backendkit.core.flow import IO, SyncIO, step
from backendkit.core.keys import KeySpace
from backendkit.core.operation import Operation, Reply, Script
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import Store
from backendkit.stores import MemoryStore, connect


def first(reply: Reply) -> int:
    """Read a count."""
    return int(reply[0])


def count(script: Script) -> Operation[int]:
    """The type of an operation is that of its reader."""
    operation = Operation(script, (b"key",), [1], first)
    assert_type(operation, Operation[int])
    return operation


def carried_out(store: Store, script: Script) -> None:
    """A store's result is the operation's."""
    assert_type(store.run(count(script)), int)
    assert_type(store.aio.sync, Store)


async def carried_out_awaited(store: Store, script: Script) -> None:
    """The same, awaited."""
    assert_type(await store.aio.run(count(script)), int)


async def twice(io: IO) -> int:
    """A flow of any colour."""
    shared = await io.share("key", one)
    assert_type(shared, Value[int] | Error)
    return shared.unwrap()


async def one() -> Outcome[int]:
    """A load."""
    return Value(1)


def stepped(io: SyncIO) -> None:
    """A flow's type survives the stepper."""
    assert_type(step(twice(io)), int)


def stores(clock: ManualClock) -> list[Store]:
    """Both stores are a `Store`, and the manual clock is a `Clock`."""
    return [MemoryStore(clock=clock), connect("memory://", clock=clock)]


def told(hooks: Hooks, seen: list[Event]) -> None:
    """A hook may return what it likes."""
    assert_type(hooks.add(seen.append), Callable[[], None])


def checked() -> None:
    """Checks return what they checked, by its type."""
    assert_type(checks.whole("n", 1), int)
    assert_type(checks.duration_us("t", timedelta(1)), int)
    assert_type(KeySpace("a", version=1, kind="b").key("x", 1, of=(b"y",)), bytes)


assert_type(backendkit.__version__, str)
