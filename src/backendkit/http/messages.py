"""ASGI's shapes as types, and what everybody here does with its headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]

KEY = "backendkit.request"
"""Where scope and environ hold the request that a frame has begun; an inner frame leaves it alone."""


AFTERMATH = "backendkit.aftermath"
"""Where an ASGI scope holds the `Aftermath` of the outermost frame's response."""


class Aftermath:
    """What is to be done to a response once it begins, and once it has ended; routes and dependencies add to it.

    Attributes:
        on_start: called with the status; each returns headers to add.
        on_end: awaited when the application has returned, in order.
    """

    __slots__ = ("on_end", "on_start")

    def __init__(self) -> None:
        self.on_start: list[Callable[[int], list[tuple[bytes, bytes]]]] = []
        self.on_end: list[Callable[[], Awaitable[object]]] = []


def header(headers: RawHeaders, key: bytes) -> str | None:
    """Return the value of the first header called `key` (lower-case), or None."""
    for name, value in headers:
        if name == key:
            return value.decode("latin-1")
    return None


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def place(scope: Scope) -> str:
    """Return where a connection goes, for a record: `GET '/users'`, without the query, which may hold secrets."""
    return f"{scope.get('method', 'WEBSOCKET')} {scope.get('path', '?')!r}"
