"""What a response says about limits.

`ietf`: `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10, structured fields by RFC 9651.
`legacy`: `X-RateLimit-Limit`, `-Remaining` and `-Reset`, the last in seconds from now. `off`: nothing.
`Retry-After` only on a refusal: whole seconds, rounded up, never earlier than the `t` of the limit that refuses.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, TypeAlias

from backendkit.core.clock import SECOND_US
from backendkit.ratelimit import Concurrency, Decision, Limit

HeaderStyle: TypeAlias = Literal["ietf", "legacy", "off"]

Headers: TypeAlias = list[tuple[str, str]]


def headers_of(decision: Decision, style: HeaderStyle) -> Headers:
    """Return the headers for a decision; a limiter that is off, or that the store left blind, has nothing to say."""
    if style == "off" or decision.source in ("disabled", "open", "closed"):
        return []
    if style == "legacy":
        view = decision.shown
        return [
            ("X-RateLimit-Limit", str(view.limit.quota)),
            ("X-RateLimit-Remaining", str(view.remaining)),
            ("X-RateLimit-Reset", str(math.ceil(view.reset_after))),
        ]
    views = decision.views
    return [
        ("RateLimit-Policy", ", ".join([_policy_of(view.limit) for view in views])),
        (
            "RateLimit",
            ", ".join(
                [f"{text(v.limit.name)};r={v.remaining};t={math.ceil(v.next_after)}" for v in views]
            ),
        ),
    ]


def retry_after(decision: Decision) -> int | None:
    """Return the value of `Retry-After` for a denial; None: the same request will never be admitted."""
    wait = decision.retry_after
    if wait is None:
        return None
    later = [view.next_after for view in decision.views if not view.allowed]
    return max(1, math.ceil(max([wait, *later])))


@lru_cache(1024)
def text(name: str) -> str:
    """Return an RFC 9651 String."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _policy_of(limit: Limit) -> str:
    seats = isinstance(limit.algorithm, Concurrency)
    return _policy(limit.name, limit.quota, limit.window_us, seats=seats)


@lru_cache(1024)
def _policy(name: str, quota: int, window_us: int, *, seats: bool) -> str:
    seconds = -(-window_us // SECOND_US)
    unit = ';qu="concurrent-requests"' if seats else ""
    return f"{text(name)};q={quota}{unit};w={seconds}"
