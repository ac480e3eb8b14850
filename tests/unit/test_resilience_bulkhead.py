"""Bulkheads: a bound that holds among threads, tasks, loops, forks and a thousand cancellations."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any

import pytest

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument, Overloaded
from backendkit.resilience import (
    Bulkhead,
    BulkheadFull,
    CallTimeout,
    CircuitBreaker,
    Pipeline,
    Policy,
    Timeout,
    marks,
)
from backendkit.resilience.steps import Step
from tests.ground.loops import passes, run_manually
from tests.ground.waiting import eventually

SECOND = 1_000_000


def together(threads: list[threading.Thread]) -> None:
    """Run threads side by side to their end."""
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)


class Inside:
    """Counts who is inside, and the most that ever were."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.all = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1


def busily(inside: Inside, chance: random.Random) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return work that takes a few turns of the loop and sometimes fails."""

    async def work() -> None:
        with inside:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            if chance.random() < 0.1:
                raise OSError("down")

    return work


def test_a_thousand_random_cancellations_never_let_in_too_many_nor_lose_a_slot() -> None:
    """Cancelled in line, at the very turn, and inside."""

    async def scene() -> None:
        chance = random.Random(7)
        bulkhead, inside = Bulkhead(3, max_wait=None), Inside()
        work = busily(inside, chance)

        tasks: list[asyncio.Task[None]] = []
        cancelled = 0
        while cancelled < 1000:
            tasks.append(asyncio.create_task(bulkhead.call_async(work)))
            if chance.random() < 0.7:
                cancelled += chance.choice(tasks[-8:]).cancel()
            if chance.random() < 0.6:
                await asyncio.sleep(0)
            assert inside.now <= bulkhead.running <= 3
        await asyncio.wait(tasks)
        assert inside.most == 3
        assert (inside.now, bulkhead.running, bulkhead.waiting) == (0, 0, 0)
        for task in tasks:
            assert task.cancelled() or isinstance(task.exception(), OSError | None)

    asyncio.run(scene())


def test_who_waited_longest_is_next() -> None:
    """Nobody overtakes, not even a caller who comes just as a slot is handed over."""

    async def scene() -> None:
        bulkhead, go, order = Bulkhead(1, max_wait=None), asyncio.Event(), list[int]()

        async def work(number: int) -> None:
            order.append(number)
            await go.wait()

        tasks = [asyncio.create_task(bulkhead.call_async(work, n)) for n in range(5)]
        await asyncio.sleep(0)
        assert (bulkhead.running, bulkhead.waiting) == (1, 4)
        tasks[2].cancel()
        go.set()
        await asyncio.sleep(0)
        late = asyncio.create_task(bulkhead.call_async(work, 9))
        await asyncio.wait([*tasks, late])
        assert order == [0, 1, 3, 4, 9]

    asyncio.run(scene())


def test_threads_wait_in_the_same_line() -> None:
    """As do the tasks of other loops; the bound holds among all of them."""
    bulkhead, inside = Bulkhead(2, max_wait=None), Inside()

    def work() -> None:
        with inside:
            threading.Event().wait(0.0005)

    async def work_async() -> None:
        with inside:
            await passes(0.0005)

    async def crowd() -> None:
        await asyncio.gather(*(bulkhead.call_async(work_async) for _ in range(40)))

    def thread(number: int) -> None:
        if number % 2:
            asyncio.run(crowd())
        else:
            for _ in range(20):
                bulkhead.call(work)

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(8)]
    together(threads)
    assert inside.all == 4 * 40 + 4 * 20
    assert inside.most == 2
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


def test_a_full_one_refuses_at_once_or_after_its_wait() -> None:
    """Or when the deadline is over, should that come first; and nothing ran."""

    async def scene() -> None:
        ran: list[int] = []

        async def work() -> None:
            ran.append(1)

        for wait, left, refused_after in ((0, 9, 0), (2, 9, 2), (None, 3, 3), (5, 1, 1), (5, 0, 0)):
            bulkhead = Bulkhead(1, max_wait=wait, name="db", clock=clock)
            busy = asyncio.create_task(bulkhead.call_async(asyncio.Event().wait))
            await asyncio.sleep(0)
            started = clock.mono_us()
            with context.until(started + left * SECOND), pytest.raises(BulkheadFull) as caught:
                await bulkhead.call_async(work)
            assert clock.mono_us() - started == pytest.approx(refused_after * SECOND, abs=5)
            assert bulkhead.waiting == 0
            busy.cancel()
            await asyncio.wait([busy])
            assert bulkhead.running == 0
            assert isinstance(caught.value, Overloaded)
            assert str(caught.value) == "bulkhead 'db' is full: 1 calls are running"
            assert (caught.value.name, caught.value.limit, caught.value.status) == ("db", 1, 503)
        assert not ran

    clock = ManualClock()
    run_manually(scene(), clock)


def test_who_may_not_wait_is_refused_without_a_turn_of_the_loop() -> None:
    """A full one answers in the call itself."""

    async def scene() -> None:
        bulkhead = Bulkhead(1)
        busy = asyncio.create_task(bulkhead.call_async(asyncio.Event().wait))
        await asyncio.sleep(0)
        call = bulkhead.call_async(asyncio.sleep, 0)
        with pytest.raises(BulkheadFull):
            call.send(None)
        busy.cancel()
        await asyncio.wait([busy])

    asyncio.run(scene())


def test_a_thread_that_waited_in_vain_is_refused_and_leaves_the_line() -> None:
    """As a task does."""
    bulkhead = Bulkhead(1, max_wait=0.01)
    go, came = threading.Event(), threading.Event()

    def busy() -> None:
        came.set()
        go.wait(10)

    thread = threading.Thread(target=bulkhead.call, args=(busy,))
    thread.start()
    assert came.wait(10)
    with pytest.raises(BulkheadFull):
        bulkhead.call(int)
    assert bulkhead.waiting == 0
    go.set()
    thread.join(10)
    assert bulkhead.call(int) == 0


def test_waiting_for_a_turn_is_neither_slow_nor_a_timeout() -> None:
    """A pipeline starts the timeout when there is room; refusals are not blamed on what was not called."""

    async def scene() -> None:
        breaker = CircuitBreaker("x", clock=clock, slow_after=0.5, minimum_calls=2)
        bulkhead = Bulkhead(1, max_wait=30, clock=clock)
        pipeline = Pipeline(breaker, Timeout(1, clock=clock), bulkhead)

        async def work() -> None:
            await passes(0.4)

        await asyncio.gather(*(pipeline.call_async(work) for _ in range(9)))
        assert clock.mono_us() > 3 * SECOND
        assert breaker.totals == (9, 0, 0, 0, 0)
        hurried = Pipeline(breaker, Bulkhead(1, clock=clock))
        await asyncio.gather(*(hurried.call_async(work) for _ in range(3)), return_exceptions=True)
        assert breaker.totals == (10, 0, 0, 2, 0)

        async def slow() -> None:
            await passes(0.6)

        await asyncio.gather(*(pipeline.call_async(slow) for _ in range(2)))
        assert breaker.totals.slow == 2

    clock = ManualClock()
    run_manually(scene(), clock)


def test_a_timeout_by_hand_around_a_bulkhead_does_not_blame_what_was_not_called() -> None:
    """Its time is over in line: the caller is refused, and the breaker counts nothing. A call that began times out."""

    async def scene() -> None:
        breaker = CircuitBreaker("x", clock=clock, minimum_calls=2)
        bulkhead = Bulkhead(1, max_wait=None, clock=clock)

        @breaker
        @Timeout(1, clock=clock)
        @bulkhead
        async def work() -> None:
            await passes(30)

        first, second = (asyncio.create_task(bulkhead.call_async(passes, 3)) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(BulkheadFull):
            await work()
        assert breaker.totals == (0, 0, 0, 1, 0)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr] # a task runs
        waiter = asyncio.create_task(work())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await asyncio.gather(first, second)
        with pytest.raises(CallTimeout):
            await work()
        assert breaker.totals == (0, 1, 0, 2, 0)

    clock = ManualClock()
    run_manually(scene(), clock)


def test_a_function_that_waited_for_its_turn_was_not_late() -> None:
    """Of what a timeout around a bulkhead measures, waiting is no part."""
    clock = ManualClock()
    breaker = CircuitBreaker("x", clock=clock)

    class Line(Policy):
        def around(self, inner: Step, /) -> Step:
            def waits(func: Any, args: Any, kwargs: Any) -> Any:
                came = clock.mono_us()
                clock.advance(SECOND)
                marks.tell_waited(clock, came, clock.mono_us())
                return inner(func, args, kwargs)

            return waits

    call = breaker(Timeout(1, clock=clock)(Line()(clock.advance)))
    call(SECOND // 2)
    assert breaker.totals.slow == 0
    call(SECOND)
    assert breaker.totals.slow == 1


def test_a_turn_that_comes_as_its_waiter_is_cancelled_goes_on_to_the_next() -> None:
    """Both happen in one turn of the loop."""

    async def scene() -> None:
        bulkhead, go = Bulkhead(1, max_wait=None), asyncio.Event()
        first = asyncio.create_task(bulkhead.call_async(go.wait))
        await asyncio.sleep(0)
        second, third = (
            asyncio.create_task(bulkhead.call_async(asyncio.sleep, 0, n)) for n in (2, 3)
        )
        await asyncio.sleep(0)
        go.set()
        first.add_done_callback(lambda _: second.cancel())
        await asyncio.wait([first, second, third])
        assert second.cancelled()
        assert third.result() == 3
        assert bulkhead.running == 0

    asyncio.run(scene())


def test_waiters_whose_loop_is_gone_are_passed_over() -> None:
    """Their turn goes to the next, a thread as well, however many they were."""
    bulkhead = Bulkhead(1, max_wait=None)
    go, came, answered = threading.Event(), threading.Event(), list[int]()

    def busy() -> None:
        came.set()
        go.wait(10)

    threads = [threading.Thread(target=bulkhead.call, args=(busy,))]
    threads[0].start()
    assert came.wait(10)
    loop = asyncio.new_event_loop()
    waiters = [bulkhead.call_async(asyncio.sleep, 0) for _ in range(1_500)]
    tasks = [loop.create_task(waiter) for waiter in waiters]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    threads.append(threading.Thread(target=lambda: answered.append(bulkhead.call(int, "7"))))
    threads[1].start()
    eventually(lambda: bulkhead.waiting == 1_501, "all wait")
    go.set()
    for thread in threads:
        thread.join(10)
    assert answered == [7]
    assert bulkhead.running == 0
    for waiter, task in zip(waiters, tasks, strict=True):
        waiter.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined] # abandoned on purpose


def test_a_thread_interrupted_in_line_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting, and as the turn comes."""
    from backendkit.resilience import bulkheads

    bulkhead = Bulkhead(1, max_wait=None)

    def interrupted(turn: Any, wait_us: int | None) -> None:
        if released:
            bulkhead._leave(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(bulkheads._ThreadTurn, "wait", interrupted)
    for released in (False, True):
        era = bulkhead._enter()
        with pytest.raises(KeyboardInterrupt):
            bulkhead.call(int)
        assert bulkhead.waiting == 0
        if not released:
            bulkhead.leave(era)
        assert bulkhead.running == 0


def test_a_stream_holds_its_slot_from_its_first_item_to_its_end() -> None:
    """However it ends, and never if it was never begun."""
    bulkhead = Bulkhead(1)

    @bulkhead
    def stream() -> Generator[int, None, None]:
        yield 1
        yield 2

    @bulkhead
    async def astream() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    never, one = stream(), stream()
    assert bulkhead.running == 0
    assert next(one) == 1
    with pytest.raises(BulkheadFull):
        next(stream())
    one.close()
    assert bulkhead.running == 0
    assert list(stream()) == [1, 2]
    never.close()

    async def scene() -> None:
        other = astream()
        assert await anext(other) == 1
        assert bulkhead.running == 1
        with pytest.raises(BulkheadFull):
            await anext(astream())
        await other.aclose()
        assert [item async for item in astream()] == [1, 2]
        broken = astream()
        await anext(broken)
        with pytest.raises(KeyError):
            await broken.athrow(KeyError())

    asyncio.run(scene())
    assert bulkhead.running == 0


def test_a_forked_child_begins_with_all_its_slots() -> None:
    """What runs in other threads of the parent will never end in the child."""
    bulkhead = Bulkhead(1)

    def forking() -> int:
        child = os.fork()
        if not child:
            free = bulkhead.running == 0 and bulkhead.call(int) == 0
            os._exit(0 if free else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert bulkhead.call(forking) == 0
    assert bulkhead.running == 0
    era = bulkhead._enter()
    bulkhead.after_fork_in_child()
    assert bulkhead.running == 0
    bulkhead.leave(era)
    assert bulkhead.running == 0


def test_an_option_that_makes_no_sense_is_refused() -> None:
    """By name."""
    made: Any
    for made, argument in (
        (lambda: Bulkhead(0), "limit"),
        (lambda: Bulkhead(1, max_wait=-1), "max_wait"),
        (lambda: Bulkhead(1, name="\n"), "name"),
    ):
        with pytest.raises(InvalidArgument) as refused:
            made()
        assert refused.value.argument == argument
    assert (Bulkhead(3, name="x").limit, Bulkhead(3, name="x").name) == (3, "x")
