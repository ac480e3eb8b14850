"""Which requests are limited, by whom they are counted, and what becomes of a denial: framework-free.

A `LimitRule` says it; an adapter makes a `Visit` of its request and runs `admit` before the handler and `settle`
after it. Both are written once: callers that block step them, see `core.flow`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.errors import AppError, InvalidArgument
from backendkit.errors import Forbidden
from backendkit.http.client import ClientAddress, Networks, parse
from backendkit.http.limit_headers import Headers, HeaderStyle, headers_of, retry_after
from backendkit.ratelimit import (
    Concurrency,
    Decision,
    LimitDenied,
    LimiterClosed,
    LimitReached,
    RateLimiter,
    Subjects,
)
from backendkit.ratelimit.reservation import AsyncReservation, Reservation

logger = logging.getLogger("backendkit.ratelimit")

LOOKS = 1000
"""Requests that `by_address` without a trusted proxy searches for forwarded headers: then there is none in front."""

COUNTED = "backendkit.limited"
"""Where scope and environ hold the limiters that have counted the request, each once."""


class Visit(Protocol):
    """A request, or an attempt to connect, as key functions and predicates see it."""

    @property
    def method(self) -> str:
        """`GET`, ...; `WEBSOCKET` for a socket."""
        ...

    @property
    def path(self) -> str:
        """The path, without the query."""
        ...

    @property
    def template(self) -> str:
        """The route's path template, like `/users/{id}`, where the framework knows it by now, else the path."""
        ...

    @property
    def peer(self) -> str | None:
        """The address at the other end of the connection."""
        ...

    @property
    def native(self) -> Any:
        """The framework's own request: an ASGI scope, a WSGI environ."""
        ...

    @property
    def counted(self) -> set[int]:
        """Which limiters have counted it."""
        ...

    def lines(self, name: str) -> Sequence[str]:
        """Return the values of all headers of a name (lower case), in order."""
        ...


KeyFunction: TypeAlias = Callable[[Visit], "Subjects | Awaitable[Subjects | None] | None"]
Predicate: TypeAlias = Callable[[Visit], "bool | Awaitable[bool]"]
Tier: TypeAlias = Callable[[Visit], "RateLimiter | Awaitable[RateLimiter | None] | None"]


class by_address:  # noqa: N801 - used like a function: key=by_address(...)
    """Counts by the client's address; arguments as for `ClientAddress`, or one that exists."""

    __slots__ = ("_looks", "address")

    def __init__(self, trusted: ClientAddress | Iterable[str] = (), **options: Any) -> None:
        if isinstance(trusted, ClientAddress):
            self.address = trusted
        else:
            self.address = ClientAddress(trusted, **options)
        self._looks = 0 if self.address.trusts else LOOKS

    def __call__(self, visit: Visit) -> str:
        """Return the client's key."""
        address = self.address
        lines = visit.lines(address.header) if address.trusts else ()
        if self._looks:
            self._look(visit)
        return address.key(visit.peer, lines)

    def _look(self, visit: Visit) -> None:
        """Say once if there seems to be a proxy that nobody has told us of."""
        self._looks -= 1
        for name in ("x-forwarded-for", "forwarded"):
            if visit.lines(name):
                self._looks = 0
                logger.warning(
                    "a request carries %s, and no proxy is trusted: behind a proxy all clients count as one. To fix it: "
                    "by_address(trusted=[...]) or by_address(hops=...); where there is no proxy, all is well",
                    name,
                )
                return


def by_header(name: str) -> KeyFunction:
    """Count by a header, like an API key or a tenant; requests without it are not limited by it."""
    lower = name.lower()

    def key(visit: Visit) -> Subjects | None:
        lines = visit.lines(lower)
        return lines[0] if lines and lines[0] else None

    return key


