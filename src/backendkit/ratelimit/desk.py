"""Where requests are prepared and replies are read: everything of a limiter that needs no waiting and no colour.

Both faces hold one desk. A hit is three steps: `ask` turns a request into a `Check`, or answers at once; the face
has the store run it; `settle` or `failed` turn what came back into a `Decision`.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import InvalidArgument, StoreClosed, StoreError
from backendkit.core.events import Hooks
from backendkit.core.operation import Operation, Reply
from backendkit.ratelimit.algorithms import Concurrency
from backendkit.ratelimit.decide import BLOCKED, FIELDS, LOOK, OWED, TAKE
from backendkit.ratelimit.decision import Decision, Receipt, Source
from backendkit.ratelimit.denials import Denial, Denials
from backendkit.ratelimit.events import LimitDenied, StoreFound, StoreLost, SubjectBlocked
from backendkit.ratelimit.fallback import Fallback
from backendkit.ratelimit.plan import Plan, Subjects, cost_of, tag_of
from backendkit.ratelimit.policy import LARGEST_AMOUNT, Lease, Limit

MOST_KNOWN = 4096
"""Subjects whose operation is kept ready; the one that came first makes room."""


class Forgetful(Protocol):
    """What remembers something of subjects."""

    def forget(self, keys: tuple[bytes, ...]) -> None:
        """Forget what concerns these keys."""
        ...


class Check:
    """A request on its way to the store.

    Attributes:
        plan: the limits.
        tags: one escaped subject per limit.
        keys: the keys.
        least, most, mode, token: see `decide`.
        remembers: whether a denial may be remembered.
        operation: what the store runs.
    """

    __slots__ = ("keys", "least", "mode", "most", "operation", "plan", "remembers", "tags", "token")

    def __init__(
        self, plan: Plan, tags: tuple[bytes, ...], request: tuple[int, int, int, int]
    ) -> None:
        self.plan = plan
        self.tags = tags
        self.keys = plan.keys(tags)
        self.least, self.most, self.mode, self.token = request
        self.remembers = False
        self.operation: Operation[Reply] = plan.take(
            self.keys, self.least, self.most, self.mode, token=self.token
        )

    @property
    def request(self) -> tuple[int, int, int, int]:
        """Least, most, mode, token."""
        return self.least, self.most, self.mode, self.token


class Desk:
    """See the module's text; the arguments are those of `RateLimiter`.

    Attributes:
        seats: whether a limit hands out seats, which their owners give back.
    """

    __slots__ = (
        "_fallback",
        "_known",
        "_lease_us",
        "_lost",
        "_namespace",
        "_plans",
        "bys",
        "clock",
        "denials",
        "deny_us",
        "enabled",
        "hold_us",
        "hooks",
        "lease",
        "limits",
        "mono_us",
        "name",
        "seats",
    )

    def __init__(  # noqa: PLR0913 - parts of one limiter, by keyword
        self,
        limits: tuple[Limit, ...],
        *,
        clock: Clock,
        name: str,
        namespace: str,
        deny_us: int,
        denials: Denials,
        lease: Lease | None,
        fallback: Fallback,
        hooks: Hooks,
        hold_us: int,
    ) -> None:
        self.limits = limits
        self.clock = clock
        self.mono_us = clock.mono_us
        self.name = name
        self.deny_us = deny_us
        self.denials = denials
        self.lease = lease
        self.hooks = hooks
        self.hold_us = hold_us
        self.enabled = True
        self.seats = any(isinstance(limit.algorithm, Concurrency) for limit in limits)
        self.bys = tuple(dict.fromkeys(limit.by for limit in limits))
        self._namespace = namespace
        self._lease_us = lease.ttl_us if lease else 0
        self._fallback = fallback
        self._plans: dict[tuple[Limit, ...], Plan] = {}
        self._known: OrderedDict[str, Check] = OrderedDict()
        self._lost = False

    def hit(self, subjects: Subjects, cost: int) -> Check | Decision:
        """Prepare a hit, or answer it: the limiter is off, or a denial is remembered."""
        if not self.enabled:
            return self._disabled(cost)
        check = self._known.get(subjects) if cost == 1 and type(subjects) is str else None
        if check is None:
            check = self._hit(subjects, cost)
        by_key = self.denials.by_key
        if by_key and check.remembers:
            now_us = self.mono_us()
            denial = self.denials.find(check.keys, cost, now_us)
            if denial is not None:
                return self._remembered(check, denial, now_us)
        return check

    def _hit(self, subjects: Subjects, cost: int) -> Check:
        cost = cost_of(cost)
        check = self.check(subjects, cost, cost, TAKE)
        check.remembers = bool(self.deny_us) and not check.plan.seats and self.lease is None
        if cost == 1 and isinstance(subjects, str) and not check.plan.seats:
            self._known[subjects] = check
            if (
                len(self._known) > MOST_KNOWN
            ):  # one by one: clearing them all would stall a hit for milliseconds
                self._known.popitem(last=False)
        return check

    def look(self, subjects: Subjects, cost: int) -> Check:
        """Prepare a request that counts nothing."""
        cost = cost_of(cost)
        return self.check(subjects, cost, cost, LOOK)

    def checked(self, subjects: Subjects, cost: int) -> Check | Decision:
        """Prepare a request that is neither remembered nor answered from memory."""
        if not self.enabled:
            return self._disabled(cost)
        cost = cost_of(cost)
        return self.check(subjects, cost, cost, TAKE)

    def partial(self, subjects: Subjects, most: int) -> Check | Decision:
        """Prepare a request for as much as there is, one unit at least."""
        if not self.enabled:
            return self._disabled(most)
        most = checks.whole("most", most, least=1, most=LARGEST_AMOUNT)
        return self.check(subjects, 1, most, TAKE)

    def check(self, subjects: Subjects, least: int, most: int, mode: int) -> Check:
        """Prepare a request."""
        plan, tags = self.find(subjects)
        token = new_token() if plan.seats and mode else 0
        return Check(plan, tags, (least, most, mode, token))

    def find(self, subjects: Subjects) -> tuple[Plan, tuple[bytes, ...]]:
        """Return the limits that apply to subjects, and one tag for each.

        Raises:
            InvalidArgument: a subject is empty, or none of the limits' own, or there is none for a limit.
        """
        if isinstance(subjects, Mapping):
            limits = tuple(limit for limit in self.limits if limit.by in subjects)
            strangers = set(subjects) - set(self.bys)
            if strangers or not limits:
                rule = f"must name subjects that limits count by: {', '.join(map(repr, self.bys))}"
                raise InvalidArgument("key", rule, sorted(map(str, subjects)))
            by = {name: tag_of(subject) for name, subject in subjects.items()}
            return self.plan(limits), tuple(by[limit.by or ""] for limit in limits)
        if len(self.bys) > 1:
            rule = f"must be a mapping, for the limits count by {', '.join(map(repr, self.bys))}"
            raise InvalidArgument("key", rule, type(subjects))
        return self.plan(self.limits), (tag_of(subjects),) * len(self.limits)

    def settle(self, check: Check, reply: Any, sent_us: int) -> Decision:
        """Read a reply to a check that was sent at `sent_us`."""
        if self._lost:
            self._found()
        if reply[0]:
            return Decision(
                allowed=True,
                limits=check.plan.limits,
                numbers=reply,
                granted=reply[1] if check.mode else 0,
                keys=check.keys,
            )
        decision = Decision(
            allowed=False, limits=check.plan.limits, numbers=reply, source=source_of(reply)
        )
        if check.remembers and decision.source != "tentative":
            self._remember(check, reply, sent_us)
        if check.mode:
            self.tell(decision)
        return decision

    def failed(self, check: Check, error: StoreError) -> Decision:
        """Decide by failure policy.

        Raises:
            StoreClosed: no server has failed: whoever holds the limiter closed its store, or the kit that opened it.
                An open policy would admit everybody from then on, and say nothing.
        """
        if isinstance(error, StoreClosed):
            raise error
        if not self._lost:
            self._lost = True
            if self.hooks:
                self.hooks.emit(StoreLost(self.name, error.reason))
        decision = self._fallback.decide(check.plan.limits, check.tags, check.request, error)
        if check.mode and not decision.allowed:
            self.tell(decision)
        return decision

    def refund(self, decision: Decision) -> Operation[Reply] | None:
        """Return the operation that gives a decision's units back, once; None where there is nothing to give."""
        receipt = decision.spend_receipt()
        return None if receipt is None else self.give(receipt)

    def refund_local(self, decision: Decision) -> bool:
        """Give back what this process counted by itself while the store failed; return whether any was there."""
        receipt = decision.spend_receipt()
        return receipt is not None and self._fallback.give(receipt)

    def give(self, receipt: Receipt, token: int = 0) -> Operation[Reply]:
        """Return the operation that gives a receipt's units back."""
        self.denials.forget(receipt.keys)
        return self.plan(receipt.limits).give(receipt.keys, receipt.marks, receipt.units, token)

    def forget(self, subjects: Subjects, leases: Forgetful | None) -> Operation[Reply]:
        """Return the operation that forgets a subject, after this process has."""
        plan, tags = self.find(subjects)
        keys = plan.keys(tags)
        self.denials.forget(keys)
        if leases is not None:
            leases.forget(keys)
        return plan.forget(keys)

    def tell(self, decision: Decision) -> None:
        """Tell hooks of a denial."""
        if self.hooks:
            view = decision.shown
            if decision.source == "penalty":
                self.hooks.emit(SubjectBlocked(self.name, view.limit.name, view.retry_after or 0.0))
            self.hooks.emit(
                LimitDenied(self.name, view.limit.name, decision.source, decision.retry_after)
            )

    def plan(self, limits: tuple[Limit, ...]) -> Plan:
        """Return what asks these limits together."""
        plan = self._plans.get(limits)
        if plan is None:
            plan = self._plans[limits] = Plan(
                limits, name=self.name, namespace=self._namespace, lease_us=self._lease_us
            )
        return plan

    def _remember(self, check: Check, reply: list[int], sent_us: int) -> None:
        for place, limit in enumerate(check.plan.limits):
            retry, mark = reply[3 + FIELDS * place], reply[7 + FIELDS * place]
            if retry == 0 or (limit.penalty is not None and mark != BLOCKED):
                continue
            held = self.deny_us if retry < 0 else min(retry, self.deny_us)
            self.denials.add(
                check.keys[place],
                Denial(
                    check.least, sent_us + held, sent_us, check.keys, reply, place, mark == BLOCKED
                ),
            )

    def _remembered(self, check: Check, denial: Denial, now_us: int) -> Decision:
        limits, numbers = check.plan.limits, denial.numbers
        if denial.keys != check.keys:  # remembered from other company: only this limit is known
            limit = limits[check.keys.index(denial.keys[denial.place])]
            at = 2 + FIELDS * denial.place
            limits, numbers = (limit,), [0, 0, *numbers[at : at + FIELDS]]
        if check.least > denial.cost:
            numbers = _beyond(limits, numbers, check.least)
        decision = Decision(
            allowed=False,
            limits=limits,
            numbers=numbers,
            source="remembered",
            elapsed_us=now_us - denial.sent_us,
        )
        self.tell(decision)
        return decision

    def _disabled(self, cost: int) -> Decision:
        numbers = [1, cost, *[0] * (FIELDS * len(self.limits))]
        return Decision(
            allowed=True,
            limits=self.limits,
            numbers=numbers,
            granted=cost_of(cost),
            source="disabled",
        )

    def _found(self) -> None:
        self._lost = False
        if self.hooks:
            self.hooks.emit(StoreFound(self.name))


def source_of(reply: list[int]) -> Source:
    """Return who denied, by the marks of a reply."""
    denying = [reply[at + 5] for at in range(2, len(reply), FIELDS) if reply[at + 1]]
    if any(mark == BLOCKED for mark in denying):
        return "penalty"
    return "tentative" if all(mark == OWED for mark in denying) else "store"


def _beyond(limits: tuple[Limit, ...], numbers: list[int], cost: int) -> list[int]:
    """Return what is remembered of a smaller cost, for one that a limit may be too small for: then it never fits."""
    numbers = list(numbers)
    for place, limit in enumerate(limits):
        if cost > limit.quota:
            numbers[3 + FIELDS * place] = -1
    return numbers


def new_token() -> int:
    """Return 48 bits that nobody else has."""
    return int.from_bytes(os.urandom(6)) | 1


def retry_us(decision: Decision) -> int | None:
    """Return how long a denial advises to wait; None: for ever."""
    wait = decision.retry_after
    return None if wait is None else round(wait * SECOND_US)
