"""Timeouts: exact where a call can be cancelled, honest where it cannot."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import DeadlineExceeded, InvalidArgument
from backendkit.resilience import (
    Bulkhead,
    BulkheadFull,
    CallTimeout,
    CircuitBreaker,
    NothingStarted,
    Pipeline,
    Timeout,
)
from tests.ground.loops import ManualLoop, passes, run_manually
from tests.ground.waiting import eventually

SECOND = 1_000_000
MS = 1_000


async def sleeps(ms: int) -> int:
    """Take so long."""
    await passes(ms / 1000)
    return ms


@settings(max_examples=150, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.integers(0, 50), st.integers(1, 120), st.one_of(st.none(), st.integers(1, 80))
        ),
        min_size=1,
        max_size=12,
    ),
    after=st.integers(10, 60),
)
def test_each_call_ends_at_its_moment_among_many(
    calls: list[tuple[int, int, int | None]], after: int
) -> None:
    """Calls that begin when they like, last as long as they like, under deadlines of their own, on one timeout."""
    clock = ManualClock()
    timeout = Timeout(after / 1000, clock=clock)

    async def one(begin: int, lasts: int, deadline: int | None) -> None:
        await passes(begin / 1000)
        started = clock.mono_us()
        given_us = min(after, deadline or after) * MS
        # Never equal, for then either may come first.
        lasts_us = lasts * MS + 500
        with context.until(started + deadline * MS if deadline else 2**52):
            outer = context.deadline_us()
            try:
                await timeout.call_async(asyncio.sleep, lasts_us / SECOND)
            except CallTimeout as error:
                assert lasts_us > given_us
                assert error.after == pytest.approx(given_us / SECOND)  # noqa: PT017 - either may come
                assert clock.mono_us() - started == pytest.approx(given_us, abs=5)
            else:
                assert lasts_us < given_us
                assert clock.mono_us() - started == pytest.approx(lasts_us, abs=5)
            assert context.deadline_us() == outer
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def scene() -> None:
        await asyncio.gather(*(one(*call) for call in calls))

    run_manually(scene(), clock)


def test_its_error_is_a_timeout_and_a_deadline() -> None:
    """Handlers for either catch it, and it travels."""
    clock = ManualClock()
    with pytest.raises(TimeoutError) as caught:
        run_manually(Timeout(0.25, clock=clock).call_async(sleeps, 999), clock)
    assert isinstance(caught.value, CallTimeout)
    assert isinstance(caught.value, DeadlineExceeded)
    assert (caught.value.code, caught.value.status, caught.value.worker) == (
        "CALL_TIMEOUT",
        504,
        None,
    )
    copied = pickle.loads(pickle.dumps(caught.value))
    assert (str(copied), copied.after) == ("no answer within 0.250 s", 0.25)


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Alone, and in the very turn in which the time is over."""

    async def scene() -> None:
        timeout = Timeout(1, clock=clock)
        for wait in (0.5, 1.0):
            task = asyncio.create_task(timeout.call_async(sleeps, 5000))
            # Asked for before the timeout asks: at the same moment, this one comes first.
            asyncio.get_running_loop().call_at(
                asyncio.get_running_loop().time() + wait, task.cancel
            )
            await asyncio.wait([task])
            assert task.cancelled()

    clock = ManualClock()
    run_manually(scene(), clock)


def test_of_nested_timeouts_the_one_that_is_over_speaks() -> None:
    """And below each of them its moment is the deadline."""
    clock = ManualClock()
    seen: list[int | None] = []

    async def work() -> None:
        seen.append(context.deadline_us())
        await passes(9)

    for outer, inner, spoke in ((1.0, 2.0, 1.0), (2.0, 1.0, 1.0)):
        started = clock.mono_us()
        with pytest.raises(CallTimeout) as caught:
            run_manually(
                Pipeline(Timeout(outer, clock=clock), Timeout(inner, clock=clock)).call_async(work),
                clock,
            )
        assert caught.value.after == spoke
        assert seen.pop() == started + SECOND
        assert clock.mono_us() - started == pytest.approx(SECOND, abs=5)


