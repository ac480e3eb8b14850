"""How long a dependency asked to be left alone: by an error's `retry_after`, or by a response's Retry-After."""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from backendkit.core.clock import SECOND_US
from backendkit.resilience.policy import DAY_US

STATUSES = frozenset({429, 503})
"""The responses whose Retry-After means the request (RFC 9110 section 10.2.3, RFC 6585 section 4)."""


def asked_us(told: object, wall_us: int) -> int | None:
    """Return the microseconds that an error or a response asks for, at most a day; None: it does not say.

    Args:
        told: an exception with `retry_after` in seconds, or with a `response`; or a response, with `status_code` and
            `headers`, as those of httpx and requests.
        wall_us: the date, against which a date is reckoned.
    """
    try:
        return _asked_us(told, wall_us)
    except Exception:  # noqa: BLE001 - anything may be called `headers`, and a property may raise
        return None


def parse_us(text: str, wall_us: int) -> int | None:
    """Return what a Retry-After means, in microseconds and at most a day: seconds, or a date; None: neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return _bounded(int(text[:12]))
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(
                tzinfo=UTC
            )  # `-0000`, which a date of HTTP is not; take it as meant
        return _bounded(date.timestamp() - wall_us / SECOND_US)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _asked_us(told: object, wall_us: int) -> int | None:
    seconds = getattr(told, "retry_after", None)
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        return _bounded(seconds)
    response: Any = getattr(told, "response", told)
    if getattr(response, "status_code", None) not in STATUSES:
        return None
    text = response.headers.get("Retry-After")
    return parse_us(text, wall_us) if isinstance(text, str) else None


def _bounded(seconds: float) -> int | None:
    if not math.isfinite(seconds):
        return None
    return int(min(max(seconds, 0), DAY_US / SECOND_US) * SECOND_US)
