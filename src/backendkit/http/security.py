"""Security headers for what is no page: OWASP's REST cheat sheet, and what browsers have learnt since.

Set where the application has not said otherwise, on every status, and never twice. An answer whose own header is
there keeps it. A route that wants other ones says so with `use_security_headers`; documentation pages, which load scripts, have
a policy of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from backendkit.core import context
from backendkit.core.errors import InvalidArgument

Pairs: TypeAlias = list[tuple[str, str]]
RawPairs: TypeAlias = list[tuple[bytes, bytes]]

_VALUE = re.compile(r"[\x20-\x7e]+")
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class SecurityHeaders:
    """What is added to each response; a header that is None is left out. The defaults suit an API.

    Args:
        content_type_options: `X-Content-Type-Options`: no guessing of types.
        csp: `Content-Security-Policy`: an answer that is opened as a page may load nothing, and stands in no frame.
        frame_options: `X-Frame-Options`: the same for old browsers.
        referrer_policy: `Referrer-Policy`: addresses, which may hold secrets, are not passed on.
        resource_policy: `Cross-Origin-Resource-Policy`: no other site may embed answers; CORS is not touched by it.
        opener_policy: `Cross-Origin-Opener-Policy`: no other site keeps a handle on an answer that is opened as a page.
        permissions_policy: `Permissions-Policy`: an answer that is opened as a page gets no device.
        hsts: `Strict-Transport-Security`, over https only: a year. Subdomains, which may have no https, are not spoken for.
        cache_errors: `Cache-Control` of answers from 400 on, which no cache should give to anybody else.
        more: others, as pairs of name and value; they are set if absent, too.

    Raises:
        InvalidArgument: a value that no header can have.
    """

    content_type_options: str | None = "nosniff"
    csp: str | None = "default-src 'none'; frame-ancestors 'none'"
    frame_options: str | None = "DENY"
    referrer_policy: str | None = "no-referrer"
    resource_policy: str | None = "same-origin"
    opener_policy: str | None = "same-origin"
    permissions_policy: str | None = "camera=(), geolocation=(), microphone=(), payment=()"
    hsts: str | None = "max-age=31536000"
    cache_errors: str | None = "no-store"
    more: tuple[tuple[str, str], ...] = ()
    names: frozenset[str] = field(init=False, repr=False, compare=False)
    raw_names: frozenset[bytes] = field(init=False, repr=False, compare=False)
    _sets: tuple[tuple[Pairs, RawPairs], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        always = {
            "X-Content-Type-Options": self.content_type_options,
            "Content-Security-Policy": self.csp,
            "X-Frame-Options": self.frame_options,
            "Referrer-Policy": self.referrer_policy,
            "Cross-Origin-Resource-Policy": self.resource_policy,
            "Cross-Origin-Opener-Policy": self.opener_policy,
            "Permissions-Policy": self.permissions_policy,
            **dict(self.more),
        }
        hsts = {"Strict-Transport-Security": self.hsts}
        errors = {"Cache-Control": self.cache_errors}
        sets = (always, {**always, **hsts}, {**always, **errors}, {**always, **hsts, **errors})
        object.__setattr__(self, "_sets", tuple(_prepared(one) for one in sets))
        names = [name.lower() for name in sets[3]]
        object.__setattr__(self, "names", frozenset(names))
        object.__setattr__(self, "raw_names", frozenset(name.encode() for name in names))

    def missing(self, present: Collection[str], status: int, *, https: bool) -> Pairs:
        """Return those headers that a response lacks; not to be changed.

        Args:
            present: names of the headers that it has, in lower case.
            status: its status.
            https: whether it goes out over https.
        """
        ours = self._sets[2 * (status >= 400) + https][0]
        if self.names.isdisjoint(present):
            return ours
        return [pair for pair in ours if pair[0].lower() not in present]

    def raw(self, status: int, *, https: bool) -> RawPairs:
        """Return all headers for a status, as ASGI has them; not to be changed."""
        return self._sets[2 * (status >= 400) + https][1]

    def missing_raw(self, present: Collection[bytes], status: int, *, https: bool) -> RawPairs:
        """Return the same as ASGI has it; arguments as for `missing`."""
        ours = self.raw(status, https=https)
        if self.raw_names.isdisjoint(present):
            return ours
        return [pair for pair in ours if pair[0] not in present]


def _prepared(wanted: Mapping[str, str | None]) -> tuple[Pairs, RawPairs]:
    pairs = [(name, value) for name, value in wanted.items() if value is not None]
    for name, value in pairs:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise InvalidArgument(name, "must be a header of one line of ASCII text", value)
    return pairs, [(name.lower().encode(), value.encode()) for name, value in pairs]


API = SecurityHeaders()
"""For answers that no browser shows."""

DOCUMENTATION = SecurityHeaders(
    csp=(
        "default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
        "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
        "font-src 'self' https://fonts.gstatic.com; img-src 'self' data: https://fastapi.tiangolo.com "
        "https://cdn.redoc.ly; worker-src 'self' blob:; frame-ancestors 'none'"
    )
)
"""For Swagger's and ReDoc's pages as FastAPI serves them, which load scripts and styles from elsewhere."""

NONE = SecurityHeaders(None, None, None, None, None, None, None, None, None)
"""For a route that wants nothing added."""


def kept_private(said: Iterable[str]) -> list[tuple[str, str]]:
    """Return the `Cache-Control` that a response for one user lacks; caches know `Authorization`, and no cookies.

    Args:
        said: the values of its own: what says `private`, `no-store`, or openly `public`, is believed.
    """
    known = ",".join(said).lower()
    if any(word in known for word in ("private", "no-store", "public")):
        return []
    # ASVS 5.0, 14.3.2: not kept at all, unless the application has said for how long.
    return [("Cache-Control", "private" if known else "no-store")]


def use_security_headers(policy: SecurityHeaders) -> None:
    """Have the answer to the current request carry `policy`; from a view, a dependency, or a thread that works for it."""
    request = context.current()
    if request is not None:
        request.outgoing = policy
