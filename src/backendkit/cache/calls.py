"""What callers pass, checked, as the flows take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from backendkit.cache.core import Call, Core
from backendkit.cache.loading import check_tags
from backendkit.cache.policy import CachePolicy, lifetime_us
from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument


def call_of(
    core: Core,
    key: str,
    loader: Callable[[], Any],
    *,
    ttl: Duration | None = None,
    tags: Iterable[str] = (),
    policy: CachePolicy | None = None,
) -> Call:
    """Return a call, checked."""
    checked((key,))
    policy = policy or core.policy
    ttl_us = policy.ttl_us if ttl is None else lifetime_us("ttl", ttl)
    return Call(key, loader, ttl_us, check_tags(tuple(tags)) if tags else (), policy)


def pairs_of(
    core: Core,
    values: Mapping[str, Any],
    ttl: Duration | None,
    tags: Iterable[str],
    policy: CachePolicy | None,
) -> list[tuple[Call, Any]]:
    """Return one call per value, checked."""
    tags = tuple(tags)
    return [
        (call_of(core, key, never, ttl=ttl, tags=tags, policy=policy), value)
        for key, value in values.items()
    ]


def checked(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return keys, if each is text that is not empty."""
    for key in cast("tuple[object, ...]", keys):  # callers' types are checked by nobody else
        if not isinstance(key, str) or not key:
            raise InvalidArgument("key", "must be text of one character or more", key)
    return keys


def never() -> None:
    """Stand for a loader where nothing is loaded."""
    raise AssertionError("nothing is loaded here")
