"""Turns: of all who want a page that is not stored, one asks the application, and the others wait for what it stores.

One per process, and with Redis one per fleet: a turn is a load of the cache's own. What a page turned out to be is
remembered for a moment. A page that may not be stored serves nobody else, so that for a while nobody waits for it again
("hit for miss", as Varnish has it).
"""

from __future__ import annotations

import asyncio
from typing import Literal, TypeAlias, cast, get_args

from backendkit.http.cache_rule import ERRORS, CacheRule, Stored
from backendkit.http.responses import Asked, Response, wishes

Verdict: TypeAlias = Literal["kept", "pass", "failed", "again"]
"""What became of a turn: there is a stored response; there may be none; it is an error's; nobody took the turn."""

Offer: TypeAlias = Verdict | Literal["yours"]
"""The same, to whoever waits; `yours`: it is its turn."""

ROUNDS = 3
"""Turns that one request waits for: for the page, for its variant, and for one that nobody took."""


def waits(rule: CacheRule, asked: Asked, stored: Stored) -> bool:
    """Tell whether a request may wait for what another one brings."""
    if stored.place is None or asked.method != "GET":
        return False
    wish = wishes(asked)
    return not rule.obey_requests or not (
        wish.no_cache or wish.max_age is not None or wish.min_fresh is not None
    )


def verdict_of(rule: CacheRule, asked: Asked, response: Response) -> Verdict:
    """Say what a response, whole or begun, means for those who wait."""
    if response.status in ERRORS:
        return "failed"
    return "kept" if rule.life(asked, response) is not None else "pass"


def turn_key(stored: Stored) -> str:
    """Return the key of the turns for what is not stored there."""
    return f"{stored.spot}:turn"


def understood(value: object) -> Verdict:
    """Return a verdict that was read from a store."""
    return cast("Verdict", value) if value in get_args(Verdict) else "pass"


class Turn:
    """One request's turn, offered where the store runs loads and taken where the request is served. Of one event loop."""

    __slots__ = ("_gone", "_verdict", "offer")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.offer: asyncio.Future[Offer] = loop.create_future()
        self._verdict: asyncio.Future[Verdict] = loop.create_future()
        self._gone = False

    async def load(self) -> Verdict:
        """Offer the turn to the request, and wait for what becomes of it."""
        if self._gone or self.offer.done():
            return "again"
        self.offer.set_result("yours")
        return await self._verdict

    def decide(self, verdict: Verdict) -> None:
        """Tell those who wait; only the first verdict counts."""
        self._gone = True
        if not self._verdict.done():
            self._verdict.set_result(verdict)

    def over(self, asking: asyncio.Task[Verdict]) -> None:
        """Take note of what became of another request's turn."""
        if not self.offer.done():
            failed = asking.cancelled() or asking.exception() is not None
            self.offer.set_result("pass" if failed else asking.result())
        elif not asking.cancelled():
            asking.exception()  # nobody else asks for it
