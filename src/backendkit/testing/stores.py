"""What every store owes its callers, asked of one that is not ours.

For whoever writes a store:

    def test_the_store() -> None:
        check_store(lambda: MyStore(url))

Each question is asked in both colours. It runs scripts that are spelt twice, in Lua and as a fold, as all scripts are: a
store takes whichever it can. What needs servers that fail, or time that passes, is not asked: whether a time to live
is kept, and what is raised when an operation was not sent, or nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeAlias, TypeVar

from backendkit.core.errors import StoreClosed
from backendkit.core.operation import DELETE, Change, Item, Operation, Reply, Script, State
from backendkit.core.outcome import Error, Outcome
from backendkit.core.store import Store

R = TypeVar("R")

LARGEST = 2**53 - 1
"""The largest integer that travels between an operation and a store."""

_DAY_US = 86_400_000_000
_AT_ONCE = 100

Counted: TypeAlias = Operation[Reply]


def check_store(make_store: Callable[[], Store], *, prefix: str = "check-store") -> None:
    """Assert that a store keeps the contract of `backendkit.core.store`.

    Args:
        make_store: returns an open store; called several times. What it returns is closed.
        prefix: how the keys begin that are used; the store must hold none of them yet.

    Raises:
        AssertionError: it does not; the message has a line for everything that is wrong.
    """
    wrong = list(faults(make_store, prefix=prefix))
    if wrong:
        raise AssertionError(f"{len(wrong)} faults:\n  " + "\n  ".join(wrong))


def faults(make_store: Callable[[], Store], *, prefix: str = "check-store") -> Iterator[str]:
    """Say what is wrong with a store, line by line; arguments as for `check_store`."""
    for colour in ("sync", "async"):
        for ask in _QUESTIONS:
            name = ask.__name__[1:].replace("_", " ")
            with asyncio.Runner() as runner:
                store = make_store()
                face: _Face = store if colour == "sync" else _Awaited(store, runner)
                keys = _Keys(f"{prefix}:{colour}:{ask.__name__}")
                try:
                    for fault in ask(store, face, keys):
                        yield f"{name} ({colour}): {fault}"
                except Exception as error:  # noqa: BLE001 - whatever a store does wrong is to be listed
                    yield f"{name} ({colour}): {type(error).__name__}: {error}"
                finally:
                    face.close()


class _Face(Protocol):
    """A colour, for a caller that blocks."""

    def run(self, operation: Operation[R]) -> R: ...

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]: ...

    def close(self) -> None: ...


class _Awaited:
    """The asynchronous face, awaited on one loop."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self._store = store
        self._runner = runner

    def run(self, operation: Operation[R]) -> R:
        return self._runner.run(self._store.aio.run(operation))

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        return self._runner.run(self._store.aio.run_many(operations))

    def run_at_once(self, operations: Sequence[Operation[R]]) -> list[R]:
        """Run them as tasks of one loop."""

        async def gathered() -> list[R]:
            return await asyncio.gather(*map(self._store.aio.run, operations))

        return self._runner.run(gathered())

    def close(self) -> None:
        self._runner.run(self._store.aio.close())


