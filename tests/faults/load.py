"""Operations for fault tests, many callers that run them, and the books that are kept of what became of each.

Every operation carries a token of its own, which the server counts and sends back. So a test can say for each
one, and not only in sum, whether its reply was its own and whether the error that its caller got was true.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

from backendkit.core.errors import NotSent, OutcomeUnknown
from backendkit.core.operation import Change, Item, Operation, Reply, Script
from backendkit.stores import Guarded, connect
from backendkit.stores.redis import RedisStore
from tests.ground.servers import Server
from tests.ground.waiting import eventually

TOKENS = count(1)


def _no_fold(states: Sequence[Any], now: int, args: Sequence[Item]) -> Change:
    raise AssertionError("these operations are for Redis only")


TICK = Script(
    "faults.tick",
    lua="redis.call('HINCRBY', KEYS[1], ARGV[1], 1) return {ARGV[1], ARGV[2]}",
    fold=_no_fold,
)
"""Counts its token and sends it back, with whatever came along."""

SPIN = Script(
    "faults.spin",
    lua="redis.call('HINCRBY', KEYS[1], ARGV[1], 1) local n = 0 "
    "for i = 1, tonumber(ARGV[2]) do n = n + i end return {ARGV[1], ''}",
    fold=_no_fold,
    slow=True,
)
"""As TICK, and keeps the server busy for some 10 ns per round."""

PAIR = Script(
    "faults.pair",
    lua="redis.call('HINCRBY', KEYS[1], ARGV[1], 1) redis.call('HINCRBY', KEYS[2], ARGV[1], 1) "
    "return {ARGV[1], ''}",
    fold=_no_fold,
)
"""Counts its token under two keys."""


def script(lua: str) -> Script:
    """Return a script that exists in Lua only."""
    return Script("faults.other", lua=lua, fold=_no_fold)


def run_of(lua: str, *keys: bytes, args: Sequence[Item] = ()) -> Operation[Reply]:
    """Return an operation of a script that exists in Lua only; its result is the raw reply."""
    return Operation(script(lua), keys or (b"key",), args, _whole)


def tick(key: bytes, padding: bytes = b"", *, token: bytes | None = None) -> Operation[bytes]:
    """Return an operation whose result is its token; raises if the reply is another's."""
    return _tokened(TICK, (key,), padding, token)


def spin(key: bytes, rounds: int) -> Operation[bytes]:
    """Return an operation that keeps the server busy."""
    return _tokened(SPIN, (key,), b"%d" % rounds, None)


def pair(one: bytes, other: bytes) -> Operation[bytes]:
    """Return an operation on two keys."""
    return _tokened(PAIR, (one, other), b"", None)


def token_of(operation: Operation[Any]) -> bytes:
    """Return the token that an operation carries."""
    token = operation.args[0]
    assert isinstance(token, bytes)
    return token


def _tokened(
    script: Script, keys: tuple[bytes, ...], padding: bytes, token: bytes | None
) -> Operation[bytes]:
    own = token or b"%d" % next(TOKENS)

    def read(reply: Reply) -> bytes:
        expected = padding if script is TICK else b""
        if reply != [own, expected]:
            raise WrongReply(f"{own!r} got {reply!r:.200}")
        return own

    return Operation(script, keys, (own, padding), read)


def _whole(reply: Reply) -> Reply:
    return reply


class WrongReply(AssertionError):
    """A caller got what was another's."""


def bare(url: str, **options: Any) -> RedisStore:
    """Return the Redis store that a URL names, without its guard."""
    guarded = connect(url, **options)
    assert isinstance(guarded, Guarded)
    assert isinstance(guarded.store, RedisStore)
    return guarded.store


def guarded(url: str, **options: Any) -> Guarded:
    """Return the store that a URL names, as users get it."""
    store = connect(url, **options)
    assert isinstance(store, Guarded)
    return store


def counts(server: Server, *keys: bytes) -> Counter[bytes]:
    """Return how often each token was counted under these keys."""
    total: Counter[bytes] = Counter()
    for key in keys:
        flat = server.command("HGETALL", key)
        assert isinstance(flat, list)
        for token, times in zip(flat[::2], flat[1::2], strict=True):
            assert isinstance(token, bytes)
            assert isinstance(times, bytes)
            total[token] += int(times)
    return total


