"""Write-behind: the cache has a value at once, its source a moment later, several at a time.

Bounded, one waiting write per key (the last one counts), in batches, tried again with growing pauses; what cannot be
written in the end is handed to the application, and closing writes what still waits, for as long as it is given.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from backendkit.cache import events
from backendkit.cache.calls import Calls, never
from backendkit.cache.policy import CachePolicy
from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import Overloaded
from backendkit.core.fork import remake_after_fork

if TYPE_CHECKING:
    from backendkit.cache.face import Cache

Writer = Callable[[Mapping[str, Any]], object]
"""Writes values by their keys to the source, all or none; may be called again with what it has written before."""

DeadLetter = Callable[[Mapping[str, Any], Exception], object]
"""Gets what could not be written, and the last error; of what was being written when time was over nobody knows."""


class WriteBehind:
    """Values on their way to their source. Safe to share between threads, and, by `aio`, event loops.

    Args:
        cache: has each value at once.
        write: writes a batch to the source, in a thread of this object's.
        dead_letter: gets what could not be written after all attempts, and what did not fit in at the end.
        max_waiting: keys that wait at the most, 1 to 1,000,000.
        batch: values per call of `write`, 1 to 10,000.
        delay: seconds to gather a batch, 0 to 60.
        attempts: calls of `write` per batch, 1 to 20; the pauses between double from 0.1 s on, shortened by chance.

    What waits dies with the process, and until it is written the source has the old value: give entries a `ttl` that is longer
    than the source may be down. Of several processes that set one key the source and the cache may end with
    different ones. A context manager; `close` writes what waits.
    """

    def __init__(
        self,
        cache: Cache,
        write: Writer,
        *,
        dead_letter: DeadLetter,
        max_waiting: int = 10_000,
        batch: int = 100,
        delay: Duration = 0.1,
        attempts: int = 5,
    ) -> None:
        self._cache = cache
        self._core = cache._core  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a part of the cache
        self._write = write
        self._dead_letter = dead_letter
        self._most = checks.whole("max_waiting", max_waiting, least=1, most=1_000_000)
        self._batch = checks.whole("batch", batch, least=1, most=10_000)
        delay_us = checks.duration_us("delay", delay, least_us=0, most_us=60 * SECOND_US)
        self._delay = delay_us / SECOND_US
        self._attempts = checks.whole("attempts", attempts, least=1, most=20)
        self._aio = AsyncWriteBehind(self, cache)
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin without what waits: the parent writes it."""
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Any] = OrderedDict()
        self._setting: dict[str, tuple[int, _Wish]] = {}
        self._flying: Mapping[str, Any] = {}
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._over = threading.Event()
        self._closed = False

    @property
    def aio(self) -> AsyncWriteBehind:
        """The asynchronous face of the same values."""
        return self._aio

    def __len__(self) -> int:
        """Return how many keys wait."""
        return len(self._waiting)

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> None:
        """Store a value in the cache, and have it written to its source soon; arguments as for `Cache.set`.

        Raises:
            InvalidArgument, Overloaded: too many keys wait, or it was closed; nothing was stored.
            NotEncodable, StoreError: as `Cache.set`; the value is written to its source all the same.
        """
        wish: _Wish | None = self._accept(key, _Wish(value, ttl, tuple(tags), policy))
        try:
            while wish is not None:
                self._cache.set(key, wish.value, ttl=wish.ttl, tags=wish.tags, policy=wish.policy)
                wish = self._later(key, wish)
        finally:
            self._leave(key)

    def close(self, *, within: Duration = 10.0) -> bool:
        """Write what waits; tell whether all of it was. What was not in `within` goes to `dead_letter`."""
        left = checks.duration_us("within", within, least_us=0) / SECOND_US
        with self._changed:
            self._closed = True
            self._hurry.set()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(left)
        self._over.set()
        with self._changed:
            rest = {**self._flying, **self._waiting}
            self._flying, self._waiting = {}, OrderedDict()
        if rest:
            self._bury(rest, Overloaded("closed before it was written"))
        return not rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _accept(self, key: str, wish: _Wish) -> _Wish:
        """Queue a value, and note that the cache is being told."""
        Calls(self._core).one(key, never, ttl=wish.ttl, tags=wish.tags, policy=wish.policy)
        with self._changed:
            if self._closed or (key not in self._waiting and len(self._waiting) >= self._most):
                raise Overloaded(f"{len(self._waiting)} keys wait to be written")
            self._start()
            self._waiting[key] = wish.value
            self._changed.notify()
            active, _ = self._setting.get(key, (0, wish))
            self._setting[key] = (active + 1, wish)
        return wish

    def _later(self, key: str, wish: _Wish) -> _Wish | None:
        """Return what the cache must be told again: what was accepted later, and may have reached it before."""
        with self._changed:
            latest = self._setting[key][1]
        return None if latest is wish else latest

    def _leave(self, key: str) -> None:
        """Note that one less tells the cache of a key."""
        with self._changed:
            active, latest = self._setting.pop(key)
            if active > 1:
                self._setting[key] = (active - 1, latest)

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(
                target=self._live, name="backendkit-write-behind", daemon=True
            )
            thread.start()  # may fail where there is no room for one more
            self._thread = thread

    def _live(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
            self._hurry.wait(self._delay)
            with self._changed:
                count = min(self._batch, len(self._waiting))
                batch = dict(self._waiting.popitem(last=False) for _ in range(count))
                self._flying = batch
            error = self._deliver(batch)
            with self._changed:
                mine, self._flying = self._flying is batch, {}
            if error is not None and mine:
                self._bury(batch, error)

    def _deliver(self, batch: Mapping[str, Any]) -> Exception | None:
        """Write a batch; return the last error."""
        failed: Exception | None = None
        for attempt in range(self._attempts if batch else 0):
            pause = _FIRST_PAUSE_S * 2**attempt * (1 - self._core.chance() / 2)
            try:
                self._write(dict(batch))
            except BaseException as error:  # noqa: BLE001 - what ends this thread, nobody would hear of
                failed = error if isinstance(error, Exception) else Overloaded(repr(error))
            else:
                return None
            if attempt + 1 < self._attempts and self._over.wait(pause):
                break
        return failed

    def _bury(self, values: Mapping[str, Any], error: Exception) -> None:
        handed = True
        try:
            self._dead_letter(values, error)
        except Exception:  # noqa: BLE001 - what waits behind must go on
            handed = False
        self._core.tell(events.NotWritten(tuple(values), type(error).__name__, handed))


class AsyncWriteBehind:
    """The asynchronous face of `WriteBehind`; methods, arguments and errors are the same."""

    __slots__ = ("_accept", "_behind", "_cache", "_later", "_leave")

    def __init__(self, behind: WriteBehind, cache: Cache) -> None:
        self._behind = behind
        self._cache = cache.aio
        self._accept = behind._accept  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the same object's
        self._later = behind._later  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
        self._leave = behind._leave  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above

    def __len__(self) -> int:
        """Return how many keys wait."""
        return len(self._behind)

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> None:
        """Store a value in the cache, and have it written to its source soon; see `WriteBehind.set`."""
        wish: _Wish | None = self._accept(key, _Wish(value, ttl, tuple(tags), policy))
        try:
            while wish is not None:
                await self._cache.set(
                    key, wish.value, ttl=wish.ttl, tags=wish.tags, policy=wish.policy
                )
                wish = self._later(key, wish)
        finally:
            self._leave(key)

    async def close(self, *, within: Duration = 10.0) -> bool:
        """Write what waits, while the loop goes on; see `WriteBehind.close`."""
        return await asyncio.to_thread(self._behind.close, within=within)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


class _Wish(NamedTuple):
    """What somebody wants a key to have."""

    value: Any
    ttl: Duration | None
    tags: tuple[str, ...]
    policy: CachePolicy | None


_FIRST_PAUSE_S = 0.1