def test_a_call_that_swallows_its_cancellation_returns_late() -> None:
    """Nothing of it is left in the task; an error that it raises instead is its own."""

    async def stubborn(error: Exception | None) -> str:
        try:
            await passes(9)
        except asyncio.CancelledError:
            if error:
                raise error from None
        return "late"

    async def scene() -> None:
        timeout = Timeout(1, clock=clock)
        assert await timeout.call_async(stubborn, None) == "late"
        with pytest.raises(KeyError):
            await timeout.call_async(stubborn, KeyError())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await passes(5)

    clock = ManualClock()
    run_manually(scene(), clock)


def test_any_number_of_calls_needs_one_timer_and_leaves_nothing() -> None:
    """Ended calls do not pile up behind one that runs on."""
    clock = ManualClock()
    timeout = Timeout(100, clock=clock)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ManualLoop)
        long = asyncio.create_task(timeout.call_async(asyncio.Event().wait))
        await asyncio.sleep(0)
        before = loop.timers
        for _ in range(5_000):
            await timeout.call_async(sleeps_not)
        assert loop.timers == before
        alarms = timeout._alarms.of(loop)._alarms
        assert len(alarms) < 1_500
        long.cancel()
        await asyncio.wait([long])
        assert not timeout._alarms.of(loop)._alarms

    async def sleeps_not() -> None:
        pass

    run_manually(scene(), clock)


def test_it_holds_no_loop() -> None:
    """A program that runs many loops one after the other keeps none."""
    timeout = Timeout(50)
    loops: list[weakref.ref[Any]] = []

    async def scene() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await timeout.call_async(asyncio.sleep, 0)

    for _ in range(3):
        asyncio.run(scene())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3


