"""Where responses are stored, and the store in either colour."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from backendkit.core.errors import AppError


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
        self, key: str, loader: Callable[[], str], *, ttl: float, tags: Iterable[str]
    ) -> str:
        """Return a value, loaded once where there is none."""
        ...

    def set(self, key: str, value: Any, *, ttl: float, tags: Iterable[str]) -> None:
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
        self, key: str, loader: Callable[[], Any], *, ttl: float, tags: Iterable[str]
    ) -> str:
        """Return a value, loaded once where there is none."""
        ...

    async def set(self, key: str, value: Any, *, ttl: float, tags: Iterable[str]) -> None:
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


async def _new_token() -> str:
    return new_token()


class BlockingWorld:
    """For callers that block."""

    __slots__ = ("_store",)

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

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

    __slots__ = ("_store",)

    def __init__(self, store: AsyncResponseStore) -> None:
        self._store = store

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
