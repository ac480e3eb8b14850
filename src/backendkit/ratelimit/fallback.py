"""What decides while the store does not: each limit's failure policy.

With several limits the strictest wins: closed, then a local denial, then open.
"""

from __future__ import annotations

from collections.abc import Sequence

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import StoreError, StoreFull
from backendkit.core.store import Store
from backendkit.ratelimit.decide import FIELDS
from backendkit.ratelimit.decision import Decision, Receipt
from backendkit.ratelimit.plan import Plan
from backendkit.ratelimit.policy import Limit

LEAST_RETRY_S = 1.0
"""What a refusal advises at least, in seconds, where nobody knows when the store will be back."""


class Fallback:
    """Decides by failure policy.

    Args:
        nodes: how many processes share the limits: each admits `ceil(amount / nodes)` by itself.
        store: keeps what is counted locally.
        name: the limiter's.
    """

    __slots__ = ("_name", "_nodes", "_plans", "_store")

    def __init__(self, nodes: int, store: Store, name: str) -> None:
        self._nodes = nodes
        self._name = name
        self._store = store
        self._plans: dict[tuple[Limit, ...], Plan] = {}

    def decide(
        self,
        limits: tuple[Limit, ...],
        tags: Sequence[bytes],
        request: tuple[int, int, int, int],
        error: StoreError,
    ) -> Decision:
        """Decide a request (least, most, mode, token) on which the store has failed."""
        retry_us = int(max(error.retry_after or 0.0, LEAST_RETRY_S) * SECOND_US)
        if any(limit.on_store_failure == "closed" for limit in limits):
            return Decision(
                allowed=False, limits=limits, numbers=_closed(limits, retry_us), source="closed"
            )
        numbers = [1, request[1], *[0] * (FIELDS * len(limits))]
        places = [n for n, limit in enumerate(limits) if limit.on_store_failure == "local"]
        if not places:
            return Decision(
                allowed=True,
                limits=limits,
                numbers=numbers,
                granted=request[1] if request[2] else 0,
                source="open",
            )
        plan = self._plan(tuple(limits[n].share(self._nodes) for n in places))
        try:
            reply = self._run(plan, [tags[n] for n in places], request)
        except StoreFull:
            return Decision(
                allowed=False, limits=limits, numbers=_closed(limits, retry_us), source="closed"
            )
        if not reply[0]:
            return Decision(allowed=False, limits=plan.limits, numbers=reply, source="local")
        return Decision(
            allowed=True,
            limits=plan.limits,
            numbers=reply,
            granted=reply[1] if request[2] else 0,
            keys=plan.keys([tags[n] for n in places]),
            source="local",
        )

    def give(self, receipt: Receipt) -> bool:
        """Take back what a local decision counted; return whether any of it was still there."""
        operation = self._plan(receipt.limits).give(receipt.keys, receipt.marks, receipt.units)
        given = self._store.run(operation)
        return any(given)

    def _run(self, plan: Plan, tags: list[bytes], request: tuple[int, int, int, int]) -> list[int]:
        least, most, mode, token = request
        operation = plan.take(plan.keys(tags), least, most, mode, token=token)
        return [int(number) for number in self._store.run(operation)]

    def _plan(self, limits: tuple[Limit, ...]) -> Plan:
        plan = self._plans.get(limits)
        if plan is None:
            plan = self._plans[limits] = Plan(limits, name=self._name, namespace="local")
        return plan


def _closed(limits: tuple[Limit, ...], retry_us: int) -> list[int]:
    numbers = [0, 0]
    for limit in limits:
        waits = retry_us if limit.on_store_failure == "closed" else 0
        numbers += (limit.quota if waits else 0, waits, waits, waits, 0, 0)
    return numbers
