"""The limiter as users hold it: `RateLimiter` blocks, `limiter.aio` is awaited; both are views of one state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import CrossSlot, InvalidArgument, StoreError
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.flow import step
from backendkit.core.store import AsyncStore, Store
from backendkit.ratelimit import flows
from backendkit.ratelimit.algorithms import GCRA, Concurrency
from backendkit.ratelimit.decision import Decision
from backendkit.ratelimit.denials import Denials
from backendkit.ratelimit.desk import Desk
from backendkit.ratelimit.fallback import Fallback
from backendkit.ratelimit.io import AwaitingIO, BlockingIO
from backendkit.ratelimit.leases import Leases, hit_leased
from backendkit.ratelimit.plan import Subjects
from backendkit.ratelimit.policy import Lease, Limit, several
from backendkit.ratelimit.reservation import AsyncReservation, Reservation, demanded
from backendkit.ratelimit.turns import Turns
from backendkit.stores import MemoryStore, connect

Limits: TypeAlias = Limit | str | Iterable[Limit | str]

TIMEOUT_S = 0.1
"""Seconds that a store may take to answer a limiter, where the limiter makes the store."""

MOST_LOCAL = 100_000
"""Keys that are counted locally while the store fails."""


class RateLimiter:
    """Limits, counted together: a request is admitted by all of them, or consumes nothing on any.

    Args:
        store: where usage is kept: `MemoryStore()` for this process, `connect("redis://...")` for all.
        limits: a `Limit`, text like `"200/day;50/hour"`, or several of both.
        name: limiters of the same name share the history of limits of the same name; printable ASCII.
        namespace: separates applications that share a server: letters, digits and `. _ -`.
        deny_cache_max: seconds for which a denial is believed without asking again, 0..3600; 0: never.
        deny_cache_size: denials that are remembered, from 0.
        nodes: how many processes share the limits, for `on_store_failure="local"`.
        lease: permits taken in advance, or None.
        timeout: seconds that the store may take, as it was told; tentative units live twice as long.
        hooks: who is told of denials and of failures.
        clock: for waiting and for remembered denials; None: the store's.

    Raises:
        InvalidArgument: naming argument, rule and value.
    """

    __slots__ = ("_aio", "_desk", "_flights", "_io", "_leases", "_store", "_turns")

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        store: Store,
        limits: Limits,
        *,
        name: str = "default",
        namespace: str = "bk",
        deny_cache_max: Duration = 1.0,
        deny_cache_size: int = 10_000,
        nodes: int = 1,
        lease: Lease | None = None,
        timeout: Duration = TIMEOUT_S,
        hooks: Hooks | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or store.clock
        nodes = checks.whole("nodes", nodes, least=1, most=1_000_000)
        size = checks.whole("deny_cache_size", deny_cache_size)
        deny_us = checks.duration_us(
            "deny_cache_max", deny_cache_max, least_us=0, most_us=3600 * SECOND_US
        )
        self._store = store
        self._desk = Desk(
            _leasable(several(limits), lease),
            clock=clock,
            name=checks.name("name", name),
            namespace=checks.name("namespace", namespace),
            deny_us=deny_us if size else 0,
            denials=Denials(size),
            lease=lease,
            fallback=Fallback(nodes, MemoryStore(max_entries=MOST_LOCAL, clock=clock), name),
            hooks=hooks or Hooks(),
            hold_us=2
            * checks.duration_us("timeout", timeout, least_us=1_000, most_us=60 * SECOND_US),
        )
        self._leases = Leases() if lease else None
        self._turns = Turns()
        self._flights = Flights()
        self._io = BlockingIO(store, clock, self._flights)
        self._aio = AsyncRateLimiter.of(self)

    @classmethod
    def from_url(cls, url: str, limits: Limits, *, timeout: float = TIMEOUT_S) -> RateLimiter:
        """Return a limiter with a store of its own: `memory://`, `redis://...`; see `connect`."""
        if url.startswith("memory:"):
            return cls(connect(url), limits, timeout=timeout)
        return cls(connect(url, timeout=timeout), limits, timeout=timeout)

    @property
    def aio(self) -> AsyncRateLimiter:
        """The asynchronous face of the same limiter."""
        return self._aio

    @property
    def name(self) -> str:
        """The limiter's name."""
        return self._desk.name

    @property
    def hands_out_seats(self) -> bool:
        """Whether a limit counts by `Concurrency`, whose units are to be given back when the work is done."""
        return self._desk.seats

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order in which they were given."""
        return self._desk.limits

    @property
    def hooks(self) -> Hooks:
        """Who is told of denials and of failures."""
        return self._desk.hooks

    @property
    def store(self) -> Store:
        """Where usage is kept."""
        return self._store

    @property
    def histories(self) -> frozenset[tuple[bytes, bytes]]:
        """What tells its counts from those of other limiters on the same store, one for each limit."""
        return self._desk.plan(self._desk.limits).histories

    @property
    def shared(self) -> tuple[Desk, Turns, Leases | None, Flights]:
        """What both faces share; not for users."""
        return self._desk, self._turns, self._leases, self._flights

    @property
    def enabled(self) -> bool:
        """Whether it limits at all; applications' tests may switch it off and on again, at any time."""
        return self._desk.enabled

    @enabled.setter
    def enabled(self, wanted: bool) -> None:
        self._desk.enabled = wanted

    def hit(self, key: Subjects, *, cost: int = 1) -> Decision:
        """Count a request if all limits have room for it.

        Args:
            key: whom it counts for: a subject, or a mapping where limits say `by`.
            cost: units, from 0; 0 asks, and is denied only where more is used than the limit, which was lowered.

        Returns:
            The decision; the store's failure is decided by `on_store_failure` and raises nothing.

        Raises:
            InvalidArgument: a key or a cost that cannot be counted.
            StoreClosed: the store was closed, by itself or with its kit, which is no failure but a mistake.

        Cost: one round trip; none where a denial is remembered.
        """
        desk = self._desk
        check = desk.hit(key, cost)
        if isinstance(check, Decision):
            return check
        if self._leases is not None and desk.lease is not None:
            return step(hit_leased(desk, self._io, self._leases, desk.lease.permits, check))
        sent_us = desk.mono_us()
        try:
            reply = self._store.run(check.operation)
        except CrossSlot:
            return step(flows.hit(desk, self._io, check))
        except StoreError as error:
            return desk.failed(check, error)
        return desk.settle(check, reply, sent_us)

    def peek(self, key: Subjects, *, cost: int = 1) -> Decision:
        """Return what `hit` would say, and count nothing. Writes nothing, and is never remembered."""
        return step(flows.hit(self._desk, self._io, self._desk.look(key, cost)))

    def hit_up_to(self, key: Subjects, most: int) -> Decision:
        """Count as many of `most` units as all limits have room for, at least one; `granted` says how many."""
        check = self._desk.partial(key, most)
        if isinstance(check, Decision):
            return check
        return step(flows.hit(self._desk, self._io, check))

    def cancel(self, decision: Decision) -> bool:
        """Take back exactly the units that a decision counted; return whether any were still there.

        What has expired, or was given back before, is not. A reply that is lost is not asked for again: the units
        may then stay until they expire.
        """
        return step(flows.cancel(self._desk, self._io, decision))

    def reset(self, key: Subjects) -> bool:
        """Forget all that was counted for a subject, its penalties with it; return whether the store did."""
        return step(flows.reset(self._io, self._desk.forget(key, self._leases)))

    def acquire(self, key: Subjects, *, cost: int = 1, max_wait: Duration) -> Decision:
        """Count a request as soon as there is room, first come first served within this process.

        Args:
            key: as for `hit`.
            cost: units, from 0.
            max_wait: seconds to wait at most.

        Raises:
            RateLimited: there is no room in time; raised at once where that is known. `retry_after` says when.
            ServiceUnavailable: the store failed, and a limit is `"closed"`.
        """
        wait_us = wait_of(max_wait)
        return demanded(self._acquire(key, cost, wait_us, patient=self._desk.seats))

    def reserve(self, key: Subjects, *, cost: int = 1, max_wait: Duration = 0) -> Reservation:
        """Return a context manager that counts on entry, and takes it back at the end unless it was committed.

        Entering raises `RateLimited` where there is no room within `max_wait` seconds, and `ServiceUnavailable`
        where the store failed and a limit is `"closed"`.
        """
        wait_us = wait_of(max_wait)
        return Reservation(lambda: self._acquire(key, cost, wait_us, patient=True), self.cancel)

    def _acquire(self, key: Subjects, cost: int, wait_us: int, *, patient: bool) -> Decision:
        check = self._desk.checked(key, cost)
        if isinstance(check, Decision):
            return check
        return step(
            flows.acquire(self._desk, self._io, self._turns, check, wait_us, patient=patient)
        )


