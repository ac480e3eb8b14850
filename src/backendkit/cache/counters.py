"""Numbers that a fleet counts together, each with an end: views, attempts, things used up today."""

from __future__ import annotations

from typing import NamedTuple

from backendkit.cache.decide import count
from backendkit.cache.policy import lifetime_us
from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.keys import KeySpace
from backendkit.core.operation import Operation
from backendkit.core.store import AsyncStore, Store


class Count(NamedTuple):
    """A number, and the seconds until it is over; 0 and 0.0 where nothing is counted."""

    value: int
    left: float


class Counters:
    """Numbers with an end, in a store; none is in the first tier, so that all processes see one. Safe to share.

    A count begins with the first `add`, and is over after that call's `ttl`, however often it is added to. To refuse what is too
    much take a `RateLimiter`: it decides and counts in one step.

    Args:
        store: where they are kept; failures are raised, for a number cannot be guessed.
        namespace: as for `Cache`; the caches of the same name have other keys.

    One round trip a call.
    """

    __slots__ = ("_aio", "_space", "_store")

    def __init__(self, store: Store, *, namespace: str = "bk") -> None:
        self._store = store
        self._space = KeySpace("cache", version=1, kind="count", namespace=namespace)
        self._aio = AsyncCounters(self, store.aio)

    @property
    def aio(self) -> AsyncCounters:
        """The asynchronous face of the same counters."""
        return self._aio

    def add(self, key: str, by: int = 1, *, ttl: Duration) -> Count:
        """Add to a count, and return it.

        Args:
            key: 1 character or more.
            by: may be negative. Counting stops at 2**53 - 1 in either direction.
            ttl: a `timedelta` or seconds, 1 ms to 90 days; of a count that begins.

        Raises:
            StoreError: it is not counted, or nobody knows.
        """
        return _counted(self._store.run(self.adding(key, by, ttl)))

    def get(self, key: str) -> Count:
        """Return a count."""
        return _counted(self._store.run(count.look(self.key(key))))

    def reset(self, key: str) -> Count:
        """End a count, and return what it was."""
        return _counted(self._store.run(count.reset(self.key(key))))

    def key(self, key: str) -> bytes:
        """Return the store's key."""
        if not key:
            raise InvalidArgument("key", "must be text of one character or more", key)
        return self._space.key(key)

    def adding(self, key: str, by: int, ttl: Duration) -> Operation[tuple[int, int]]:
        """Return the operation of `add`, checked."""
        checks.whole("by", by, least=-count.MOST, most=count.MOST)
        return count.add(self.key(key), by, lifetime_us("ttl", ttl))


class AsyncCounters:
    """The asynchronous face of `Counters`; methods, arguments and errors are the same."""

    __slots__ = ("_counters", "_store")

    def __init__(self, counters: Counters, store: AsyncStore) -> None:
        self._counters = counters
        self._store = store

    async def add(self, key: str, by: int = 1, *, ttl: Duration) -> Count:
        """Add to a count, and return it."""
        return _counted(await self._store.run(self._counters.adding(key, by, ttl)))

    async def get(self, key: str) -> Count:
        """Return a count."""
        return _counted(await self._store.run(count.look(self._counters.key(key))))

    async def reset(self, key: str) -> Count:
        """End a count, and return what it was."""
        return _counted(await self._store.run(count.reset(self._counters.key(key))))


def _counted(pair: tuple[int, int]) -> Count:
    return Count(pair[0], pair[1] / SECOND_US)