class _Keys:
    """Keys of one question; they share a slot of a Cluster."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __call__(self, name: str) -> bytes:
        return f"{{{self._prefix}}}:{name}".encode()


# Questions


def _changes_are_kept(store: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    replies = [face.run(_move(keys("a"), keys("b"), n)) for n in (-5, 2, 3, 0)]
    expected = [[1, 5, -5], [1, 3, -3], [1, 0, 0], [1, 0, 0]]
    if replies != expected:
        yield f"replied {replies!r}, not {expected!r}"
    if (other := store.run(_move(keys("a"), keys("b"), -1))) != [1, 1, -1]:
        yield f"the synchronous face has another state: {other!r}"


def _a_check_that_fails_writes_nothing(_: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    replies = [face.run(_move(keys("a"), keys("b"), n)) for n in (-5, 6, 0)]
    if replies != [[1, 5, -5], [0, 5, -5], [1, 5, -5]]:
        yield f"after a refusal the keys hold {replies[2]!r}"


def _values_travel_exactly(_: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    values: list[Item] = [b"", b"\x00\xff\r\n$-1", bytes(range(256)), 0, -1, LARGEST, -LARGEST]
    for value in values:
        reply = face.run(_echo(keys("x"), value))
        if reply != [value] or type(reply[0]) is not type(value):
            yield f"{value!r} came back as {reply!r}"


def _what_a_reader_raises_reaches_the_caller(_: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    try:
        face.run(_unread(keys("a"), keys("b")))
    except LookupError:
        pass
    else:
        yield "nothing was raised"
    if face.run(_move(keys("a"), keys("b"), 0)) != [1, 1, -1]:
        yield "the operation did not run once"


def _batches_keep_places_and_go_on(_: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    if face.run_many([]) != []:
        yield "an empty batch has outcomes"
    batch = [_echo(keys("x"), number) for number in range(_AT_ONCE)]
    batch.insert(50, _unread(keys("a"), keys("b")))
    told = [
        type(one.error) if isinstance(one, Error) else one.value for one in face.run_many(batch)
    ]
    expected: list[Any] = [[number] for number in range(_AT_ONCE)]
    expected.insert(50, LookupError)
    if told != expected:
        yield f"the outcomes are {told!r}"


def _changes_at_once_are_all_counted(_: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    operations = [_move(keys("a"), keys("b"), -1) for _ in range(_AT_ONCE)]
    if isinstance(face, _Awaited):
        replies = face.run_at_once(operations)
    else:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(face.run, operations))
    if sorted(replies, key=str) != sorted(([1, n, -n] for n in range(1, _AT_ONCE + 1)), key=str):
        yield "some saw the same state, or one that never was"


def _faces_and_figures(store: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    if store.aio.sync is not store:
        yield "`aio.sync` is another store"
    operation = _move(keys("a"), keys("b"), -1)
    face.run(operation)  # what a server does not know yet may go twice
    before = store.stats()
    face.run(operation)
    after = store.stats()
    if after.operations - after.resent != before.operations - before.resent + 1:
        yield f"`stats().operations` went from {before.operations} to {after.operations} by one"
    if not store.route(operation) or store.route(operation) != store.route(operation):
        yield f"`route` is {store.route(operation)!r}"


def _a_closed_store_refuses(store: Store, face: _Face, keys: _Keys) -> Iterator[str]:
    operation = _move(keys("a"), keys("b"), -1)
    face.run(operation)
    face.close()
    for name, run in (("this face", face.run), ("the synchronous face", store.run)):
        try:
            run(operation)
        except StoreClosed:
            continue
        yield f"{name} runs on"
    outcomes = face.run_many([operation, operation])
    if not all(isinstance(one, Error) and isinstance(one.error, StoreClosed) for one in outcomes):
        yield f"of a batch the outcomes are {outcomes!r}"


_QUESTIONS: tuple[Callable[[Store, _Face, _Keys], Iterator[str]], ...] = (
    _changes_are_kept,
    _a_check_that_fails_writes_nothing,
    _values_travel_exactly,
    _what_a_reader_raises_reaches_the_caller,
    _batches_keep_places_and_go_on,
    _changes_at_once_are_all_counted,
    _faces_and_figures,
    _a_closed_store_refuses,
)


# Scripts


def _fold_move(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    source, target, amount = states[0] or 0, states[1] or 0, args[0]
    if amount > source:
        return Change((), [0, source, target])
    left, total = source - amount, target + amount
    writes = [(number, _DAY_US) if number else DELETE for number in (left, total)]
    return Change(writes, [1, left, total])


_MOVE = Script(
    "testing.move",
    lua="""
local source = tonumber(redis.call('GET', KEYS[1]) or '0')
local target = tonumber(redis.call('GET', KEYS[2]) or '0')
local amount = tonumber(ARGV[1])
if amount > source then
  return {0, source, target}
end
local reply = {1, source - amount, target + amount}
for place = 1, 2 do
  local number = reply[place + 1]
  if number == 0 then
    redis.call('DEL', KEYS[place])
  else
    redis.call('SET', KEYS[place], string.format('%.0f', number), 'PX', 86400000)
  end
end
return reply
""",
    fold=_fold_move,
)


def _move(source: bytes, target: bytes, amount: int) -> Counted:
    """Move an amount between two counters if the first has it; replies whether it did, and both."""
    return Operation(_MOVE, (source, target), (amount,), _raw)


def _unread(source: bytes, target: bytes) -> Counted:
    """Move one, with a reader that fails."""

    def misread(reply: Reply) -> Reply:
        raise LookupError(len(reply))

    return Operation(_MOVE, (source, target), (-1,), misread)


def _fold_echo(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [args[0]])


_ECHO = Script("testing.echo", lua="return {ARGV[1]}", fold=_fold_echo)
_ECHO_NUMBER = Script("testing.echo_number", lua="return {tonumber(ARGV[1])}", fold=_fold_echo)


def _echo(key: bytes, value: Item) -> Counted:
    """Reply with an argument."""
    return Operation(_ECHO if isinstance(value, bytes) else _ECHO_NUMBER, (key,), (value,), _raw)


def _raw(reply: Reply) -> Reply:
    return reply
