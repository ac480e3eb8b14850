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


ROOT = "backendkit.root_path"
"""Where scope holds, for a mounted application with a frame of its own, the prefix under which it is mounted."""


class Aftermath:
    """What is to be done to a response once it begins, and once it has ended; the request has it as `aftermath`.

    Attributes:
        on_start: called with the status; each returns headers to add.
        on_end: awaited when the application has returned, in order.
    """

    __slots__ = ("on_end", "on_start")

    def __init__(self) -> None:
        self.on_start: list[Callable[[int], list[tuple[bytes, bytes]]]] = []
        self.on_end: list[Callable[[], Awaitable[object]]] = []

    def added(self, status: int) -> list[tuple[bytes, bytes]]:
        """Return the headers to add to a response of this status."""
        return [pair for more in self.on_start for pair in more(status)]


async def ended(
    aftermath: Aftermath, report: Callable[[Exception, str], object], scope: Scope
) -> None:
    """Do what is to be done after a request's response. What fails is reported, and the rest is done all the same."""
    for end in aftermath.on_end:
        try:
            await end()
        except Exception as error:  # noqa: BLE001 - the answer is out, and the next must be done
            report(error, place(scope))


def local_path(scope: Scope) -> str:
    """Return the path without the prefix under which a server or proxy has put the application (`root_path`)."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    inside = path.removeprefix(root)
    return inside if inside.startswith("/") else path


def header(headers: RawHeaders, key: bytes) -> str | None:
    """Return the value of the first header called `key` (lower-case), or None."""
    for name, value in headers:
        if name == key:
            return value.decode("latin-1")
    return None


def accepted(headers: RawHeaders) -> tuple[str | None, str | None]:
    """Return the values of Accept and Accept-Language; of several, the first."""
    accept = language = None
    for name, value in headers:
        if name == b"accept" and accept is None:
            accept = value.decode("latin-1")
        elif name == b"accept-language" and language is None:
            language = value.decode("latin-1")
    return accept, language


def encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them."""
    return [
        _USUAL_PAIRS.get(pair)
        or (
            _USUAL.get(pair[0]) or pair[0].lower().encode("latin-1"),
            pair[1].encode("latin-1"),
        )
        for pair in headers
    ]


_USUAL = {
    "Content-Type": b"content-type",
    "Content-Length": b"content-length",
    "Vary": b"vary",
    "RateLimit": b"ratelimit",
    "RateLimit-Policy": b"ratelimit-policy",
}

_USUAL_PAIRS = {
    (name, value): (name.lower().encode(), value.encode())
    for name, value in (
        ("Content-Type", "application/json"),
        ("Vary", "Accept"),
    )
}
"""What most errors say of themselves: looked up whole, it is not made again."""


def place(scope: Scope) -> str:
    """Return where a connection goes, for a record: `GET '/users'`, without the query, which may hold secrets."""
    return f"{scope.get('method', 'WEBSOCKET')} {scope.get('path', '?')!r}"


def allowed(methods: Iterable[str]) -> str:
    """Return the value of `Allow`: what has a GET has a HEAD, and everything answers OPTIONS."""
    known = set(methods)
    if not known:
        return ""
    return ", ".join(sorted(known | {"OPTIONS"} | ({"HEAD"} if "GET" in known else set())))
