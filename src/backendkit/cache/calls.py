"""What callers pass, checked, as the flows take it; under a prefix, where they hold a view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from backendkit.cache import writes
from backendkit.cache.core import Call, Core
from backendkit.cache.io import CacheIO
from backendkit.cache.l1 import L1
from backendkit.cache.loading import check_tags, tags_of
from backendkit.cache.policy import CachePolicy, lifetime_us
from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument


class Calls:
    """Makes calls of what callers pass.

    Args:
        core: the cache.
        prefix: of all keys.
        tags: of all that is stored; the last is this prefix's own.

    Attributes:
        pattern: of calls that only read.
    """

    __slots__ = ("_core", "_prefix", "_tags", "pattern")

    def __init__(self, core: Core, prefix: str = "", tags: tuple[str, ...] = ()) -> None:
        self._core = core
        self._prefix = prefix
        self._tags = tags
        self.pattern = self.one("pattern", never)

    def within(self, prefix: str) -> Calls:
        """Return the calls of a view."""
        whole = f"{self._prefix}{prefix}"
        if not isinstance(cast("object", prefix), str) or not prefix or not _fits(whole):
            rule = f"must be text of 1..{LONGEST_PREFIX} characters, no NUL"
            raise InvalidArgument("prefix", rule, prefix)
        return Calls(self._core, whole, (*self._tags, f"{PREFIX_TAG}{whole}"))

    def find(self) -> Callable[[str], Any]:
        """Return what finds an entry of the first tier by its key."""
        get, prefix = self._core.local.l1.get, self._prefix
        if not prefix:
            return get
        return lambda key: get(f"{prefix}{key}")

    def tier(self) -> Any:
        """Return the first tier as `Cache.get` reads it: its entries, its time, and until when it is trusted."""
        l1 = self._core.local.l1
        return Within(l1, self._prefix) if self._prefix else l1

    def one(
        self,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl: Duration | None = None,
        tags: Iterable[str] = (),
        policy: CachePolicy | None = None,
    ) -> Call:
        """Return a call, checked."""
        key = self.keys((key,))[0]
        policy = policy or self._core.policy
        ttl_us = policy.ttl_us if ttl is None else lifetime_us("ttl", ttl)
        given = check_tags(tags_of(tags)) if tags else ()
        return Call(key, loader, ttl_us, self._tags + given, policy)

    def pairs(
        self,
        values: Mapping[str, Any],
        ttl: Duration | None,
        tags: Iterable[str],
        policy: CachePolicy | None,
    ) -> list[tuple[Call, Any]]:
        """Return one call per value, checked."""
        tags = tags_of(tags)
        return [
            (self.one(key, never, ttl=ttl, tags=tags, policy=policy), value)
            for key, value in values.items()
        ]

    def keys(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """Return whole keys, if each is text that is not empty."""
        for key in cast("tuple[object, ...]", keys):  # callers' types are checked by nobody else
            if not isinstance(key, str) or not key:
                raise InvalidArgument("key", "must be text of one character or more", key)
        return tuple([self._prefix + key for key in keys]) if self._prefix else keys

    def cut(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return what was found under whole keys under the callers'."""
        cut = len(self._prefix)
        return {key[cut:]: value for key, value in found.items()} if cut else found

    def loader(self, loader: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
        """Return a loader of whole keys for one of the callers'."""
        cut = len(self._prefix)
        if not cut:
            return loader

        def load(keys: list[str]) -> Any:
            brought = loader([key[cut:] for key in keys])
            if isinstance(brought, Awaitable):
                return self._awaited(cast("Awaitable[object]", brought))
            return self._whole(brought)

        return load

    async def clear(self, io: CacheIO) -> None:
        """Remove all: of the namespace, or of the prefix."""
        if self._tags:
            await writes.invalidate_tags(io, self._core, self._tags[-1:])
        else:
            await writes.clear(io, self._core)

    async def _awaited(self, brought: Awaitable[object]) -> object:
        return self._whole(await brought)

    def _whole(self, brought: object) -> object:
        if not isinstance(brought, Mapping):
            return brought  # which is told to whoever asked
        values = cast("Mapping[str, Any]", brought)
        return {f"{self._prefix}{key}": value for key, value in values.items()}


class Within:
    """The first tier under a prefix."""

    __slots__ = ("_l1", "_prefix", "now")

    def __init__(self, l1: L1, prefix: str) -> None:
        self._l1 = l1
        self._prefix = prefix
        self.now = l1.now

    @property
    def trusted_until(self) -> float:
        """As of the whole."""
        return self._l1.trusted_until

    @property
    def entries(self) -> Within:
        """Itself: it looks under the whole key."""
        return self

    def __getitem__(self, key: str) -> Any:
        return self._l1.entries[f"{self._prefix}{key}"]


def never() -> None:
    """Stand for a loader where nothing is loaded."""
    raise AssertionError("nothing is loaded here")


def _fits(prefix: str) -> bool:
    return len(prefix) <= LONGEST_PREFIX and "\0" not in prefix


LONGEST_PREFIX = 190
"""Characters, those of the views that it is made of included: a tag is made of it."""

PREFIX_TAG = "prefix:"
"""How the tags begin that views give to what they store."""
