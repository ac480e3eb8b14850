"""`Cache-Control`, read and written: RFC 9111 section 5.2, RFC 5861, RFC 8246.

Reading is lenient where the standard is, and careful where it leaves a choice: a number that is none counts as
zero, of two the smaller holds, and a directive that is limited to some fields counts for the whole response.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument

LONGEST_S = 2**31 - 1
"""Seconds; more counts as this (RFC 9111 section 1.2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """What a request or a response says of caching; `str()` writes it. All seconds are whole, None: not said.

    Attributes:
        public: shared caches may store it, even where they otherwise would not.
        private: only the user's own cache may store it.
        no_store: nobody may store it.
        no_cache: it may be stored, and must be asked about before each use.
        no_transform: nobody may change its content.
        must_revalidate: never to be served stale.
        proxy_revalidate: the same for shared caches.
        must_understand: store it only if its status is understood.
        immutable: it never changes while it is fresh.
        only_if_cached: of a request: answer from the cache or not at all.
        max_age: seconds for which it is fresh.
        s_maxage: the same for shared caches, where it goes first.
        stale_while_revalidate: seconds after that for which it may be served while it is fetched anew.
        stale_if_error: seconds after that for which it may be served instead of an error.
        max_stale: of a request: seconds by which it may be stale.
        min_fresh: of a request: seconds for which it must stay fresh.

    Raises:
        InvalidArgument: what contradicts itself, or no whole number of seconds.
    """

    public: bool = False
    private: bool = False
    no_store: bool = False
    no_cache: bool = False
    no_transform: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    max_stale: int | None = None
    min_fresh: int | None = None

    def __post_init__(self) -> None:
        for name in _SECONDS:
            value = getattr(self, name)
            if value is not None:
                checks.whole(name, value, most=LONGEST_S)

    @classmethod
    def parse(cls, lines: str | Iterable[str]) -> CacheControl:
        """Read the value of a header, or of several; never raises, and leaves out what it does not know."""
        text = lines if isinstance(lines, str) else ",".join(lines)
        found: dict[str, bool | int] = {}
        for name, quoted, plain in _DIRECTIVE.findall(text):
            field = name.lower().replace("-", "_")
            if field in _FLAGS:
                found[field] = True
            elif field in _SECONDS:
                given = quoted or plain
                endless = field == "max_stale" and not given
                seconds = LONGEST_S if endless else _seconds(given)
                found[field] = min(seconds, found.get(field, LONGEST_S))
        return cls(**found)  # type: ignore[arg-type] # flags are bools, seconds are ints

    def __str__(self) -> str:
        if self.public and (self.private or self.no_store):
            raise InvalidArgument("public", "must not go with private or no_store", self.public)
        if self.no_store and (self.max_age or self.s_maxage):
            raise InvalidArgument("no_store", "must not go with max_age or s_maxage", self.no_store)
        parts: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            name = "s-maxage" if field.name == "s_maxage" else field.name.replace("_", "-")
            if value is True:
                parts.append(name)
            elif value is not None and value is not False:
                parts.append(f"{name}={value}")
        return ", ".join(parts)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        return 0
    digits = text.lstrip("0") or "0"
    return min(int(digits), LONGEST_S) if len(digits) < 12 else LONGEST_S


_FLAGS = frozenset(
    {
        "public", "private", "no_store", "no_cache", "no_transform", "must_revalidate", "proxy_revalidate",
        "must_understand", "immutable", "only_if_cached",
    }
)  # fmt: skip
_SECONDS = ("max_age", "s_maxage", "stale_while_revalidate", "stale_if_error", "max_stale", "min_fresh")  # fmt: skip
_DIRECTIVE = re.compile(r'([A-Za-z0-9_-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')
