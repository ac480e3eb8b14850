"""A cache of two tiers: `Cache`, and `cache.aio` over the same state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, ParamSpec, TypeVar

from backendkit.cache import bulk, fence, flow, reads, writes
from backendkit.cache.build import core_of
from backendkit.cache.calls import Calls, never
from backendkit.cache.codecs import Codec
from backendkit.cache.decorator import Cached, cached
from backendkit.cache.face_async import AsyncCache
from backendkit.cache.fence import Lease
from backendkit.cache.io import AwaitingIO, BlockingIO
from backendkit.cache.l1 import L1
from backendkit.cache.loading import MISSING, check_tags, tags_of
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.cache.stats import CacheStats
from backendkit.cache.wire import Wire
from backendkit.core.checks import Duration
from backendkit.core.events import Hooks
from backendkit.core.flow import step
from backendkit.core.fork import remake_after_fork
from backendkit.core.store import Store

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class Cache:
    """Values that are dear to make, kept in this process and, with Redis, for the whole fleet.

    Args:
        store: with a `MemoryStore` the cache is its first tier alone, with the same meaning.
        namespace: separates caches that share a server: letters, digits and `.`, `_`, `-`.
        l1: the first tier; None: 10,000 entries, 64 MiB, on the store's clock.
        codec: how values become bytes, or a `Wire` that also compresses and seals them; needed for a second tier, and not used without one.
        policy: what holds for entries where a call says nothing else.
        coherence: how far processes may drift apart.
        hooks: who is told what happens.
        chance: numbers in 0..1 for jitter and early refresh; None: the system's.

    Any thread, any event loop. Costs: 0.3 us for what the first tier has, one round trip for what the second has, two
    around a load.
    """

    __slots__ = (
        "__weakref__", "_aio", "_calls", "_core", "_find", "_io", "_l1", "_local", "_store",
    )  # fmt: skip

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = "bk",
        l1: L1 | None = None,
        codec: Codec | Wire | None = None,
        policy: CachePolicy | None = None,
        coherence: Coherence | None = None,
        hooks: Hooks | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._core = core = core_of(
            store,
            {
                "namespace": namespace,
                "l1": l1,
                "codec": codec,
                "policy": policy,
                "coherence": coherence,
                "hooks": hooks,
                "chance": chance,
            },
        )
        self._store = store
        self._local = core.local
        self._calls = Calls(core)
        self._find = self._calls.find()
        self._l1 = self._calls.tier()
        flights = core.local.flights
        self._io = BlockingIO(store, store.clock, flights, core.upkeep.behind())
        io = AwaitingIO(store.aio, store.clock, flights)
        self._aio = AsyncCache._over(self, core, self._calls, io)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its other face
        remake_after_fork(self)

    @property
    def aio(self) -> AsyncCache:
        """The asynchronous face of the same cache."""
        return self._aio

    @property
    def hooks(self) -> Hooks:
        """Who is told what happens."""
        return self._core.hooks

    def after_fork_in_child(self) -> None:
        """Begin without what the parent's thread kept up to date."""
        self._core.names.renew()
        self._core.looks.at.clear()
        self._local.after_fork_in_child()

    def get(self, key: str, default: D | None = None) -> Any | D | None:
        """Return the value of `key` if a tier has it fresh, else `default`; None may be a value. Never raises."""
        l1, local = self._l1, self._local
        try:
            # What `L1.get` does, without one more call, which is a quarter of the time.
            record: Any = l1.entries[key]
            now = l1.now()
            if now < record.deadline and now < l1.trusted_until and record.era is local.era:
                record.visited = True
                value: Any = record.value if record.thaw is None else record.thaw(record.value)
                local.hits += 1
                return value
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        value = self.get_many((key,))[key]
        return default if value is MISSING else value

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], T],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> T:
        """Return the value of `key`; where no tier has it, from `loader`, which runs once for all who ask.

        Args:
            key: 1 character or more.
            loader: called without arguments; `loading()` tells it more. What it raises is raised here.
            ttl: how long its value is fresh; None: as the policy says.
            tags: what the value is dropped by, see `invalidate_tags`.
            policy: None: the cache's.

        Raises:
            NestedLoad: called for `key` within its own loader.
            LoadTimeout: the policy's `hard_timeout` has passed.
        """
        try:
            record: Any = self._find(key)
            if record is not None and record.era is self._local.era:
                value: T = record.value if record.thaw is None else record.thaw(record.value)
                self._local.hits += 1
                return value
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        call = self._calls.one(key, loader, ttl=ttl, tags=tags, policy=policy)
        return step(flow.get_or_load(self._io, self._core, call))  # type: ignore[no-any-return] # a codec's value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of keys, in their order; `MISSING` for what no tier has fresh. One batch."""
        keys_of, pattern = self._calls.keys(tuple(keys)), self._calls.pattern
        return self._calls.cut(step(reads.get_many(self._io, self._core, keys_of, pattern)))

    def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[[list[str]], Mapping[str, Any]],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> list[Any]:
        """Return the values of keys, in order, duplicates kept; what no tier has, from one call of `loader`.

        Args:
            keys: any number.
            loader: gets the keys that are missing, and returns a mapping; what it leaves out is `MISSING` in the answer.
            ttl: see `get_or_load`; so are the others.
            tags: of all of them.
            policy: of all of them, and holds for each: what is stale serves where it may, key by key; a timeout is that of
                the whole call, and what is stale serves after it if every key that is missing has it.

        Two round trips around a load, whatever the number; one more for a look before, which is left out where looks have
        found little of late, one more where entries are dead or cannot be read, and one for each time that loads of
        other processes are waited for.
        """
        tags = tags_of(tags)
        calls = [self._calls.one(key, never, ttl=ttl, tags=tags, policy=policy) for key in keys]
        return step(bulk.get_or_load_many(self._io, self._core, calls, self._calls.loader(loader)))

    def lease(self, key: str) -> Lease:
        """Take the right to `set` a value that is going to be read now, unless it is invalidated meanwhile. One batch.

            with cache.lease("user:42") as lease:
                row = database.user(42)
                cache.set("user:42", row, lease=lease)

        Until it is used or ended, who loads the key waits for it, as for a load: do not ask for the key under it.
        Never raises, unless strict: a lease that could not be had stores nothing.
        """
        return step(fence.take(self._io, self._core, self._calls.keys((key,))[0]))

    def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
        lease: Lease | None = None,
    ) -> bool:
        """Store a value in both tiers, whatever is there; other processes drop theirs. One round trip.

        Args:
            key: see `get_or_load`; so are ttl, tags and policy.
            value: None is one.
            ttl: None: as the policy says.
            tags: what it is dropped by.
            policy: None: the cache's.
            lease: of `lease(key)`, taken before the value was read; it is used up.

        Returns:
            False: there was a lease, and since it was taken the key was removed, set or loaded elsewhere, one of the tags
            or the namespace was, or it was never granted; nothing was stored.

        Raises:
            NotEncodable: the codec cannot keep the value; or, on one tier, it can neither be copied nor may be shared.
            StoreError: it is not in the second tier, or nobody knows; the first has it not.
        """
        call = self._calls.one(key, never, ttl=ttl, tags=tags, policy=policy)
        if lease is not None:
            return step(fence.put(self._io, self._core, call, value, lease))
        step(writes.set_many(self._io, self._core, [(call, value)]))
        return True

    def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> None:
        """Store several values; see `set`. One batch."""
        step(writes.set_many(self._io, self._core, self._calls.pairs(values, ttl, tags, policy)))

    def invalidate(self, *keys: str) -> None:
        """Remove entries: who asks afterwards gets what was loaded afterwards. One batch.

        Raises:
            StoreError: Redis has not confirmed it, and may go on serving the old value; this process does not.
        """
        step(writes.invalidate(self._io, self._core, self._calls.keys(keys)))

    def expire(self, *keys: str) -> None:
        """Make entries stale: they are loaded again, yet may serve in an emergency. Raises as `invalidate`."""
        step(writes.expire(self._io, self._core, self._calls.keys(keys)))

    def invalidate_tags(self, *tags: str) -> None:
        """Remove all entries that carry one of these tags; O(1), one round trip. Raises as `invalidate`."""
        step(writes.invalidate_tags(self._io, self._core, check_tags(tags)))

    def clear(self) -> None:
        """Remove all entries of the namespace, or of the view's prefix; O(1), one round trip. Raises as `invalidate`."""
        step(self._calls.clear(self._io))

    def prefixed(self, prefix: str) -> Cache:
        """Return a view of this cache: each of its keys stands for one that begins with `prefix`.

        What is stored through it is dropped by its `clear`, in O(1) and one round trip, whatever it is; for that each entry
        carries the tag `prefix:` with the prefix. What was stored under the same whole key without the view is found, and not dropped.

        Args:
            prefix: 1..190 characters without NUL, those of the views that it is made of included.

        Both faces, statistics, events (with whole keys) and `close` are the cache's own.
        """
        view = copy(self)
        view._narrow(self._calls.within(prefix))  # noqa: SLF001 - of its own kind
        return view

    def cached(
        self,
        template: str | None = None,
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> Callable[[Callable[P, T]], Cached[P, T]]:
        """Return a decorator that caches a function's results, `def` or `async def`.

        Args:
            template: the key, with parameters in braces, `"user:{user_id}"`; None: the function's name and all arguments.
            ttl: see `get_or_load`; so is the policy.
            tags: may have parameters in braces as well, `"tenant:{tenant}"`.
            policy: None: the cache's.

        The decorated function has `invalidate(...)` and `expire(...)`, with its own arguments, and `key(...)`.
        """
        return cached(self, template, ttl=ttl, tags=tags, policy=policy)

    def stats(self) -> CacheStats:
        """Return what this process's part of the cache has done."""
        l1, local, counted = self._local.l1, self._local, self._core.counts.all()
        return CacheStats(
            **{**counted, "l1_hits": counted["l1_hits"] + local.hits},
            entries=len(l1),
            bytes=l1.currsize,
            evictions=l1.evictions,
            trusted=local.now() < l1.trusted_until,
        )

    def close(self) -> None:
        """Stop listening, until it is used again. The store stays open: it belongs to whoever made it."""
        self._core.upkeep.close()

    def _narrow(self, calls: Calls) -> None:
        self._calls = calls
        self._find = calls.find()
        self._l1 = calls.tier()
        self._aio = AsyncCache._over(self, self._core, calls, self._aio._io)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its other face
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"Cache(namespace={self._core.names.namespace!r})"