class Books:
    """What callers were told of each operation; safe to share between threads."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.refused: dict[bytes, NotSent] = {}
        self.unknown: dict[bytes, OutcomeUnknown] = {}

    def note(self, operation: Operation[bytes], error: Exception | None) -> None:
        """Enter one outcome; an error that no store may raise is raised again."""
        token = token_of(operation)
        if error is None:
            self.done.append(token)
        elif isinstance(error, NotSent):
            self.refused[token] = error
        elif isinstance(error, OutcomeUnknown):
            self.unknown[token] = error
        else:
            raise error

    def run(self, store: Any, operation: Operation[bytes]) -> bool:
        """Run an operation, blocking, and enter what came of it."""
        try:
            store.run(operation)
        except (NotSent, OutcomeUnknown) as error:
            self.note(operation, error)
            return False
        self.note(operation, None)
        return True

    async def run_async(self, store: Any, operation: Operation[bytes]) -> bool:
        """Run an operation, awaiting, and enter what came of it."""
        try:
            await store.run(operation)
        except (NotSent, OutcomeUnknown) as error:
            self.note(operation, error)
            return False
        self.note(operation, None)
        return True

    @property
    def failed(self) -> list[Exception]:
        """All errors that callers got."""
        return [*self.refused.values(), *self.unknown.values()]

    def check(self, counted: Counter[bytes], *, may_be_lost: Sequence[bytes] = ()) -> None:
        """Compare with what the server has counted: each error must have been true, and nothing ran twice.

        Args:
            counted: see `counts`.
            may_be_lost: done, but Redis itself may have lost them: acknowledged before a failover.
        """
        assert not [token for token, times in counted.items() if times != 1], "ran twice"
        assert not [token for token in self.refused if token in counted], "NotSent was a lie"
        lost = set(may_be_lost)
        assert not [t for t in self.done if t not in counted and t not in lost], "done, yet not run"


def replicated(server: Server, key: bytes = b"replicated") -> None:
    """Return once a replica has all that this master had acknowledged when this was called; sets `key`."""
    with server.wire() as wire:  # WAIT speaks of its own connection's writes
        wire.command("SET", key, 1)
        acknowledged = wire.command("WAIT", 1, 10_000)
    assert acknowledged == 1, "no replica follows"


class Load:
    """Threads and tasks that run operations on one store until told to stop.

    Args:
        store: any store.
        operation: makes the next operation of caller number n.
        threads: callers that block, each in a thread.
        tasks: callers that await, all on one event loop.
        pause: seconds between two operations of one caller.
    """

    def __init__(
        self,
        store: Any,
        operation: Callable[[int], Operation[bytes]],
        *,
        threads: int = 3,
        tasks: int = 12,
        pause: float = 0.001,
    ) -> None:
        self.books = Books()
        self.errors: list[BaseException] = []
        self._store = store
        self._operation = operation
        self._pause = pause
        self._stop = threading.Event()
        self._tasks = tasks
        self._workers = [threading.Thread(target=self._thread, args=(n,)) for n in range(threads)]
        if tasks:
            self._workers.append(threading.Thread(target=self._loop, args=(threads,)))

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Run for a block; what callers raised that no store may raise is raised at its end."""
        for worker in self._workers:
            worker.start()
        try:
            yield self
        finally:
            self.stop()
        if self.errors:
            raise self.errors[0]

    def stop(self) -> None:
        """Let every caller end its operation."""
        self._stop.set()
        for worker in self._workers:
            worker.join(20)
        assert not any(worker.is_alive() for worker in self._workers), "a caller never came back"

    def progress(self, more: int = 50, within: float = 15.0) -> None:
        """Return once so many more operations were carried out."""
        goal = len(self.books.done) + more
        eventually(lambda: len(self.books.done) >= goal, f"{more} more are done", within=within)

    def _thread(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                self.books.run(self._store, self._operation(number))
                self._stop.wait(self._pause)
        except BaseException as error:  # noqa: BLE001 - it is raised again at the end
            self.errors.append(error)

    def _loop(self, first: int) -> None:
        try:
            asyncio.run(self._all(first))
        except BaseException as error:  # noqa: BLE001 - it is raised again at the end
            self.errors.append(error)

    async def _all(self, first: int) -> None:
        await asyncio.gather(*(self._task(first + n) for n in range(self._tasks)))

    async def _task(self, number: int) -> None:
        while not self._stop.is_set():
            await self.books.run_async(self._store.aio, self._operation(number))
            await asyncio.sleep(self._pause)
