"""The load that a loader runs in: what it may look at and decide, and which loads it runs within."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Self, cast

from backendkit.cache.policy import lifetime_us
from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument


class Marker:
    """A value that stands for itself."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __copy__(self) -> Marker:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Marker:
        return self

    def __reduce__(self) -> str:
        return self._name


MISSING: Final = Marker("MISSING")
"""There is no value; None is one. A loader that returns it has nothing stored."""

NOT_MODIFIED: Final = Marker("NOT_MODIFIED")
"""What a loader returns where the stale value that it was shown is still right."""


class Load:
    """One run of a loader; `loading()` returns it inside. What it decides holds for all keys of a load of many.

    Attributes:
        key: what is loaded; of many, the first.
        stale: the value that was there before, or `MISSING`; with it a loader may ask its source "changed since?" and
            return `NOT_MODIFIED`.
        stales: the same by key, for a load of many, which may have `NOT_MODIFIED` for any key of what it returns.
        ttl_us: microseconds that what it brings is fresh, or None: as the policy says.
        tags: of what it brings.
    """

    __slots__ = ("_ended", "_keys", "_owner", "_within", "key", "stale", "stales", "tags", "ttl_us")

    def __init__(
        self, owner: object, keys: Sequence[str], tags: tuple[str, ...], stales: Mapping[str, Any]
    ) -> None:
        self._owner = owner
        self._keys = frozenset(keys) if len(keys) > 1 else keys
        self._ended = False
        self._within = _current.get()
        self.key = keys[0]
        self.stale = stales.get(self.key, MISSING)
        self.stales = stales
        self.tags = tags
        self.ttl_us: int | None = None

    def live(self, ttl: Duration) -> None:
        """Let what is brought be fresh for `ttl`, whatever was asked for."""
        self.ttl_us = lifetime_us("ttl", ttl)

    def tag(self, *names: str) -> None:
        """Add tags, known only now that it is loaded. One that is invalidated during the load keeps it from being stored."""
        self.tags = tuple(dict.fromkeys((*self.tags, *check_tags(names))))

    def runs_within(self, owner: object, key: str) -> bool:
        """Whether this load, or one that it runs in, is of `key`."""
        load: Load | None = self
        while load is not None:
            if not load._ended and key in load._keys and load._owner is owner:  # noqa: SLF001 - of its own kind
                return True
            load = load._within  # noqa: SLF001 - of its own kind
        return False

    def __enter__(self) -> Self:
        self._within = _current.get()
        _current.set(self)
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended = True  # tasks that the loader has left behind keep this context
        _current.set(self._within)


def loading() -> Load | None:
    """Return the load that the calling code runs in, or None."""
    return _current.get()


def tags_of(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as a tuple; one text is none, for its characters would be."""
    if isinstance(tags, str | bytes):
        fix = f"tags=[{tags!r}]"
        raise InvalidArgument("tags", "must be a collection of texts, not one text", tags, fix)
    return tuple(tags)


def check_tags(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return tags if each is text of 1..200 characters without NUL."""
    for name in cast("tuple[object, ...]", names):  # callers' types are checked by nobody else
        if not isinstance(name, str) or not 1 <= len(name) <= 200 or "\0" in name:
            raise InvalidArgument("tags", "must be texts of 1..200 characters, no NUL", name)
    return names


_current: ContextVar[Load | None] = ContextVar("backendkit_cache_load", default=None)