def by_path(visit: Visit) -> Subjects:
    """Count by method and path template, over all clients."""
    return (visit.method, visit.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule:
    """What is limited, and how.

    Attributes:
        limiter: a limiter, or a function of the request that returns one (a tier; give tiers the same `name`, so that
            they share history) or None, which exempts. One of `Concurrency` limits holds a seat until the response is
            over, its body and a socket's messages with it.
        key: whom a request counts for; None from it exempts.
        cost: units.
        methods: which methods; None: all.
        exempt: a predicate: whoever it holds for is not limited.
        allow: networks that are not limited, as CIDR text.
        deny: networks that are refused, with 403; or a predicate.
        address: how `allow` and `deny` find the client's address.
        shadow: decide and report, never deny.
        headers: `"ietf"`, `"legacy"` or `"off"`.
        failures_only: count only requests that are answered with 400 or more: the units are reserved, and given back
            on success.
        max_wait: with `failures_only` and with `Concurrency`: seconds to wait for a place where all are undecided.
    """

    limiter: RateLimiter | Tier
    key: KeyFunction = field(default_factory=by_address)
    cost: int = 1
    methods: frozenset[str] | None = None
    exempt: Predicate | None = None
    allow: Networks | Sequence[str] = ()
    deny: Networks | Sequence[str] | Predicate = ()
    address: ClientAddress = field(default_factory=ClientAddress)
    shadow: bool = False
    headers: HeaderStyle = "ietf"
    failures_only: bool = False
    max_wait: Duration = 0

    def __post_init__(self) -> None:
        checks.whole("cost", self.cost)
        if self.headers not in ("ietf", "legacy", "off"):
            raise InvalidArgument("headers", "must be 'ietf', 'legacy' or 'off'", self.headers)
        checks.duration_us("max_wait", self.max_wait, least_us=0)
        if isinstance(self.limiter, RateLimiter):
            _check_seats(self.limiter, failures_only=self.failures_only)
        _set(self, "methods", self.methods and frozenset(m.upper() for m in self.methods))
        if not isinstance(self.allow, Networks):
            _set(self, "allow", Networks(self.allow, argument="allow"))
        if not isinstance(self.deny, Networks) and not callable(self.deny):
            _set(self, "deny", Networks(self.deny, argument="deny"))


def rule_of(limiter: RateLimiter | Tier | LimitRule, options: Mapping[str, Any]) -> LimitRule:
    """Return a rule given whole, or as a limiter and the other fields.

    Raises:
        InvalidArgument: both were given.
    """
    if not isinstance(limiter, LimitRule):
        return LimitRule(limiter=limiter, **options)
    if options:
        raise InvalidArgument("rule", "must not be given beside a LimitRule", sorted(options))
    return limiter


class Ruling(NamedTuple):
    """What was ruled.

    Attributes:
        error: what to answer instead of calling the handler, or None; its `headers` are complete.
        headers: what to add to the handler's response.
        decision: the limiter's, or None where none was asked.
        seat: what waits for the response's status, or None.
        held: whether that is held for as long as the request lasts, and given back whatever its status.
    """

    error: AppError | None = None
    headers: Headers = []  # noqa: RUF012 - never changed
    decision: Decision | None = None
    seat: Reservation | AsyncReservation | None = None
    held: bool = False


FREE = Ruling()
"""Not limited."""


class World(Protocol):
    """What ruling asks of its colour."""

    async def ask(self, answer: Any) -> Any:
        """Return what a user's function returned, awaited where that is possible."""
        ...

    async def hit(self, limiter: RateLimiter, key: Subjects, cost: int) -> Decision:
        """Count."""
        ...

    async def reserve(
        self, limiter: RateLimiter, key: Subjects, cost: int, max_wait: Duration
    ) -> tuple[Decision, Reservation | AsyncReservation | None]:
        """Count for now."""
        ...

    async def give_back(self, seat: Any) -> None:
        """Give back what was counted for now."""
        ...


async def admit(rule: LimitRule, visit: Visit, world: World) -> Ruling:
    """Rule on a request before its handler runs; a limiter counts a request once, however often it is asked."""
    if rule.methods is not None and visit.method not in rule.methods:
        return FREE
    if rule.allow or rule.deny or rule.exempt is not None:
        refused = await _listed(rule, visit, world)
        if refused is not None:
            return refused
    limiter: Any = rule.limiter
    if not isinstance(limiter, RateLimiter):
        limiter = await world.ask(limiter(visit))
    key = await world.ask(rule.key(visit)) if limiter is not None else None
    if limiter is None or key is None or id(limiter) in visit.counted:
        return FREE
    visit.counted.add(id(limiter))
    held = limiter.hands_out_seats
    if held:
        _check_seats(
            limiter, failures_only=rule.failures_only
        )  # one of a tier was not looked at before
    if not rule.failures_only and not held:
        return _ruling(rule, limiter, await world.hit(limiter, key, rule.cost))
    decision, seat = await world.reserve(limiter, key, rule.cost, rule.max_wait)
    return _ruling(rule, limiter, decision)._replace(seat=seat, held=held)


async def settle(ruling: Ruling, status: int, world: World) -> None:
    """Decide what was reserved, now that the response's status is known; 499 where the client went away."""
    seat = ruling.seat
    if seat is None:
        return
    if status >= 400 and not ruling.held:
        seat.commit()
    else:
        await world.give_back(seat)


async def _listed(rule: LimitRule, visit: Visit, world: World) -> Ruling | None:
    """Return what exempt, allow and deny say, or None where they say nothing."""
    if rule.exempt is not None and await world.ask(rule.exempt(visit)):
        return FREE
    client = None
    if rule.allow or isinstance(rule.deny, Networks):
        address = rule.address
        lines = visit.lines(address.header) if address.trusts else ()
        client = parse(address.find(visit.peer, lines))
    if cast("Networks", rule.allow).has(client):
        return FREE
    if isinstance(rule.deny, Networks):
        denied = rule.deny.has(client)
    else:
        denied = bool(await world.ask(cast("Predicate", rule.deny)(visit)))
    return Ruling(error=Forbidden("on the list of the denied")) if denied else None


def _check_seats(limiter: RateLimiter, *, failures_only: bool) -> None:
    kinds = {isinstance(limit.algorithm, Concurrency) for limit in limiter.limits}
    if True in kinds and (failures_only or False in kinds):
        rule = "must have no Concurrency limit beside others, nor with failures_only"
        fix = "a seat is given back when the response is over, a unit is not: make two limiters, in two rules."
        raise InvalidArgument("limiter", rule, limiter.name, fix)


def _ruling(rule: LimitRule, limiter: RateLimiter, decision: Decision) -> Ruling:
    headers = headers_of(decision, rule.headers)
    if decision.allowed:
        return Ruling(None, headers, decision)
    if rule.shadow:
        if limiter.hooks:
            name = decision.limit.name
            limiter.hooks.emit(
                LimitDenied(limiter.name, name, decision.source, decision.retry_after, shadow=True)
            )
        return Ruling(None, headers, decision)
    error: AppError = (
        LimiterClosed(decision) if decision.source == "closed" else LimitReached(decision)
    )
    error.retry_after = retry_after(decision)
    error.headers.update(headers)
    return Ruling(error, headers, decision)


def _set(rule: LimitRule, name: str, value: object) -> None:
    object.__setattr__(rule, name, value)


class BlockingWorld:
    """For callers that block."""

    __slots__ = ()

    async def ask(self, answer: Any) -> Any:
        """Return the answer.

        Raises:
            InvalidArgument: the function was an `async def`.
        """
        if isawaitable(answer):
            cast("Any", answer).close()
            raise InvalidArgument("key", "must be no async function where requests block", answer)
        return answer

    async def hit(self, limiter: RateLimiter, key: Subjects, cost: int) -> Decision:
        """Count, blocking."""
        return limiter.hit(key, cost=cost)

    async def reserve(
        self, limiter: RateLimiter, key: Subjects, cost: int, max_wait: Duration
    ) -> tuple[Decision, Reservation | None]:
        """Count for now, blocking."""
        seat = limiter.reserve(key, cost=cost, max_wait=max_wait)
        try:
            seat.__enter__()
        except (LimitReached, LimiterClosed) as denied:
            return denied.decision, None
        return cast("Decision", seat.decision), seat

    async def give_back(self, seat: Any) -> None:
        """Give back, blocking."""
        seat.cancel()


class AwaitingWorld:
    """For callers that await."""

    __slots__ = ()

    async def ask(self, answer: Any) -> Any:
        """Return the answer, awaited where it can be."""
        return await answer if isawaitable(answer) else answer

    async def hit(self, limiter: RateLimiter, key: Subjects, cost: int) -> Decision:
        """Count."""
        return await limiter.aio.hit(key, cost=cost)

    async def reserve(
        self, limiter: RateLimiter, key: Subjects, cost: int, max_wait: Duration
    ) -> tuple[Decision, AsyncReservation | None]:
        """Count for now."""
        seat = limiter.aio.reserve(key, cost=cost, max_wait=max_wait)
        try:
            await seat.__aenter__()
        except (LimitReached, LimiterClosed) as denied:
            return denied.decision, None
        return cast("Decision", seat.decision), seat

    async def give_back(self, seat: Any) -> None:
        """Give back."""
        await seat.cancel()
