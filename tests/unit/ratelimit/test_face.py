"""The limiter as users hold it, on the memory store and a manual clock, in both colours."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument, OutcomeUnknown, RateLimited, ServiceUnavailable
from backendkit.core.events import Event
from backendkit.core.operation import Operation
from backendkit.ratelimit import (
    GCRA,
    Algorithm,
    AsyncRateLimiter,
    Concurrency,
    FixedWindow,
    Lease,
    Limit,
    LimitDenied,
    Penalty,
    RateLimiter,
    SlidingBuckets,
    SlidingLog,
    StoreFound,
    StoreLost,
    SubjectBlocked,
)
from backendkit.stores import MemoryStore
from tests.ground.loops import in_threads

US = 1_000_000


class CountingStore(MemoryStore):
    """Counts operations; fails on demand."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.count = 0
        self.down = False

    def run(self, operation: Operation[Any]) -> Any:
        """Run it, or fail."""
        self.count += 1
        if self.down:
            raise OutcomeUnknown("the cable is out")
        return super().run(operation)


class Blocking:
    """Both colours behind one spelling: this one blocks."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.limiter, name)


class Awaiting(Blocking):
    """This one awaits."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.limiter.aio, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: asyncio.run(found(*args, **kwargs))


@pytest.fixture
def clock() -> ManualClock:
    """The test's time."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    """The test's store."""
    return CountingStore(clock)


colours = pytest.mark.parametrize("colour", [Blocking, Awaiting])


