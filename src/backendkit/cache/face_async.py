"""The asynchronous face of a cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

from backendkit.cache import bulk, fence, flow, reads, writes
from backendkit.cache.build import CacheOptions
from backendkit.cache.calls import Calls, never
from backendkit.cache.core import Core
from backendkit.cache.decorator import Cached, cached
from backendkit.cache.fence import Lease
from backendkit.cache.io import AwaitingIO
from backendkit.cache.loading import MISSING, check_tags, tags_of
from backendkit.cache.policy import CachePolicy
from backendkit.cache.stats import CacheStats
from backendkit.core.checks import Duration
from backendkit.core.store import Store

if TYPE_CHECKING:
    from backendkit.cache.face import Cache

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class AsyncCache:
    """The asynchronous face of a `Cache`; methods, arguments and errors are the same.

    `cache.aio` is one. An application without blocking code makes it directly, with the arguments of `Cache`.

    Args:
        store: see `Cache`.
        **options: see `Cache`.
    """

    __slots__ = ("_cache", "_calls", "_core", "_find", "_io", "_local")

    def __init__(self, store: Store, **options: Unpack[CacheOptions]) -> None:
        # Here, and not above: each face makes the other.
        from backendkit.cache.face import Cache  # noqa: PLC0415

        made: Any = Cache(store, **options)
        self._take(made, made._core, made._calls, made._aio._io)  # noqa: SLF001 - its other face
        made._aio = self  # noqa: SLF001 - as above

    @classmethod
    def _over(cls, cache: Cache, core: Core, calls: Calls, io: AwaitingIO) -> AsyncCache:
        """Return the asynchronous face of a cache that there is."""
        face = cls.__new__(cls)
        face._take(cache, core, calls, io)  # noqa: SLF001 - in its own making
        return face

    def _take(self, cache: Cache, core: Core, calls: Calls, io: AwaitingIO) -> None:
        self._cache = cache
        self._core = core
        self._calls = calls
        self._local = core.local
        self._find = calls.find()
        self._io = io

    @property
    def sync(self) -> Cache:
        """The synchronous face of the same cache."""
        return self._cache

    async def get(self, key: str, default: D | None = None) -> Any | D | None:
        """Return the value of `key` if a tier has it fresh, else `default`; see `Cache.get`."""
        try:
            record: Any = self._find(key)
            if record is not None and record.era is self._local.era:
                value: Any = record.value if record.thaw is None else record.thaw(record.value)
                self._local.hits += 1
                return value
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        value = (await self.get_many((key,)))[key]
        return default if value is MISSING else value

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> T:
        """Return the value of `key`, loading it where no tier has it; see `Cache.get_or_load`."""
        try:
            record: Any = self._find(key)
            if record is not None and record.era is self._local.era:
                value: T = record.value if record.thaw is None else record.thaw(record.value)
                self._local.hits += 1
                return value
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        call = self._calls.one(key, loader, ttl=ttl, tags=tags, policy=policy)
        return await flow.get_or_load(self._io, self._core, call)  # type: ignore[no-any-return] # a codec's value

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of keys; see `Cache.get_many`."""
        keys_of, pattern = self._calls.keys(tuple(keys)), self._calls.pattern
        return self._calls.cut(await reads.get_many(self._io, self._core, keys_of, pattern))

    async def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Awaitable[Mapping[str, Any]]],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> list[Any]:
        """Return the values of keys, in order; see `Cache.get_or_load_many`."""
        tags = tags_of(tags)
        calls = [self._calls.one(key, never, ttl=ttl, tags=tags, policy=policy) for key in keys]
        return await bulk.get_or_load_many(self._io, self._core, calls, self._calls.loader(loader))

    async def lease(self, key: str) -> Lease:
        """Take the right to `set` what is going to be read now; see `Cache.lease`."""
        return await fence.take(self._io, self._core, self._calls.keys((key,))[0])

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        lease: Lease | None = None,
    ) -> bool:
        """Store a value in both tiers; see `Cache.set`."""
        call = self._calls.one(key, never, ttl=ttl, tags=tags, policy=policy)
        if lease is not None:
            return await fence.put(self._io, self._core, call, value, lease)
        await writes.set_many(self._io, self._core, [(call, value)])
        return True

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> None:
        """Store several values; see `Cache.set_many`."""
        await writes.set_many(self._io, self._core, self._calls.pairs(values, ttl, tags, policy))

    async def invalidate(self, *keys: str) -> None:
        """Remove entries; see `Cache.invalidate`."""
        await writes.invalidate(self._io, self._core, self._calls.keys(keys))

    async def expire(self, *keys: str) -> None:
        """Make entries stale; see `Cache.expire`."""
        await writes.expire(self._io, self._core, self._calls.keys(keys))

    async def invalidate_tags(self, *tags: str) -> None:
        """Remove all entries that carry one of these tags; see `Cache.invalidate_tags`."""
        await writes.invalidate_tags(self._io, self._core, check_tags(tags))

    async def clear(self) -> None:
        """Remove all entries of the namespace; see `Cache.clear`."""
        await self._calls.clear(self._io)

    def prefixed(self, prefix: str) -> AsyncCache:
        """Return a view of this cache whose keys begin with `prefix`; see `Cache.prefixed`."""
        return self._cache.prefixed(prefix).aio

    def cached(
        self,
        template: str | None = None,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> Callable[[Callable[P, T]], Cached[P, T]]:
        """Return a decorator that caches a function's results; see `Cache.cached`."""
        return cached(self._cache, template, ttl=ttl, tags=tags, policy=policy)

    def stats(self) -> CacheStats:
        """Return what this process's part of the cache has done."""
        return self._cache.stats()

    async def close(self) -> None:
        """Stop listening; see `Cache.close`."""
        self._cache.close()