def test_one_timeout_serves_loops_of_several_threads_at_once() -> None:
    """Each on its own clock."""
    timeout, inside = Timeout(0.05), threading.Barrier(3, timeout=10)
    ended: list[str] = []

    async def scene() -> None:
        inside.wait()
        for _ in range(3):
            assert await timeout.call_async(sleeps, 0) == 0
            with pytest.raises(CallTimeout):
                await timeout.call_async(asyncio.Event().wait)
        ended.append("")

    threads = [threading.Thread(target=lambda: asyncio.run(scene())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3


def test_nothing_starts_after_the_deadline() -> None:
    """Whatever the kind; and a breaker does not blame what was not called."""
    clock = ManualClock(mono_us=5)
    ran: list[int] = []
    with ThreadPoolExecutor(1) as pool, context.until(5):
        for timeout in (Timeout(1, clock=clock), Timeout(1, clock=clock, pool=pool)):
            breaker = CircuitBreaker("x", clock=clock)
            with pytest.raises(NothingStarted):
                Pipeline(breaker, timeout).call(ran.append, 1)
            assert breaker.totals.ignored == 1
        with pytest.raises(NothingStarted):
            asyncio.run(timeout.call_async(sleeps, 0))
    assert not ran


def test_a_late_function_is_slow_and_answers_all_the_same() -> None:
    """A breaker around it counts it as slow, in a pipeline and in a stack of decorators; a later call is not its business."""
    clock = ManualClock()
    breaker = CircuitBreaker("x", clock=clock, slow_after=9, slow_rate=0.5, minimum_calls=4)
    timeout = Timeout(1, clock=clock)

    def work(seconds: float) -> float:
        clock.advance(int(seconds * SECOND))
        return seconds

    stacked, both = breaker(timeout(work)), Pipeline(breaker, timeout)
    assert both.call(work, 1) == 1
    assert stacked(1.5) == 1.5
    assert breaker.totals == (2, 0, 2, 0, 0)
    assert both(work)(0.9) == 0.9
    clock.advance(1)
    assert breaker.call(work, 0) == 0
    assert breaker.totals == (4, 0, 2, 0, 0)
    assert breaker.current_state == "open"
    unwatched = CircuitBreaker("y", clock=clock)
    with pytest.raises(ZeroDivisionError):
        Pipeline(unwatched, timeout).call(lambda: work(2) / 0)
    assert unwatched.totals == (0, 1, 1, 0, 0)
    nested = Pipeline(unwatched, Bulkhead(3), Pipeline(Bulkhead(2), timeout))
    assert nested.call(work, 2) == 2
    assert unwatched(Bulkhead(2)(timeout(work)))(3) == 3
    assert unwatched.totals.slow == 3


def test_its_firing_is_a_failure_whatever_the_breaker_counts() -> None:
    """Inside of the breaker; and outside, where the call is seen as cancelled after its time."""
    clock = ManualClock()
    inner = CircuitBreaker("x", clock=clock, on=[KeyError])
    with pytest.raises(CallTimeout):
        run_manually(Pipeline(inner, Timeout(1, clock=clock)).call_async(sleeps, 5000), clock)
    outer = CircuitBreaker("x", clock=clock, on=[KeyError])
    with pytest.raises(CallTimeout):
        run_manually(Pipeline(Timeout(1, clock=clock), outer).call_async(sleeps, 5000), clock)
    excluded = CircuitBreaker("x", clock=clock, exclude=[TimeoutError])
    with pytest.raises(CallTimeout):
        run_manually(Pipeline(excluded, Timeout(1, clock=clock)).call_async(sleeps, 5000), clock)
    assert (inner.totals.failed, outer.totals.failed, excluded.totals.ignored) == (1, 1, 1)


def test_with_a_pool_the_caller_is_let_go_and_the_slot_is_held() -> None:
    """Until the worker has ended; in either order of the two."""
    with ThreadPoolExecutor(2) as pool:
        timeout, bulkhead = Timeout(0.02, pool=pool), Bulkhead(1)
        for pipeline in (Pipeline(timeout, bulkhead), Pipeline(bulkhead, timeout)):
            go = threading.Event()
            with pytest.raises(CallTimeout) as caught:
                pipeline.call(go.wait, 10)
            assert caught.value.worker is not None
            assert bulkhead.running == 1
            with pytest.raises(BulkheadFull):
                pipeline.call(int)
            go.set()
            eventually(lambda: bulkhead.running == 0, "the slot is free")
        unhurried = Pipeline(Timeout(30, pool=pool), bulkhead)
        assert unhurried.call(int, "7") == 7
        with pytest.raises(ZeroDivisionError):
            unhurried.call(lambda: 1 / 0)
        assert bulkhead.running == 0


def test_work_in_a_pool_knows_its_deadline() -> None:
    """It runs in a copy of the caller's context, under the timeout's moment."""
    clock = ManualClock()
    with ThreadPoolExecutor(1) as pool, context.bound(user="ada"):
        seen = Timeout(9, pool=pool, clock=clock).call(
            lambda: (context.deadline_us(), context.fields()["user"])
        )
    assert seen == (9 * SECOND, "ada")


def test_what_never_left_the_queue_of_a_pool_was_not_started() -> None:
    """It is refused, never run, and not blamed on the dependency."""
    ran: list[int] = []
    breaker = CircuitBreaker("x")
    with ThreadPoolExecutor(1) as pool:
        go = threading.Event()
        busy = pool.submit(go.wait, 10)
        with pytest.raises(BulkheadFull, match="no thread"):
            Pipeline(breaker, Timeout(0.02, pool=pool)).call(ran.append, 1)
        go.set()
        busy.result()
    assert not ran
    assert breaker.totals == (0, 0, 0, 1, 0)


def test_of_a_stream_it_bounds_the_first_item() -> None:
    """What comes after it may take its time."""
    clock = ManualClock()
    breaker = CircuitBreaker("x", clock=clock)
    timeout = Timeout(1, clock=clock)

    @timeout
    async def stream(first: float) -> Any:
        await passes(first)
        yield 1
        await passes(9)
        yield 2

    async def scene(first: float) -> list[int]:
        return [item async for item in stream(first)]

    assert run_manually(scene(0.5), clock) == [1, 2]
    with pytest.raises(CallTimeout):
        run_manually(scene(1.5), clock)

    @breaker
    @timeout
    def late() -> Generator[int, None, None]:
        clock.advance(2 * SECOND)
        yield 1

    assert list(late()) == [1]
    assert breaker.totals.slow == 1


def test_it_needs_a_task_and_a_positive_time() -> None:
    """Said plainly."""
    with pytest.raises(InvalidArgument, match="after"):
        Timeout(0)
    assert Timeout(2).after_us == 2 * SECOND
    raised: list[BaseException] = []

    async def scene() -> None:
        def by_hand() -> None:
            try:
                Timeout(1).call_async(sleeps, 1).send(None)
            except RuntimeError as error:
                raised.append(error)

        asyncio.get_running_loop().call_soon(by_hand)
        await asyncio.sleep(0)

    asyncio.run(scene())
    assert "needs a task" in str(raised[0])