class AsyncRateLimiter:
    """The asynchronous face of a `RateLimiter`, for any number of event loops.

    Built directly it makes the limiter, which `sync` leads back to; the arguments are those of `RateLimiter`, and
    the store may be of either colour.
    """

    __slots__ = ("_desk", "_io", "_leases", "_store", "_turns", "sync")

    sync: RateLimiter
    """The synchronous face of the same limiter."""

    def __init__(self, store: Store | AsyncStore, limits: Limits, **options: Any) -> None:
        blocking: Any = getattr(store, "sync", store)
        self._view(RateLimiter(blocking, limits, **options))

    @classmethod
    def of(cls, limiter: RateLimiter) -> AsyncRateLimiter:
        """Return the asynchronous face of a limiter that exists."""
        face = cls.__new__(cls)
        face._view(limiter)  # noqa: SLF001 - its own
        return face

    def _view(self, limiter: RateLimiter) -> None:
        self.sync = limiter
        self._store = limiter.store.aio
        self._desk, self._turns, self._leases, flights = limiter.shared
        self._io = AwaitingIO(self._store, self._desk.clock, flights)

    async def hit(self, key: Subjects, *, cost: int = 1) -> Decision:
        """Count a request if all limits have room for it; see `RateLimiter.hit`."""
        desk = self._desk
        check = desk.hit(key, cost)
        if isinstance(check, Decision):
            return check
        if self._leases is not None and desk.lease is not None:
            return await hit_leased(desk, self._io, self._leases, desk.lease.permits, check)
        sent_us = desk.mono_us()
        try:
            reply = await self._store.run(check.operation)
        except CrossSlot:
            return await flows.hit(desk, self._io, check)
        except StoreError as error:
            return desk.failed(check, error)
        return desk.settle(check, reply, sent_us)

    async def peek(self, key: Subjects, *, cost: int = 1) -> Decision:
        """Return what `hit` would say, and count nothing; see `RateLimiter.peek`."""
        return await flows.hit(self._desk, self._io, self._desk.look(key, cost))

    async def hit_up_to(self, key: Subjects, most: int) -> Decision:
        """Count as many of `most` units as there is room for; see `RateLimiter.hit_up_to`."""
        check = self._desk.partial(key, most)
        if isinstance(check, Decision):
            return check
        return await flows.hit(self._desk, self._io, check)

    async def cancel(self, decision: Decision) -> bool:
        """Take back exactly the units that a decision counted; see `RateLimiter.cancel`.

        It is carried through even where the caller is cancelled meanwhile, as clean-up in a cancelled scope is.
        """
        return await self._io.through(flows.cancel(self._desk, self._io, decision))

    async def reset(self, key: Subjects) -> bool:
        """Forget all that was counted for a subject; see `RateLimiter.reset`."""
        return await flows.reset(self._io, self._desk.forget(key, self._leases))

    async def acquire(self, key: Subjects, *, cost: int = 1, max_wait: Duration) -> Decision:
        """Count a request as soon as there is room; see `RateLimiter.acquire`.

        Who is cancelled while waiting leaves the line; what it had counted already is given back.
        """
        flow = self._acquire(key, cost, wait_of(max_wait), patient=self._desk.seats)
        return demanded(await flow)

    def reserve(self, key: Subjects, *, cost: int = 1, max_wait: Duration = 0) -> AsyncReservation:
        """Return a context manager that counts on entry; see `RateLimiter.reserve`."""
        wait_us = wait_of(max_wait)
        return AsyncReservation(
            lambda: self._acquire(key, cost, wait_us, patient=True), self.cancel
        )

    async def _acquire(self, key: Subjects, cost: int, wait_us: int, *, patient: bool) -> Decision:
        check = self._desk.checked(key, cost)
        if isinstance(check, Decision):
            return check
        return await flows.acquire(
            self._desk, self._io, self._turns, check, wait_us, patient=patient
        )


def wait_of(max_wait: Duration) -> int:
    """Return how long to wait, in microseconds; 0 is allowed."""
    return checks.duration_us("max_wait", max_wait, least_us=0)


def _leasable(limits: tuple[Limit, ...], lease: Lease | None) -> tuple[Limit, ...]:
    for limit in limits if lease else ():
        if isinstance(limit.algorithm, GCRA | Concurrency):
            rule = f"must not be given where a limit counts by {type(limit.algorithm).__name__}"
            raise InvalidArgument("lease", rule, limit.name)
    return limits