@colours
def test_a_denial_by_one_limit_consumes_nothing_on_the_others(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """Three limits, each denying in turn."""
    algorithms: list[Algorithm] = [SlidingLog(), SlidingBuckets(4), FixedWindow()]
    for denying in range(3):
        limits = [
            Limit(f"l{n}", 2 if n == denying else 9, per=60, algorithm=algorithm)
            for n, algorithm in enumerate(algorithms)
        ]
        limiter = colour(RateLimiter(store, limits, deny_cache_max=0))
        key = f"user:{denying}"
        assert [limiter.hit(key).allowed for _ in range(5)] == [True, True, False, False, False]
        seen = limiter.peek(key).by_limit
        assert {name: view.remaining for name, view in seen.items()} == {
            f"l{n}": 0 if n == denying else 7 for n in range(3)
        }
        assert limiter.hit(key).limit.name == f"l{denying}"


@colours
@pytest.mark.parametrize(
    "algorithm", [SlidingLog(), SlidingBuckets(4), GCRA(), FixedWindow(), Concurrency()]
)
def test_refused_one_unit_before_and_admitted_at_retry_after(
    store: CountingStore, clock: ManualClock, colour: Any, algorithm: Any
) -> None:
    """`retry_after` is exact to the microsecond, and `remaining` unit hits succeed."""
    limiter = colour(
        RateLimiter(store, Limit("x", 3, per=7, algorithm=algorithm), deny_cache_max=0)
    )
    for step in (0, 1_111_111, 777_777):
        clock.advance(step)
        assert limiter.hit("a").allowed
    denied = limiter.hit("a", cost=2)
    assert not denied.allowed
    assert denied.retry_after
    clock.advance(round(denied.retry_after * US) - 1)
    assert not limiter.peek("a", cost=2).allowed
    clock.advance(1)
    assert limiter.hit("a", cost=2).allowed
    clock.advance(round(limiter.peek("a").next_after * US))
    left = limiter.peek("a").remaining
    assert left >= 1
    assert [limiter.hit("a").allowed for _ in range(left + 1)] == [True] * left + [False]
    clock.advance(round(limiter.peek("a").reset_after * US) - 1)
    assert limiter.peek("a").remaining < 3
    clock.advance(1)
    assert limiter.peek("a").remaining == 3


@colours
def test_a_cost_beyond_the_limit_is_never_admitted(store: CountingStore, colour: Any) -> None:
    """It is refused with `retry_after=None` and consumes nothing; several limits show the worst."""
    limiter = colour(RateLimiter(store, [Limit("small", "3/minute"), Limit("large", "9/minute")]))
    decision = limiter.hit("a", cost=4)
    assert (decision.allowed, decision.retry_after, decision.limit.name) == (False, None, "small")
    assert limiter.peek("a").remaining == 3


@colours
def test_cost_zero_asks(store: CountingStore, colour: Any) -> None:
    """It is denied only where more is used than the limit, which was lowered."""
    high, low = (colour(RateLimiter(store, Limit("x", n, per=60))) for n in (5, 2))
    for _ in range(3):
        high.hit("a")
    assert high.hit("a", cost=0).allowed
    assert not low.hit("a", cost=0).allowed
    assert high.peek("a").remaining == 2  # raised again: the history was kept


@colours
def test_an_admission_shows_the_limit_with_the_least_left(
    store: CountingStore, colour: Any
) -> None:
    """And a denial the one with the longest wait."""
    limiter = colour(RateLimiter(store, [Limit("a", "3/minute"), Limit("b", "2/second")]))
    first = limiter.hit("u")
    assert (first.limit.name, first.remaining, first.granted) == ("b", 1, 1)
    limiter.hit("u")
    assert limiter.hit("u").limit.name == "b"


@colours
def test_cancel_removes_exactly_these_units_once(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """Expired or repeated: nothing happens."""
    limiter = colour(RateLimiter(store, [Limit("a", "9/minute"), Limit("b", "9/hour")]))
    first, second = limiter.hit("u", cost=3), limiter.hit("u", cost=2)
    assert first.receipt.units == 3
    assert limiter.cancel(first)
    assert not limiter.cancel(first)
    assert first.receipt is None
    assert {v.remaining for v in limiter.peek("u").views} == {7}
    clock.advance(60 * US)
    assert limiter.cancel(second)  # gone from the one, still in the other
    assert {v.remaining for v in limiter.peek("u").views} == {9}
    assert not limiter.cancel(limiter.peek("u"))


@colours
def test_partial_grant(store: CountingStore, colour: Any) -> None:
    """As many as all limits have room for; none is a denial that consumes nothing."""
    limiter = colour(RateLimiter(store, [Limit("a", "9/minute"), Limit("b", "7/hour")]))
    assert limiter.hit_up_to("u", 5).granted == 5
    rest = limiter.hit_up_to("u", 50)
    assert (rest.allowed, rest.granted, rest.by_limit["a"].remaining) == (True, 2, 2)
    none = limiter.hit_up_to("u", 50)
    assert (none.allowed, none.granted) == (False, 0)
    assert limiter.cancel(rest)
    assert limiter.peek("u").remaining == 2


@colours
def test_a_remembered_denial_costs_the_store_nothing(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """A thousand more within `deny_cache_max`: no operation; smaller costs still ask."""
    limiter = colour(RateLimiter(store, Limit("x", "5/minute")))
    limiter.hit("a", cost=4)
    assert limiter.hit("a", cost=2).source == "store"
    before = store.count
    for _ in range(1000):
        clock.advance(500)
        denied = limiter.hit("a", cost=3)
        assert denied.source == "remembered"
    assert store.count == before
    assert limiter.hit("a", cost=3).retry_after == pytest.approx(59.5)
    assert limiter.hit("a").allowed
    clock.advance(500_000)
    assert limiter.hit("a", cost=3).source == "store"  # after a second it asks again


def test_memory_of_denials_is_bounded(store: CountingStore, clock: ManualClock) -> None:
    """An attacker who invents keys fills no memory."""
    limiter = RateLimiter(store, Limit("x", "1/minute"), deny_cache_size=10)
    for n in range(100):
        limiter.hit(f"k{n}")
        limiter.hit(f"k{n}")
    assert len(limiter.shared[0].denials.by_key) == 10
    assert limiter.hit("k99").source == "remembered"
    assert limiter.hit("k0").source == "store"


@colours
def test_a_cost_beyond_the_limit_is_told_so_from_memory_as_well(
    store: CountingStore, colour: Any
) -> None:
    """What this process remembers of a smaller cost is no promise to a larger one."""
    limiter = colour(RateLimiter(store, Limit("x", "5/minute")))
    limiter.hit("a", cost=5)
    assert limiter.hit("a").retry_after == 60
    before = store.count
    denied = limiter.hit("a", cost=6)
    assert (denied.source, denied.retry_after, store.count) == ("remembered", None, before)
    assert limiter.hit("a").retry_after == 60


@colours
def test_reset_and_cancel_forget_a_denial(store: CountingStore, colour: Any) -> None:
    """Quota freed in this process is free at once."""
    limiter = colour(RateLimiter(store, Limit("x", "1/minute")))
    taken = limiter.hit("a")
    assert not limiter.hit("a").allowed
    limiter.cancel(taken)
    assert limiter.hit("a").allowed
    assert not limiter.hit("a").allowed
    assert limiter.reset("a")
    assert limiter.hit("a").allowed


@colours
def test_penalty_box_doubles_and_forgives(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """After k denials a block, twice as long each time, up to the cap; who stays away begins anew."""
    events: list[Event] = []
    box = Penalty(after=2, within=60, block_for=10, longest=30)
    raw = RateLimiter(store, Limit("x", "1/second", penalty=box))
    raw.hooks.add(events.append, SubjectBlocked)
    limiter = colour(raw)

    def provoke() -> float:
        limiter.hit("a")
        assert not limiter.hit("a").allowed
        decision = limiter.hit("a")
        assert decision.source == "penalty"
        waits: float = decision.retry_after
        before = store.count
        assert limiter.hit("a").source == "remembered"
        assert store.count == before
        clock.advance(round(waits * US) - 1)
        assert not limiter.peek("a").allowed
        clock.advance(1)
        return waits

    assert [provoke() for _ in range(4)] == [10, 20, 30, 30]
    clock.advance(30 * US)
    assert provoke() == 10
    assert events


@colours
def test_a_reservation_counts_until_it_is_decided(store: CountingStore, colour: Any) -> None:
    """Cancelled if neither committed nor cancelled; the error carries the decision."""
    raw = RateLimiter(store, Limit("x", "1/minute"))
    limiter = colour(raw)

    def enter(*, commit: bool) -> None:
        if colour is Blocking:
            with raw.reserve("a") as seat:
                assert not limiter.peek("a").allowed
                if commit:
                    seat.commit()
            return

        async def use() -> None:
            async with raw.aio.reserve("a") as seat:
                assert not (await raw.aio.peek("a")).allowed
                if commit:
                    seat.commit()

        asyncio.run(use())

    enter(commit=False)
    assert limiter.peek("a").remaining == 1
    enter(commit=True)
    with pytest.raises(RateLimited) as caught:
        enter(commit=False)
    assert caught.value.retry_after == 60
    assert caught.value.status == 429


@colours
def test_acquire_waits_exactly_as_long_as_it_must(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """And raises at once where there will be no room in time."""
    limiter = colour(RateLimiter(store, Limit("x", "1/minute")))
    limiter.acquire("a", max_wait=0)
    begun = clock.mono_us()
    limiter.acquire("a", max_wait=60)
    assert clock.mono_us() - begun == 60 * US
    with pytest.raises(RateLimited):
        limiter.acquire("a", max_wait=59.9)
    assert clock.mono_us() - begun == 60 * US


def test_tasks_and_threads_are_served_in_order(store: CountingStore) -> None:
    """First come, first served; who is cancelled leaves the line and takes nothing."""
    real = MemoryStore()
    limiter = RateLimiter(real, Limit("x", 1, per=0.02))
    order: list[int] = []

    async def take(n: int) -> None:
        await limiter.aio.acquire("a", max_wait=5)
        order.append(n)

    async def play() -> None:
        tasks = []
        for n in range(6):
            tasks.append(asyncio.create_task(take(n)))
            await asyncio.sleep(0)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())
    assert order == [0, 1, 2, 4, 5]
    assert len(limiter.shared[1]) == 0


def test_seats_are_owned_and_freed_by_time(store: CountingStore, clock: ManualClock) -> None:
    """A seat comes back by its owner, or by time; giving back another's does nothing."""
    limiter = RateLimiter(store, Limit("jobs", 2, per=30, algorithm=Concurrency()))
    first, second = limiter.hit("a"), limiter.hit("a")
    assert not limiter.hit("a").allowed
    assert limiter.cancel(first)
    assert not limiter.cancel(first)
    third = limiter.hit("a")
    assert third.allowed
    clock.advance(30 * US)
    assert limiter.peek("a").remaining == 2
    assert not limiter.cancel(second)


@colours
def test_leases_spend_without_asking_and_never_too_much(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """Permits are charged when taken, count a window and the lease, and end with their time."""
    limiter = colour(
        RateLimiter(store, Limit("x", "10/minute"), lease=Lease(permits=4, ttl=1), deny_cache_max=0)
    )
    first = limiter.hit("a")
    before = store.count
    assert [limiter.hit("a").source for _ in range(3)] == ["lease"] * 3
    assert store.count == before
    assert first.allowed
    clock.advance(US)
    assert limiter.hit("a").allowed
    assert store.count > before
    spent = 5
    while limiter.hit("a").allowed:
        spent += 1
    assert spent == 10
    clock.advance(60 * US - 1)
    assert not limiter.hit("a").allowed  # counts for a minute and a second
    clock.advance(US)
    assert limiter.hit("a").allowed


def test_failure_policies(store: CountingStore, clock: ManualClock) -> None:
    """Open admits; closed refuses with 503; local limits at its share; the strictest wins."""
    events: list[Event] = []

    def made(*policies: Any) -> RateLimiter:
        limits = [Limit(f"l{n}", 4, per=60, on_store_failure=p) for n, p in enumerate(policies)]
        limiter = RateLimiter(store, limits, nodes=2, name="-".join(policies))
        limiter.hooks.add(events.append, StoreLost, StoreFound)
        return limiter

    opened, closed, local = made("open"), made("closed"), made("local")
    mixed, strict = made("open", "local"), made("closed", "local", "open")
    store.down = True
    assert opened.hit("a").source == "open"
    refusal = closed.hit("a")
    assert (refusal.allowed, refusal.source) == (False, "closed")
    assert refusal.retry_after
    with pytest.raises(ServiceUnavailable) as caught:
        closed.acquire("a", max_wait=0)
    assert caught.value.status == 503
    assert [local.hit("a").allowed for _ in range(3)] == [True, True, False]
    assert local.hit("a").source == "local"
    assert [mixed.hit("a").allowed for _ in range(3)] == [True, True, False]
    assert strict.hit("a").source == "closed"
    assert not opened.cancel(opened.hit("a"))
    assert not opened.reset("a")
    assert opened.peek("a").allowed
    store.down = False
    assert local.hit("a").source == "store"
    assert [type(e) for e in events].count(StoreLost) == 5
    assert [type(e) for e in events].count(StoreFound) == 1


def test_a_lost_reply_is_never_sent_again(store: CountingStore) -> None:
    """It may have counted once; asking again would count twice."""
    limiter = RateLimiter(store, Limit("x", "5/minute"))
    store.down = True
    before = store.count
    assert limiter.hit("a").allowed
    assert store.count == before + 1


def test_several_subjects_are_one_decision(store: CountingStore) -> None:
    """Who is missing is not limited; who is unknown is an error."""
    limits = [Limit("ip", "3/minute", by="address"), Limit("user", "2/minute", by="user")]
    limiter = RateLimiter(store, limits, deny_cache_max=0)
    both = {"address": "1.2.3.4", "user": "ada"}
    assert [limiter.hit(both).allowed for _ in range(3)] == [True, True, False]
    assert limiter.peek(both).by_limit["ip"].remaining == 1
    assert limiter.hit({"address": "1.2.3.4"}).remaining == 0
    for wrong in ("1.2.3.4", {"planet": "x"}, {}):
        with pytest.raises(InvalidArgument):
            limiter.hit(wrong)


def test_hooks_hear_of_denials(store: CountingStore) -> None:
    """With labels of few values."""
    events: list[Event] = []
    limiter = RateLimiter(store, Limit("x", "1/minute"), name="api")
    limiter.hooks.add(events.append)
    limiter.hit("a")
    limiter.hit("a")
    limiter.hit("a")
    assert events == [
        LimitDenied("api", "x", "store", 60.0),
        LimitDenied("api", "x", "remembered", 60.0),
    ]


def test_keys_do_not_collide(store: CountingStore) -> None:
    """Braces, slashes, colons, NUL, emoji, ten kilobytes: each its own quota."""
    limiter = RateLimiter(store, Limit("x", "1/minute"))
    keys: list[Any] = [
        "{}", "{a}b", "a/b", ("a", "b"), "a:b", "a\0b", "🦊", "x" * 10_240, "x" * 10_241,
        ("a/b", "c"), ("a", "b/c"), "a%2Fb", " ",
    ]  # fmt: skip
    assert all(limiter.hit(key).allowed for key in keys)
    assert not any(limiter.hit(key).allowed for key in keys)


def test_both_faces_have_the_same_methods() -> None:
    """Whoever knows one knows both."""

    def methods(kind: type) -> list[str]:
        return [n for n, v in vars(kind).items() if not n.startswith("_") and inspect.isfunction(v)]

    assert methods(RateLimiter) == methods(AsyncRateLimiter)


def test_the_asynchronous_face_can_be_built_directly(store: CountingStore) -> None:
    """And leads back to the synchronous one."""
    face = AsyncRateLimiter(store.aio, "1/minute")
    assert asyncio.run(face.hit("a")).allowed
    assert not face.sync.hit("a").allowed


@colours
@pytest.mark.parametrize("algorithm", [SlidingLog(), Concurrency()], ids=lambda a: a.kind)
def test_what_was_counted_locally_is_given_back_locally(
    store: CountingStore, colour: Any, algorithm: Any
) -> None:
    """A seat that is taken while the store fails would else be lost until its time is over."""
    limit = Limit("x", 1, per=60, algorithm=algorithm, on_store_failure="local")
    limiter = colour(RateLimiter(store, limit))
    store.down = True
    assert limiter.peek("a").granted == 0
    taken = limiter.hit("a")
    assert (taken.source, limiter.hit("a").allowed) == ("local", False)
    assert limiter.cancel(taken)
    assert not limiter.cancel(taken)
    assert limiter.hit("a").allowed


def test_a_lease_is_not_taken_by_who_only_asks(store: CountingStore) -> None:
    """A cost of nothing consumes nothing."""
    limiter = RateLimiter(store, Limit("x", "10/minute"), lease=Lease(permits=4))
    assert limiter.hit("a", cost=0).remaining == 10


@colours
@pytest.mark.parametrize("policy", ["open", "local"])
def test_permits_are_not_taken_where_the_store_fails(
    store: CountingStore, colour: Any, policy: Any
) -> None:
    """A request is granted what it asked for, and takes no more of the local share."""
    limit = Limit("x", 3, per=60, on_store_failure=policy)
    limiter = colour(RateLimiter(store, limit, lease=Lease(permits=10)))
    store.down = True
    assert [limiter.hit("a").granted for _ in range(3)] == [1, 1, 1]
    assert limiter.hit("a").allowed is (policy == "open")


def test_threads_that_see_the_first_failure_share_one_local_count(store: CountingStore) -> None:
    """None of them counts apart."""
    store.down = True
    for n in range(20):
        limiter = RateLimiter(store, Limit(f"x{n}", 5, per=60, on_store_failure="local"))
        assert sum(in_threads(8, partial(_admits, limiter))) == 5


def _admits(limiter: RateLimiter, _thread: int) -> bool:
    return limiter.hit("a").allowed


class Slow(MemoryStore):
    """Answers at the third turn of the loop."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.slow = SlowFace(self)

    @property
    def aio(self) -> Any:
        """The face that waits."""
        return self.slow


class SlowFace:
    """Its asynchronous face."""

    def __init__(self, store: MemoryStore) -> None:
        self.sync = store

    async def run(self, operation: Operation[Any]) -> Any:
        """Run it, later."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.sync.run(operation)


def test_who_waits_for_permits_together_counts_alone_where_the_store_fails(
    clock: ManualClock,
) -> None:
    """One failure for all of them is not one admission for all of them."""

    class Failing(Slow):
        def run(self, operation: Operation[Any]) -> Any:
            raise OutcomeUnknown("the cable is out")

    limit = Limit("x", 3, per=60, on_store_failure="local")
    limiter = RateLimiter(Failing(clock), limit, lease=Lease(permits=2))

    async def play() -> list[bool]:
        decisions = await asyncio.gather(*[limiter.aio.hit("a") for _ in range(10)])
        return [decision.allowed for decision in decisions]

    assert sum(asyncio.run(play())) == 3


def test_giving_back_is_carried_through_a_cancelled_scope(clock: ManualClock) -> None:
    """Cancelled again at every step, as scopes of anyio do: the units are free all the same."""
    limiter = RateLimiter(Slow(clock), "1/minute")
    began = asyncio.Event()

    async def work() -> None:
        async with limiter.aio.reserve("a"):
            began.set()
            await asyncio.Event().wait()

    async def play() -> int:
        task = asyncio.create_task(work())
        await began.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        return (await limiter.aio.peek("a")).remaining

    assert asyncio.run(play()) == 1


def test_a_denial_is_not_remembered_for_longer_than_it_is_true(
    store: CountingStore, clock: ManualClock
) -> None:
    """Where room comes before `deny_cache_max` is over, it is found at the very microsecond."""
    limiter = RateLimiter(store, Limit("x", 1, per=0.5), deny_cache_max=1)
    limiter.hit("a")
    assert not limiter.hit("a").allowed
    clock.advance(499_999)
    assert limiter.hit("a").source == "remembered"
    clock.advance(1)
    assert limiter.hit("a").allowed


def test_a_denials_time_runs_from_when_it_was_asked_for(clock: ManualClock) -> None:
    """A reply that is long on its way tells of the past."""

    class Distant(MemoryStore):
        def run(self, operation: Operation[Any]) -> Any:
            reply = super().run(operation)
            self.clock.sleep(400_000)
            return reply

    limiter = RateLimiter(Distant(clock=clock), Limit("x", 1, per=0.5))
    limiter.hit("a")
    assert limiter.hit("a").retry_after == pytest.approx(0.1)
    assert limiter.hit("a").allowed


def test_of_two_remembered_denials_the_longer_is_told(
    store: CountingStore, clock: ManualClock
) -> None:
    """And one remembered in other company is told alone."""
    limits = [Limit("ip", "1/second", by="address"), Limit("user", "1/minute", by="user")]
    limiter = RateLimiter(store, limits, deny_cache_max=60)
    for who in ({"address": "a"}, {"user": "u"}):
        limiter.hit(who)
        assert not limiter.hit(who).allowed
    before = store.count
    denied = limiter.hit({"address": "a", "user": "u"})
    assert (denied.source, denied.retry_after, denied.limit.name) == ("remembered", 60, "user")
    assert [view.limit.name for view in denied.views] == ["user"]
    assert store.count == before


@pytest.mark.parametrize(
    ("algorithm", "lease"), [(Concurrency(), None), (SlidingLog(), Lease(permits=2))], ids=str
)
def test_seats_and_leases_are_asked_for_each_time(
    store: CountingStore, algorithm: Any, lease: Lease | None
) -> None:
    """Somebody else gives back at any moment: such a denial is not remembered."""
    here, there = (
        RateLimiter(store, Limit("x", 2, per=60, algorithm=algorithm), lease=lease)
        for _ in range(2)
    )
    taken = [there.hit("a"), there.hit("a")]
    assert not here.hit("a").allowed
    assert there.cancel(taken[0])
    assert here.hit("a").allowed


def test_a_seat_is_its_owners(store: CountingStore, clock: ManualClock) -> None:
    """Who comes back late does not give back the seat of who came after."""
    limiter = RateLimiter(store, Limit("jobs", 1, per=30, algorithm=Concurrency()))
    late = limiter.hit("a")
    clock.advance(30 * US)
    assert limiter.hit("a").allowed
    assert not limiter.cancel(late)
    assert limiter.peek("a").remaining == 0


@colours
def test_permits_end_with_their_time_and_with_a_reset(
    store: CountingStore, clock: ManualClock, colour: Any
) -> None:
    """Until a microsecond before they are spent without asking."""
    limiter = colour(
        RateLimiter(store, Limit("x", "20/minute"), lease=Lease(permits=5, ttl=1), deny_cache_max=0)
    )
    limiter.hit("a")
    clock.advance(US - 1)
    asked = store.count
    limiter.hit("a")
    assert store.count == asked
    clock.advance(1)
    limiter.hit("a")
    assert store.count == asked + 1
    limiter.reset("a")
    asked = store.count
    assert limiter.hit("a").remaining == 15
    assert store.count == asked + 1


@colours
def test_looking_grants_nothing(store: CountingStore, colour: Any) -> None:
    """And leaves nothing to give back."""
    looked = colour(RateLimiter(store, "5/minute")).peek("a", cost=2)
    assert (looked.allowed, looked.granted, looked.receipt) == (True, 0, None)


def test_permits_of_a_fixed_window_end_with_it(store: CountingStore, clock: ManualClock) -> None:
    """Spent later they would count in a window that never saw them."""
    limit = Limit("x", 10, per=60, algorithm=FixedWindow())
    limiter = RateLimiter(store, limit, lease=Lease(permits=5, ttl=600), deny_cache_max=0)
    rest_us = 60 * US - clock.wall_us() % (60 * US)
    limiter.hit("a")
    clock.advance(rest_us - 1)
    asked = store.count
    limiter.hit("a")
    assert store.count == asked
    clock.advance(1)
    limiter.hit("a")
    assert store.count == asked + 1
