"""Permits that this process has taken in advance and may spend without asking.

They were charged when they were taken, and count for a window from when they may last be spent, so that nothing is
ever admitted in excess; what is not spent in time is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from backendkit.core.errors import StoreError
from backendkit.core.fork import remake_after_fork
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.ratelimit.algorithms import FixedWindow
from backendkit.ratelimit.decide import FIELDS, TAKE
from backendkit.ratelimit.decision import Decision
from backendkit.ratelimit.desk import Check, Desk
from backendkit.ratelimit.flows import LimiterIO, ask, hit

MOST_KEPT = 10_000
"""Subjects with permits; beyond that the oldest lose theirs."""


class Leases:
    """The permits of one limiter in this process, by key."""

    __slots__ = ("__weakref__", "_kept", "_lock")

    def __init__(self) -> None:
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Leave the parent's permits to the parent."""
        self._lock = Lock()
        self._kept: dict[tuple[bytes, ...], tuple[int, int, Sequence[int]]] = {}

    def spend(self, check: Check, now_us: int) -> Decision | None:
        """Take a check's units out of what is there, or return None."""
        with self._lock:
            left, due_us, numbers = self._kept.get(check.keys, (0, 0, []))
            if left < check.least or now_us >= due_us:
                return None
            self._kept[check.keys] = (left - check.least, due_us, numbers)
        return Decision(
            allowed=True,
            limits=check.plan.limits,
            numbers=numbers,
            granted=check.least,
            keys=check.keys,
            source="lease",
        )

    def put(self, check: Check, granted: int, due_us: int, numbers: Sequence[int]) -> None:
        """Keep permits; what is left of older ones is lost."""
        with self._lock:
            self._kept.pop(check.keys, None)
            if len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[check.keys] = (granted, due_us, numbers)

    def forget(self, keys: tuple[bytes, ...]) -> None:
        """Lose the permits of a subject."""
        with self._lock:
            self._kept.pop(keys, None)


async def hit_leased(
    desk: Desk, io: LimiterIO, leases: Leases, permits: int, check: Check
) -> Decision:
    """Spend a permit, and take more where there is none: one caller for all who wait meanwhile."""
    if not check.least:  # it only asks
        return await hit(desk, io, check)

    async def more() -> Outcome[Decision]:
        return await _take(desk, io, leases, permits, check)

    while True:
        decision = leases.spend(check, desk.mono_us())
        if decision is not None:
            return decision
        taken = await io.share((check.keys, check.least), more)
        if isinstance(taken, Error) and isinstance(taken.error, StoreError):
            # Each caller by itself: what is counted locally must not be shared.
            return desk.failed(check, taken.error)
        decision = taken.unwrap()
        if not decision.allowed:
            return decision


async def _take(
    desk: Desk, io: LimiterIO, leases: Leases, permits: int, check: Check
) -> Outcome[Decision]:
    """Take permits, as many as there are, and keep them."""
    wide = Check(check.plan, check.tags, (check.least, max(permits, check.least), TAKE, 0))
    sent_us = desk.mono_us()
    try:
        decision = await ask(desk, io, wide)
    except StoreError as error:
        return Error(error)
    if decision.allowed:
        due_us = sent_us + _span_us(desk, decision)
        leases.put(check, decision.granted, due_us, decision.numbers)
    return Value(decision)


def _span_us(desk: Desk, decision: Decision) -> int:
    """Return how long permits may be spent: the lease's time, and no longer than a fixed window runs."""
    span_us = desk.lease.ttl_us if desk.lease else 0
    for place, view in enumerate(decision.views):
        if isinstance(view.limit.algorithm, FixedWindow):
            span_us = min(span_us, decision.numbers[4 + FIELDS * place])
    return span_us
