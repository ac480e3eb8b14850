"""State in this process: folds run under one lock, bounded in entries and in approximate bytes.

No thread and no timer. Keys are listed by the time they expire (see `stores.wheel`), so that what has expired
is found without a search: every write removes a few, and a full store removes as many as it needs. Expired first,
then, oldest first, only what its script marked evictable; else `StoreFull`, for forgetting a revocation or a limit
is not an eviction.

Nothing here is a dictionary that grows with the number of keys, because growing past a million entries stalls the
caller for tens of milliseconds: entries are spread over many small ones, and so is the wheel that knows when they expire.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeAlias, TypeVar

from backendkit.core import checks
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import StoreClosed, StoreFull
from backendkit.core.fork import hold_during_fork
from backendkit.core.operation import DELETE, Operation, Reply, Script, State, Write
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import StoreStats
from backendkit.stores.wheel import Chunk, Wheel

R = TypeVar("R")

DEFAULT_MAX_ENTRIES = 1_000_000
"""Keys."""

DEFAULT_MAX_BYTES = 256 << 20
"""Approximate bytes: 256 MiB."""


class MemoryStore:
    """A store in this process's memory; both faces, one state.

    Args:
        max_entries: keys, at least 1.
        max_bytes: approximate bytes over all keys and states, at least 1,024. An entry is counted as its key, its
            state as the script weighs it, and 300 bytes of bookkeeping.
        clock: its date is what folds see as now; its monotonic reading decides what has expired.

    One operation costs about a microsecond beside its fold.
    """

    __slots__ = (
        "__weakref__",
        "_aio",
        "_bytes",
        "_closed",
        "_entries",
        "_evictable",
        "_evicted",
        "_lock",
        "_max_bytes",
        "_max_entries",
        "_mono_us",
        "_operations",
        "_shards",
        "_wall_us",
        "_wheel",
        "clock",
    )

    def __init__(
        self,
        *,
        max_entries: int = DEFAULT_MAX_ENTRIES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._max_entries = checks.whole("max_entries", max_entries, least=1)
        self._max_bytes = checks.whole("max_bytes", max_bytes, least=1024)
        self.clock: Clock = clock or SystemClock()
        self._mono_us = self.clock.mono_us
        self._wall_us = self.clock.wall_us
        self._lock = threading.Lock()
        self._shards: tuple[dict[bytes, _Entry], ...] = tuple({} for _ in range(_SHARDS))
        self._wheel = Wheel()
        self._evictable: OrderedDict[bytes, None] = OrderedDict()
        self._entries = self._bytes = self._evicted = self._operations = 0
        self._closed = False
        self._aio = AsyncMemoryStore(self)
        hold_during_fork(self)

    @property
    def aio(self) -> AsyncMemoryStore:
        """The asynchronous face of the same state."""
        return self._aio

    def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`; never blocks for longer than other threads' folds take.

        Raises:
            StoreFull: there is no room, and nothing was changed.
            StoreClosed: the store was closed.
        """
        with self._lock:
            if self._closed:
                raise StoreClosed("the memory store was closed")
            self._operations += 1
            now = self._mono_us()
            if len(operation.keys) == 1:
                reply = self._run_one(operation, now)
            else:
                reply = self._run_several(operation, now)
        return operation.read(reply)

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations in order, each atomic by itself."""
        return [self._outcome(operation) for operation in operations]

    def route(self, operation: Operation[Any]) -> str:
        """Return `"memory"`: everything here fails or works together."""
        return "memory"

    def together(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return all of them together, see `core.look.Gathering`."""
        return [list(range(len(keys)))] if keys else []

    def stats(self) -> StoreStats:
        """Return the counts of entries, approximate bytes, operations and evictions."""
        return StoreStats(
            entries=self._entries,
            bytes=self._bytes,
            operations=self._operations,
            evicted=self._evicted,
        )

    def close(self) -> None:
        """Drop all state."""
        with self._lock:
            self._closed = True
            for shard in self._shards:
                shard.clear()
            self._wheel.clear()
            self._evictable.clear()
            self._entries = self._bytes = 0

    def reopen(self) -> None:
        """Undo `close`; the state stays dropped."""
        with self._lock:
            self._closed = False

    @property
    def fork_lock(self) -> threading.Lock:
        """What a fork waits for, so that the child's copy of the state is whole."""
        return self._lock

    def _outcome(self, operation: Operation[R]) -> Outcome[R]:
        try:
            return Value(self.run(operation))
        except Exception as error:  # noqa: BLE001 - the operation's error is its outcome
            return Error(error)

    def _state(self, key: bytes, now: int) -> State:
        entry = self._shards[hash(key) & _MASK].get(key)
        return entry[0] if entry is not None and entry[1] > now else None

    def _run_one(self, operation: Operation[Any], now: int) -> Reply:
        """Run an operation on one key: the case that nearly all are, at half the time of the general one."""
        if self._entries >= self._max_entries or self._bytes >= self._max_bytes:
            return self._run_several(operation, now)
        key = operation.keys[0]
        shard = self._shards[hash(key) & _MASK]
        old = shard.get(key)
        script = operation.script
        state = old[0] if old is not None and old[1] > now else None
        writes, reply = script.fold((state,), self._wall_us(), operation.args)
        if not writes:
            return reply
        write = writes[0]
        if type(write) is tuple and old is not None:
            state, ttl_us = write
            expires = now + ttl_us
            if old[1] <= expires <= old[3].due:
                nbytes = _ENTRY_BYTES + len(key) + script.weigh(state)
                room = self._max_bytes - self._bytes + old[2]
                if nbytes <= room and script.evictable == (key in self._evictable):
                    shard[key] = (state, expires, nbytes, old[3])
                    self._bytes += nbytes - old[2]
                    return reply
        self._apply(operation.keys, writes, script, now)
        return reply

    def _run_several(self, operation: Operation[Any], now: int) -> Reply:
        keys = operation.keys
        states = [self._state(key, now) for key in keys]
        if self._entries + len(keys) > self._max_entries or self._bytes >= self._max_bytes:
            states = self._ready_when_full(states, keys, now)
        writes, reply = operation.script.fold(states, self._wall_us(), operation.args)
        if writes:
            self._apply(keys, writes, operation.script, now)
        return reply

    def _ready_when_full(
        self, states: list[State], keys: tuple[bytes, ...], now: int
    ) -> list[State]:
        """Hand out copies where a refusal is possible, so that it changes nothing.

        Nothing is dropped here: the operation may only look. What is there already needs no further entry:
        while there are bytes left, its states go out as they are, for copying a long log costs milliseconds.
        """
        while self._is_full(len(keys), 1) and self._expire(now, _SWEPT):
            pass
        droppable = len(self._evictable) - sum(key in self._evictable for key in keys)
        absent = sum(self._entry(key) is None for key in keys)
        if self._is_full(absent - droppable, 0 if droppable else 1):
            return deepcopy(states)
        return states

    def _apply(
        self, keys: tuple[bytes, ...], writes: Sequence[Write], script: Script, now: int
    ) -> None:
        """Make the writes true: all of them, or none and raise."""
        if self._wheel.is_due(now):
            self._expire(now, _SWEPT)
        puts = [
            (key, write[0], write[1], _ENTRY_BYTES + len(key) + script.weigh(write[0]))
            for key, write in zip(keys, writes, strict=True)
            if isinstance(write, tuple)
        ]
        room = self._max_bytes - self._bytes
        if self._entries + len(puts) > self._max_entries or sum(put[3] for put in puts) > room:
            self._fit(keys, writes, puts, now)
        for key, write in zip(keys, writes, strict=True):
            if write is DELETE:
                self._remove(key)
        for put in puts:
            self._put(put, now, evictable=script.evictable)

    def _put(self, put: _Put, now: int, *, evictable: bool) -> None:
        key, state, ttl_us, nbytes = put
        expires = now + ttl_us
        shard = self._shards[hash(key) & _MASK]
        old = shard.get(key)
        if old is None:
            self._entries += 1
            self._bytes += nbytes
            chunk = self._wheel.enlist(key, expires, ttl_us)
        else:
            self._bytes += nbytes - old[2]
            chunk = old[3]
            if not old[1] <= expires <= chunk.due:
                self._wheel.strike(key, chunk)
                chunk = self._wheel.enlist(key, expires, ttl_us)
        shard[key] = (state, expires, nbytes, chunk)
        if evictable:
            self._evictable[key] = None
        else:
            self._evictable.pop(key, None)

    def _remove(self, key: bytes) -> None:
        chunk = self._forget(key)
        if chunk is not None:
            self._wheel.strike(key, chunk)

    def _forget(self, key: bytes) -> Chunk | None:
        """Remove an entry; return the chunk where its key is still listed, None where there was none."""
        entry = self._shards[hash(key) & _MASK].pop(key, None)
        if entry is None:
            return None
        self._entries -= 1
        self._bytes -= entry[2]
        self._evictable.pop(key, None)
        return entry[3]

    def _expire(self, now: int, most: int) -> bool:
        """Remove at most `most` entries whose bucket's time has passed; return whether that was any use."""
        found = False
        while most > 0 and self._wheel.is_due(now):
            found = True
            most -= 1
            key = self._wheel.pop()
            if key is not None:
                self._forget(key)
        return found

    def _fit(
        self, keys: tuple[bytes, ...], writes: Sequence[Write], puts: list[_Put], now: int
    ) -> None:
        """Make room for what the writes add, or refuse if that is possible without loss.

        It is not where a fold has let a state grow in place that it had been given: then the bound is passed
        by that growth, once, for the next operation finds the store full and works on copies.
        """
        # Making room would else remove what has expired of these keys from under the sums below.
        self._drop_expired(keys, now)
        old = [self._entry(put[0]) for put in puts]
        gone = [
            self._entry(key) for key, write in zip(keys, writes, strict=True) if write is DELETE
        ]
        entries = old.count(None) - len(gone) + gone.count(None)
        nbytes = sum(put[3] for put in puts) - sum(e[2] for e in (*old, *gone) if e is not None)
        changed_in_place = any(
            e is not None and e[0] is put[1] and _is_mutable(e[0])
            for e, put in zip(old, puts, strict=True)
        )
        if changed_in_place or nbytes <= self._max_bytes:
            self._make_room(entries, nbytes, now, keys)
        grows = entries > 0 or nbytes > 0
        if grows and self._is_full(entries, nbytes) and not changed_in_place:
            raise StoreFull(
                f"the memory store holds {self._entries} entries and about {self._bytes} bytes; "
                f"its bounds are {self._max_entries} and {self._max_bytes}\n"
                "To fix it: raise max_entries or max_bytes, or use Redis"
            )

    def _is_full(self, entries: int, nbytes: int) -> bool:
        """Whether there is no room for so many more."""
        return self._entries + entries > self._max_entries or self._bytes + nbytes > self._max_bytes

    def _entry(self, key: bytes) -> _Entry | None:
        return self._shards[hash(key) & _MASK].get(key)

    def _drop_expired(self, keys: tuple[bytes, ...], now: int) -> None:
        for key in keys:
            entry = self._entry(key)
            if entry is not None and entry[1] <= now:
                self._remove(key)

    def _make_room(self, entries: int, nbytes: int, now: int, spared: tuple[bytes, ...]) -> None:
        """Remove until `entries` and `nbytes` more fit: what has expired, then the oldest that may be dropped."""
        while self._is_full(entries, nbytes):
            if self._expire(now, _SWEPT):
                continue
            oldest = next((key for key in self._evictable if key not in spared), None)
            if oldest is None:
                return
            self._remove(oldest)
            self._evicted += 1


class AsyncMemoryStore:
    """The asynchronous face of a `MemoryStore`. It never waits, and so never yields to the event loop."""

    __slots__ = ("_store",)

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    @property
    def sync(self) -> MemoryStore:
        """The synchronous face of the same state."""
        return self._store

    async def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`; see `MemoryStore.run`."""
        return self._store.run(operation)

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations in order, each atomic by itself."""
        return self._store.run_many(operations)

    async def close(self) -> None:
        """Drop all state."""
        self._store.close()


def _is_mutable(state: State) -> bool:
    """Whether a fold can have changed `state` in place: a copy of what cannot change is the thing itself."""
    return deepcopy(state) is not state


_Entry: TypeAlias = tuple[State, int, int, Chunk]
"""State, monotonic microsecond of expiry, approximate bytes, and where its key is listed."""

_Put: TypeAlias = tuple[bytes, State, int, int]
"""Key, state, time to live, approximate bytes."""

_SHARDS = 256
_MASK = _SHARDS - 1
_SWEPT = 8
"""Expired entries that one write removes."""
_ENTRY_BYTES = 300
"""What an entry costs beside its key and state: two dictionary slots, a tuple, three numbers."""
