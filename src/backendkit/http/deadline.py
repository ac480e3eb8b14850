"""How long a request may take: what its client will wait for, up to a limit of ours, and passed on to whom we ask.

The moment is part of the request's context: stores, retries, and breakers below look at `core.context.deadline_us`, from any
thread or task. An asynchronous application is cancelled when it passes, and the client told 504. A synchronous
one cannot be interrupted: there it counts for whatever looks at it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable

from backendkit.core import context
from backendkit.core.checks import Duration, duration_us
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import DeadlineExceeded, InvalidArgument

HEADER = "X-Request-Timeout"
"""The header's usual name; its value is seconds, as `2.5`."""

_SECONDS = re.compile(r"(\d{1,9})(?:\.(\d{1,6})\d{0,12})?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")


class Deadlines:
    """How long one application's requests may take.

    Args:
        header: in which clients say how many seconds they wait; None: they are not asked. What is no positive number of
            seconds is ignored.
        default: for requests whose client says nothing; None: no limit.
        most: the longest that a client may ask for.

    Attributes:
        key: the header's name as ASGI has it.
        environ_key: its name as WSGI has it.
    """

    __slots__ = ("_default_us", "_most_us", "environ_key", "header", "key")

    def __init__(
        self,
        header: str | None = HEADER,
        *,
        default: Duration | None = None,
        most: Duration = 60.0,
    ) -> None:
        if header is not None and not _TOKEN.fullmatch(header):
            raise InvalidArgument("header", "must be 1..64 letters, digits or hyphens", header)
        self.header = header
        self.key = (header or "").lower().encode()
        self.environ_key = "HTTP_" + (header or "").upper().replace("-", "_")
        self._most_us = duration_us("most", most)
        self._default_us = None if default is None else duration_us("default", default)

    def budget_us(self, offered: str | None) -> int | None:
        """Return the microseconds that a request has, or None; `offered` is what its header says."""
        asked = None if offered is None else seconds(offered)
        return self._default_us if asked is None else min(asked, self._most_us)


def seconds(text: str) -> int | None:
    """Return the microseconds that a header means; None: it is no positive number of seconds."""
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        return None
    whole, part = found.groups()
    return int(whole) * SECOND_US + int((part or "").ljust(6, "0")) or None


def remaining_us(clock: Clock | None = None) -> int | None:
    """Return the microseconds that the work at hand still has; None: no limit.

    Raises:
        DeadlineExceeded: none are left.
    """
    moment = context.deadline_us()
    if moment is None:
        return None
    left = moment - (clock or SystemClock()).mono_us()
    if left <= 0:
        raise DeadlineExceeded
    return left


def outgoing(header: str = HEADER, *, clock: Clock | None = None) -> dict[str, str]:
    """Return the headers that tell the next service how long its answer is worth waiting for; none without a deadline.

    Raises:
        DeadlineExceeded: asking would be in vain.
    """
    left = remaining_us(clock)
    return {} if left is None else {header: f"{left / SECOND_US:.6f}"}


async def in_time(budget_us: int, work: Awaitable[None]) -> None:
    """Await `work`, and cancel it when its time is over; a cancellation from outside passes as it is.

    Raises:
        DeadlineExceeded: it was not done in time.
    """
    limit = asyncio.timeout(budget_us / SECOND_US)
    try:
        async with limit:
            await work
    except TimeoutError as error:
        if limit.expired():
            raise DeadlineExceeded from error
        raise
