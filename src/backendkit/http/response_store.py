"""Where responses are stored, and the store in either colour."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from backendkit.core.errors import AppError

if TYPE_CHECKING:
    from backendkit.cache import CachePolicy


class ResponseStore(Protocol):
    """Where responses are stored; a `Cache` is one."""

    @property
    def aio(self) -> AsyncResponseStore:
        """The same for callers that await."""
        ...

    def get(self, key: str, default: None = None) -> Any:
        """Return a value, or None."""
        ...

    def get_or_load(
        self,
        key: str,
        loader: Callable[[], str],
        *,
        ttl: float,
        tags: Iterable[str],
        policy: CachePolicy | None = None,
    ) -> str:
        """Return a value, loaded once where there is none."""
        ...

    def set(self, key: str, value: Any, *, ttl: float, tags: Iterable[str]) -> object:
        """Store a value of dicts, lists, text, numbers."""
        ...

    def invalidate(self, *keys: str) -> None:
        """Remove values."""
        ...


class AsyncResponseStore(Protocol):
    """The same for callers that await."""

    async def get(self, key: str, default: None = None) -> Any:
        """Return a value, or None."""
        ...

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any],
        *,
        ttl: float,
        tags: Iterable[str],
        policy: CachePolicy | None = None,
    ) -> str:
        """Return a value, loaded once where there is none."""
        ...

    async def set(self, key: str, value: Any, *, ttl: float, tags: Iterable[str]) -> object:
        """Store a value."""
        ...

    async def invalidate(self, *keys: str) -> None:
        """Remove values."""
        ...


class World(Protocol):
    """The store in one colour; failures of the store are nobody's but its own."""

    async def token(self, key: str, ttl: float, tags: Iterable[str]) -> str:
        """Return the token of a URL."""
        ...

    async def get(self, key: str) -> Any:
        """Return a value, or None."""
        ...

    async def set(self, key: str, value: Any, ttl: float) -> None:
        """Store a value."""
        ...

    async def invalidate(self, key: str) -> None:
        """Remove a token."""
        ...


def new_token() -> str:
    """Return a token that nobody has had."""
    return secrets.token_hex(16)


def live(verdict: str, pass_s: float) -> str:
    """Give the load that runs now the life that its verdict has, and return the verdict."""
    from backendkit.cache import loading  # noqa: PLC0415 - whoever stores nothing loads no cache

    load = loading()
    if load is not None:  # a store of another kind has none
        load.live(pass_s if verdict == "pass" else MOMENT_S)
    return verdict


def turns() -> CachePolicy:
    """Return how verdicts are kept: exactly as long as they say."""
    from backendkit.cache import CachePolicy  # noqa: PLC0415 - as above

    return CachePolicy(beta=0)


MOMENT_S = 0.02
"""Seconds for which a verdict is kept: who comes later finds the response, or takes the next turn."""


async def _new_token() -> str:
    return new_token()


class BlockingWorld:
    """For callers that block."""

    __slots__ = ("_policy", "_store")

    def __init__(self, store: ResponseStore) -> None:
        self._store = store
        self._policy = turns()

    def turn(self, key: str, load: Callable[[], str], pass_s: float) -> str:
        """Return what becomes of a page: by `load`, in this thread, or by another request's."""
        return self._store.get_or_load(
            key, lambda: live(load(), pass_s), ttl=pass_s, tags=(), policy=self._policy
        )

    async def token(self, key: str, ttl: float, tags: Iterable[str]) -> str:
        """Return the token of a URL."""
        return self._store.get_or_load(key, new_token, ttl=ttl, tags=tags)

    async def get(self, key: str) -> Any:
        """Return a value, or None."""
        return self._store.get(key)

    async def set(self, key: str, value: Any, ttl: float) -> None:
        """Store a value; if that fails, it is not stored."""
        with suppress(AppError):
            self._store.set(key, value, ttl=ttl, tags=())

    async def invalidate(self, key: str) -> None:
        """Remove a token; if that fails, it goes when its time is over."""
        with suppress(AppError):
            self._store.invalidate(key)


class AwaitingWorld:
    """For callers that await."""

    __slots__ = ("_policy", "_store")

    def __init__(self, store: AsyncResponseStore) -> None:
        self._store = store
        self._policy = turns()

    async def turn(self, key: str, load: Callable[[], Awaitable[str]], pass_s: float) -> str:
        """Return what becomes of a page: by `load`, in a task of the store's, or by another request's."""

        async def timed() -> str:
            return live(await load(), pass_s)

        return await self._store.get_or_load(key, timed, ttl=pass_s, tags=(), policy=self._policy)

    async def token(self, key: str, ttl: float, tags: Iterable[str]) -> str:
        """Return the token of a URL."""
        return await self._store.get_or_load(key, _new_token, ttl=ttl, tags=tags)

    async def get(self, key: str) -> Any:
        """Return a value, or None."""
        return await self._store.get(key)

    async def set(self, key: str, value: Any, ttl: float) -> None:
        """Store a value; if that fails, it is not stored."""
        with suppress(AppError):
            await self._store.set(key, value, ttl=ttl, tags=())

    async def invalidate(self, key: str) -> None:
        """Remove a token; if that fails, it goes when its time is over."""
        with suppress(AppError):
            await self._store.invalidate(key)
