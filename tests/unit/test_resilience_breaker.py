"""The breaker that users hold: what it does for pybreaker's users, in every colour, and to whoever misbehaves."""

from __future__ import annotations

import abc
import asyncio
import inspect
import logging
import pickle
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from unittest.mock import AsyncMock

import pybreaker
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import AppError, InvalidArgument, RateLimited
from backendkit.core.events import Event
from backendkit.resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpen,
    CircuitStrained,
    CircuitTransition,
    FailedResult,
)

SECOND = 1_000_000


def breaker_of(**options: Any) -> CircuitBreaker:
    """Make a breaker on a clock that stands, which opens at the second failure in a row."""
    usual: dict[str, Any] = {
        "clock": ManualClock(),
        "fail_max": 2,
        "reset_timeout": 30,
        "jitter": 0,
    }
    return CircuitBreaker("payments", **(usual | options))


def failing(error: BaseException | None = None) -> Callable[[], None]:
    """Return a function that raises."""

    def fail() -> None:
        raise error or OSError("down")

    return fail


def trip(breaker: CircuitBreaker) -> None:
    """Fail twice."""
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            breaker.call(failing())


class Told(pybreaker.CircuitBreakerListener):
    """A listener written for pybreaker."""

    def __init__(self) -> None:
        self.of: list[Any] = []

    def before_call(self, cb: Any, func: Any, *args: Any, **kwargs: Any) -> None:
        """Note it."""
        self.of.append("before")

    def failure(self, cb: Any, exc: BaseException) -> None:
        """Note it."""
        self.of.append("failure")

    def success(self, cb: Any) -> None:
        """Note it."""
        self.of.append("success")

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        """Note it."""
        self.of.append((old_state.name, new_state.name))


def test_the_caller_gets_its_own_exception_even_when_it_trips() -> None:
    """The same object, for a handler may look at it."""
    breaker = breaker_of()
    error = OSError("mine")
    for _ in range(2):
        with pytest.raises(OSError, match="mine") as caught:
            breaker.call(failing(error))
        assert caught.value is error
    assert breaker.current_state == "open"


def test_a_rejection_says_what_is_known() -> None:
    """And handlers written for pybreaker catch it."""
    breaker = breaker_of(clock=(clock := ManualClock()))
    trip(breaker)
    clock.advance(10 * SECOND)
    with pytest.raises(pybreaker.CircuitBreakerError) as caught:
        breaker.call(print)
    rejected = caught.value
    assert isinstance(rejected, CircuitOpen)
    assert (rejected.name, rejected.state, rejected.retry_after) == ("payments", "open", 20.0)
    assert rejected.failure_rate == 1.0
    assert rejected.opened_at_us == clock.wall_us() - 10 * SECOND
    assert rejected.last_failure == ("builtins.OSError", "down", rejected.opened_at_us)
    assert str(rejected) == "circuit 'payments' is open; retry after 20.000 s"
    assert (rejected.code, rejected.status, rejected.details) == ("CIRCUIT_OPEN", 503, [])
    assert rejected.reason == str(rejected)
    copied = pickle.loads(pickle.dumps(rejected))
    assert (copied.name, copied.retry_after) == ("payments", 20.0)
    with pytest.raises(AttributeError):
        _ = rejected.nonsense


def test_a_forced_circuit_does_not_say_when_it_closes() -> None:
    """Nobody knows."""
    breaker = breaker_of()
    breaker.force_open()
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(print)
    assert caught.value.retry_after is None
    assert str(caught.value) == "circuit 'payments' is forced-open"


def test_listeners_hear_in_pybreakers_order() -> None:
    """Grant, failure, change; change, success; nothing of what is ignored."""
    told = Told()
    clock = ManualClock()
    breaker = breaker_of(clock=clock, listeners=[told], exclude=[KeyError])
    trip(breaker)
    with pytest.raises(CircuitOpen):
        breaker.call(print)
    clock.advance(30 * SECOND)
    breaker.call(int)
    with pytest.raises(KeyError):
        breaker.call(failing(KeyError()))
    assert told.of == [
        "before", "failure", "before", "failure", ("closed", "open"),
        ("open", "half-open"), "before", ("half-open", "closed"), "success", "before",
    ]  # fmt: skip
    breaker.remove_listener(told)
    breaker.call(int)
    assert len(told.of) == 10


def test_a_listener_that_moves_the_circuit_does_not_deadlock() -> None:
    """Its change is told after the one that it was told."""
    told = Told()

    class Resets(Told):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            if new_state.name == "open":
                cb.close()

    breaker = breaker_of(listeners=[Resets(), told])
    trip(breaker)
    assert breaker.current_state == "closed"
    assert [one for one in told.of if isinstance(one, tuple)] == [
        ("closed", "open"), ("open", "closed"),
    ]  # fmt: skip


def test_what_raises_while_it_is_told_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Listeners, classifiers and result predicates are contained, and each reported once."""

    class Raises(Told):
        def before_call(self, *_: Any, **__: Any) -> None:
            raise ValueError

        state_change = success = failure = before_call

    def confused(_: Any) -> bool:
        raise ValueError

    breaker = breaker_of(listeners=[Raises()], failed_result=confused, exclude=[confused])
    with caplog.at_level(logging.WARNING, "backendkit.resilience"):
        assert breaker.call(int) == 0
        with pytest.raises(OSError, match="down"):
            breaker.call(failing())
    assert breaker.current_state == "open"
    assert len(caplog.records) == 2


def test_exclusions_may_be_abstract_classes_and_functions() -> None:
    """An abstract class is no function: pybreaker calls it, which excludes everything."""

    class Business(abc.ABC, Exception):
        pass

    breaker = breaker_of(exclude=[Business, lambda error: "404" in str(error)])
    for error in (Business(), OSError("404"), RateLimited(), CircuitOpen(None, 1)):  # type: ignore[arg-type] # never shown
        with pytest.raises(type(error)):
            breaker.call(failing(error))
    assert breaker.fail_counter == breaker.success_counter == 0
    breaker.remove_excluded_exception(Business)
    assert breaker.is_system_error(Business())
    breaker.add_excluded_exceptions(Business)
    assert not breaker.is_system_error(Business())


def test_what_is_not_named_a_failure_is_a_success() -> None:
    """Of three kinds of outcomes, this is the second."""
    breaker = breaker_of(on=[OSError])
    with pytest.raises(ValueError, match="x"):
        breaker.call(failing(ValueError("x")))
    assert (breaker.fail_counter, breaker.success_counter) == (0, 1)


def test_a_result_may_be_a_failure() -> None:
    """The caller gets it all the same; listeners get an exception that holds it."""
    heard: list[BaseException] = []

    class Hears(Told):
        def failure(self, cb: Any, exc: BaseException) -> None:
            heard.append(exc)

    breaker = breaker_of(failed_result=lambda result: result >= 500, listeners=[Hears()])
    assert [breaker.call(lambda: 503) for _ in range(2)] == [503, 503]
    assert breaker.current_state == "open"
    assert isinstance(heard[0], FailedResult)
    assert heard[0].result == 503


def test_interrupts_pass_and_are_no_failures_unless_slow() -> None:
    """Ctrl-C is the caller's doing; a call that already hung says something."""
    clock = ManualClock()
    breaker = breaker_of(clock=clock, slow_after=1, slow_rate=0.5)

    def interrupted(after: int) -> None:
        clock.advance(after * SECOND)
        raise KeyboardInterrupt

    for after, calls in ((0, 0), (1, 1)):
        with pytest.raises(KeyboardInterrupt):
            breaker.call(interrupted, after)
        assert breaker.fail_counter == 0
        assert breaker.success_counter == calls


def test_a_cancelled_call_fails_only_if_its_deadline_had_run_out() -> None:
    """Else a timeout around a hanging dependency would never trip."""
    clock = ManualClock()
    breaker = breaker_of(clock=clock)

    async def hang() -> None:
        clock.advance(SECOND)
        raise asyncio.CancelledError

    for deadline, failures in ((None, 0), (5, 0), (1, 1)):
        with (
            pytest.raises(asyncio.CancelledError),
            context.until(clock.mono_us() + (deadline or 99) * SECOND),
        ):
            asyncio.run(breaker.call_async(hang))
        assert breaker.fail_counter == failures


def test_a_cancelled_trial_gives_its_permit_back() -> None:
    """So that a caller who leaves blocks nobody."""

    async def scene() -> None:
        breaker = breaker_of()
        breaker.half_open()
        trial = asyncio.create_task(breaker.call_async(asyncio.Event().wait))
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpen):
            await breaker.call_async(asyncio.sleep, 0)
        trial.cancel()
        await asyncio.wait([trial])
        assert trial.cancelled()
        await breaker.call_async(asyncio.sleep, 0)
        assert breaker.current_state == "closed"

    asyncio.run(scene())


def test_an_async_def_stays_one_and_counts() -> None:
    """Under either form of the decorator."""
    breaker = breaker_of()

    @breaker
    async def fail() -> None:
        raise OSError("down")

    @breaker()
    async def work(*, func: int) -> int:
        return func

    assert inspect.iscoroutinefunction(fail)
    assert asyncio.run(work(func=3)) == 3
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            asyncio.run(fail())
    with pytest.raises(CircuitOpen):
        asyncio.run(work(func=3))
    with pytest.raises(TypeError, match="call_async"):
        breaker.call(fail)  # type: ignore[unused-coroutine] # there is none


def test_a_keyword_named_func_belongs_to_the_user() -> None:
    """As does one named self."""
    breaker = breaker_of()
    assert breaker.call(dict, func=1) == {"func": 1}
    assert breaker.call(dict, self=1) == {"self": 1}


def test_blocks_are_guarded_in_both_colours() -> None:
    """Nested ones, too; a block is left where it was entered."""
    breaker = breaker_of()
    with breaker, breaker.calling():
        pass
    assert breaker.success_counter == 2

    async def scene() -> None:
        async with breaker:
            raise OSError("down")

    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            asyncio.run(scene())
    assert breaker.current_state == "open"
    with pytest.raises(CircuitOpen), breaker:
        pass
    with pytest.raises(RuntimeError, match="entered"):
        breaker.__exit__(None, None, None)


def test_a_stream_takes_its_permit_at_the_first_item() -> None:
    """It is judged at its end, and slow is what its first item took."""
    clock = ManualClock()
    breaker = breaker_of(clock=clock, slow_after=1)

    @breaker
    def stream(wait: int, *, fail: bool = False) -> Generator[int, int, str]:
        clock.advance(wait * SECOND)
        got = yield 1
        clock.advance(5 * SECOND)
        yield got
        if fail:
            raise OSError("down")
        return "end"

    stream(0).close()
    assert breaker.totals == (0, 0, 0, 0, 0)
    one = stream(0)
    assert [next(one), one.send(7)] == [1, 7]
    with pytest.raises(StopIteration, match="end"):
        next(one)
    early = stream(0)
    next(early)
    early.close()
    list(stream(1))
    with pytest.raises(OSError, match="down"):
        list(stream(0, fail=True))
    thrown = stream(0)
    next(thrown)
    with pytest.raises(KeyError):
        thrown.throw(KeyError())
    assert breaker.totals == (2, 2, 1, 1, 0)
    assert breaker.current_state == "open"
    with pytest.raises(CircuitOpen):
        list(breaker.call(stream.__wrapped__, 0))  # type: ignore[attr-defined] # what `wraps` leaves


def test_an_async_stream_likewise() -> None:
    """Sent values, thrown errors and early ends reach the source."""
    breaker = breaker_of()
    closed: list[str] = []

    @breaker
    async def stream() -> AsyncGenerator[Any, Any]:
        try:
            got = yield 1
            try:
                yield got
            except KeyError:
                yield "caught"
        finally:
            closed.append("closed")

    async def scene() -> None:
        whole = stream()
        assert [await anext(whole), await whole.asend(7)] == [1, 7]
        assert await whole.athrow(KeyError()) == "caught"
        assert [item async for item in whole] == []
        early = stream()
        await anext(early)
        await early.aclose()
        broken = stream()
        await anext(broken)
        with pytest.raises(OSError, match="down"):
            await broken.athrow(OSError("down"))

    asyncio.run(scene())
    assert closed == ["closed"] * 3
    assert breaker.totals == (1, 1, 0, 1, 0)


def test_threads_run_side_by_side() -> None:
    """No lock is held while user code runs: eight calls wait for each other inside."""
    breaker = breaker_of(failed_result=lambda result: result is None)
    inside = threading.Barrier(8, timeout=10)
    threads = [threading.Thread(target=breaker.call, args=(inside.wait,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not inside.broken
    assert breaker.totals.succeeded == 8


def test_permits_never_exceed_the_trials_among_threads_and_tasks() -> None:
    """Eight threads, two hundred tasks, three trials."""
    breaker = breaker_of(success_threshold=3)
    breaker.half_open()
    go, let_in, rejected = threading.Event(), threading.Semaphore(0), threading.Semaphore(0)

    def trial() -> None:
        let_in.release()
        go.wait(10)

    def knock() -> None:
        try:
            breaker.call(trial)
        except CircuitOpen:
            rejected.release()

    async def crowd() -> list[Any]:
        calls = [breaker.call_async(asyncio.sleep, 0) for _ in range(200)]
        return await asyncio.gather(*calls, return_exceptions=True)

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for one in threads:
        one.start()
    assert all(let_in.acquire(timeout=10) for _ in range(3))
    assert all(rejected.acquire(timeout=10) for _ in range(5))
    assert all(isinstance(answer, CircuitOpen) for answer in asyncio.run(crowd()))
    go.set()
    for one in threads:
        one.join(10)
    assert breaker.current_state == "closed"
    assert breaker.totals.succeeded == 3


def test_a_call_that_takes_long_delays_nobodys_rejection() -> None:
    """Nor the verdict of others: a trial that hangs inside holds no lock."""
    breaker = breaker_of(success_threshold=1)
    breaker.half_open()
    inside, go = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=breaker.call, args=(hang,))
    thread.start()
    assert inside.wait(10)
    for _ in range(100):
        with pytest.raises(CircuitOpen):
            breaker.call(int)
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        breaker(int)("7")
    assert thread.is_alive()
    go.set()
    thread.join(10)
    # Its outcome is of an old generation and changes nothing.
    assert breaker.current_state == "forced-open"
    assert breaker.totals == (1, 0, 0, 0, 101)


def odd_ones_fail(number: int) -> None:
    """Raise for half of the numbers."""
    if number % 2:
        raise OSError("down")


async def odd_ones_fail_async(number: int) -> None:
    """Do so after a turn of the loop."""
    await asyncio.sleep(0)
    odd_ones_fail(number)


def test_one_breaker_serves_two_loops_and_plain_threads_at_once() -> None:
    """No call is lost, and the verdict is one."""
    breaker = breaker_of(fail_max=100, success_threshold=1)
    together = threading.Barrier(4, timeout=10)
    work, plain = breaker(odd_ones_fail_async), breaker(odd_ones_fail)

    async def crowd() -> None:
        await asyncio.gather(*map(work, range(50)), return_exceptions=True)

    def in_loop() -> None:
        together.wait()
        asyncio.run(crowd())

    def in_thread() -> None:
        together.wait()
        for number in range(50):
            with suppress(OSError):
                plain(number)

    threads = [threading.Thread(target=one) for one in (in_loop, in_loop, in_thread, in_thread)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert breaker.totals == (100, 100, 0, 0, 0)
    assert breaker.fail_counter + breaker.success_counter == 100
    for _ in range(100):
        with suppress(OSError, CircuitOpen):
            plain(1)
    assert breaker.current_state == "open"
    assert isinstance(asyncio.run(_caught(work(0))), CircuitOpen)


async def _caught(call: Any) -> BaseException | None:
    return (await asyncio.gather(call, return_exceptions=True))[0]


def test_state_is_pybreakers() -> None:
    """Objects of its classes, names to assign, calls through the state, counters and a storage to read."""
    breaker = breaker_of(clock=(clock := ManualClock()))
    storage = breaker._state_storage
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    assert isinstance(breaker.state, pybreaker.CircuitClosedState)
    never = storage.opened_at
    assert never is None
    assert breaker.state.call(int, "7") == 7
    assert asyncio.run(breaker.state.call_async(asyncio.sleep, 0, 3)) == 3
    assert (storage.counter, storage.success_counter) == (0, 2)
    assert breaker.open() is False
    assert isinstance(breaker.state, pybreaker.CircuitOpenState)
    assert storage.opened_at is not None
    assert storage.opened_at.timestamp() == clock.wall_us() / SECOND
    with pytest.raises(CircuitOpen):
        breaker.state.call(int)
    storage.state = "half-open"
    assert isinstance(breaker.state, pybreaker.CircuitHalfOpenState)
    for name in ("forced-open", "disabled", "metrics-only", "closed"):
        breaker.state = name
        current: Any = breaker.state
        assert current.name == breaker.current_state == storage.state == name
    breaker.disable()
    breaker.measure_only()
    assert breaker.current_state == "metrics-only"
    with pytest.raises(ValueError, match="one of closed"):
        breaker.state = "ajar"


def test_options_that_make_no_sense_change_nothing() -> None:
    """Neither what decides, nor what is shown, nor what later options are added to."""
    breaker = CircuitBreaker("x", window=10, minimum_calls=2)
    before = breaker.policy
    with pytest.raises(InvalidArgument, match="minimum_calls"):
        breaker.reconfigure(minimum_calls=50)
    assert breaker.policy == before
    breaker.reconfigure(window=20)
    assert (breaker.policy.window, breaker.policy.minimum_calls) == (20, 2)


def test_pybreakers_numbers_map_and_may_be_set_later() -> None:
    """Failures in a row, a fixed time, trials of which none may fail."""
    breaker = breaker_of(fail_max=3, reset_timeout=9, success_threshold=4)
    assert (breaker.fail_max, breaker.reset_timeout, breaker.success_threshold) == (3, 9.0, 4)
    breaker.fail_max, breaker.reset_timeout, breaker.success_threshold = 2, 5, 2
    assert breaker.policy.window == 2
    trip(breaker)
    breaker.half_open()
    breaker.call(int)
    with pytest.raises(OSError, match="down"):
        breaker.call(failing())
    assert breaker.current_state == "open"


def test_what_it_cannot_be_is_refused() -> None:
    """With a reason."""
    with pytest.raises(InvalidArgument, match="atomically"):
        breaker_of(state_storage=pybreaker.CircuitMemoryStorage("closed"))
    with pytest.raises(InvalidArgument, match="throw_new_error_on_trip"):
        breaker_of(throw_new_error_on_trip=True)
    with pytest.raises(TypeError, match="'fial_max'"):
        breaker_of(fial_max=1)
    with pytest.raises(InvalidArgument, match="name"):
        CircuitBreaker(5)  # type: ignore[arg-type] # pybreaker's first argument was a number


def test_moves_are_events_and_calls_are_totals() -> None:
    """Hooks hear of moves, with the share that caused them."""
    breaker = breaker_of()
    events: list[Event] = []
    breaker.hooks.add(events.append)
    breaker.name = "cards"
    trip(breaker)
    breaker.measure_only()
    trip(breaker)
    opened, measured, strained = events
    assert isinstance(opened, CircuitTransition)
    assert (opened.circuit, opened.old, opened.new) == ("cards", "closed", "open")
    assert opened.failure_rate == 1.0
    assert isinstance(measured, CircuitTransition)
    assert strained == CircuitStrained("cards", 2, 2)
    assert breaker.totals.failed == 4


def test_a_failure_that_cannot_be_shown_is_a_failure_all_the_same() -> None:
    """Its text stays empty; a retry_after that is no time is none."""

    class Mute(Exception):
        retry_after = float("nan")

        def __str__(self) -> str:
            raise ValueError

    breaker = breaker_of(fail_max=1)
    with pytest.raises(Mute):
        breaker.call(failing(Mute()))
    assert breaker.last_failure is not None
    assert breaker.last_failure.message == ""
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(int)
    assert caught.value.retry_after == 30.0


def test_a_retry_after_of_the_failure_is_passed_on() -> None:
    """To whoever is rejected because of it: an error's own, that of its response, that of a failed result."""

    class Response:
        status_code = 503
        headers: ClassVar = {"Retry-After": "120"}

    class StatusError(Exception):
        response = Response()

    for error in (AppError(retry_after=120), StatusError()):
        breaker = breaker_of(fail_max=1)
        with pytest.raises(type(error)):
            breaker.call(failing(error))
        with pytest.raises(CircuitOpen) as caught:
            breaker.call(int)
        assert caught.value.retry_after == 120.0
    breaker = breaker_of(fail_max=1, failed_result=lambda result: result.status_code >= 500)
    breaker.call(Response)
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(int)
    assert caught.value.retry_after == 120.0


def test_an_error_that_cannot_be_asked_is_raised_as_it_is() -> None:
    """What it says of waiting is a property that raises."""

    class Odd(Exception):
        @property
        def retry_after(self) -> float:
            raise RuntimeError("not yet")

    breaker = breaker_of(fail_max=1)
    with pytest.raises(Odd):
        breaker.call(failing(Odd()))
    assert breaker.current_state == "open"


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(["ok", "ok", "ok", "ok", "fail", "slow", "skip", "wait"]), max_size=60
    ),
    window=st.one_of(
        st.integers(2, 5), st.sampled_from([timedelta(seconds=20), timedelta(seconds=400)])
    ),
    slow=st.booleans(),
    colour=st.sampled_from(["sync", "async"]),
)
def test_the_short_way_comes_to_the_same_as_the_long_way(
    steps: list[str], window: int | timedelta, slow: bool, colour: str
) -> None:
    """Decorated calls against `call`, over random histories, in either colour."""
    clocks = ManualClock(), ManualClock()
    policy = BreakerPolicy(
        window=window, minimum_calls=2, slow_after=1 if slow else None, slow_rate=0.6, jitter=0
    )
    short, long = (
        CircuitBreaker("x", policy=policy, clock=clock, exclude=[KeyError]) for clock in clocks
    )

    decorated, plain = short(_act_async), short(_act)

    def quick(step: str) -> str:
        if colour == "async":
            return asyncio.run(decorated(clocks[0], step))
        return plain(clocks[0], step)

    for step in steps:
        if step == "wait":
            for clock in clocks:
                clock.advance(10 * SECOND)
            continue
        assert _outcome(quick, step) == _outcome(
            lambda step: long.call(_act, clocks[1], step), step
        )
        assert short.current_state == long.current_state
        assert short.totals == long.totals
        assert short.fail_counter == long.fail_counter
        assert short.success_counter == long.success_counter


def _act(clock: ManualClock, step: str) -> str:
    if step in {"fail", "skip"}:
        raise OSError if step == "fail" else KeyError
    clock.advance(SECOND if step == "slow" else 0)
    return step


async def _act_async(clock: ManualClock, step: str) -> str:
    return _act(clock, step)


def _outcome(call: Callable[[str], Any], step: str) -> Any:
    try:
        return call(step)
    except CircuitOpen as rejected:
        return rejected.retry_after
    except Exception as error:  # noqa: BLE001 - compared
        return type(error)


def test_the_short_way_forgets_what_an_order_emptied() -> None:
    """Good calls before it, and one that began before it, are in no window after it."""
    breaker = breaker_of(fail_max=9)
    well = breaker(int)

    @breaker
    def closes() -> None:
        breaker.close()

    for _ in range(3):
        well()
    closes()
    assert breaker.success_counter == 0
    well()
    breaker.close()
    assert breaker.success_counter == 0
    assert breaker.totals.succeeded == 5


def test_each_rejection_tells_of_its_own_opening() -> None:
    """What a rejection is made of is kept from one to the next, but not beyond its opening."""
    breaker = breaker_of(fail_max=1)
    for text in ("first", "second"):
        fail = breaker(failing(OSError(text)))
        with pytest.raises(OSError, match=text):
            fail()
        told = []
        for _ in range(2):
            with pytest.raises(CircuitOpen) as caught:
                fail()
            told.append(caught.value.last_failure)
        assert [info and info.message for info in told] == [text, text]
        breaker.close()


def test_an_object_whose_call_is_a_coroutine_function_is_one() -> None:
    """Its failures count, and `call` refuses it."""

    class Client:
        async def __call__(self) -> None:
            raise OSError("down")

    breaker = breaker_of(fail_max=1)
    with pytest.raises(TypeError, match="call_async"):
        _ = breaker.call(Client())
    guarded = breaker(Client())
    assert inspect.iscoroutinefunction(guarded)
    assert inspect.iscoroutinefunction(breaker(AsyncMock()))
    assert breaker.call(partial(int, "7")) == 7
    with pytest.raises(OSError, match="down"):
        asyncio.run(guarded())
    assert breaker.current_state == "open"


def test_a_rejection_shows_no_text_of_another_call() -> None:
    """It may be asked for it, but a record that shows the error does not tell it."""
    breaker = breaker_of(fail_max=1)
    with pytest.raises(OSError, match="s3cret"):
        breaker.call(failing(OSError("postgres://app:s3cret@db")))
    with pytest.raises(CircuitOpen) as caught:
        breaker.call(int)
    assert "s3cret" not in f"{caught.value!r} {caught.value}"
    assert caught.value.last_failure is not None
    assert caught.value.last_failure.message == "postgres://app:s3cret@db"


def test_a_slow_stream_that_is_closed_early_is_ignored() -> None:
    """Nobody waited for its end; what its beginning took is no verdict."""
    clock = ManualClock()
    breaker = breaker_of(clock=clock, slow_after=1)

    @breaker
    def stream() -> Generator[int]:
        clock.advance(2_000_000)
        yield 1

    items = stream()
    assert next(items) == 1
    items.close()
    assert breaker.totals == (0, 0, 0, 1, 0)
    assert list(stream()) == [1]
    assert breaker.totals == (1, 0, 1, 1, 0)


def test_what_is_excluded_is_ignored_even_if_slow() -> None:
    """It says nothing about the dependency, however long it took to say it."""
    clock = ManualClock()
    breaker = breaker_of(clock=clock, slow_after=1, exclude=(LookupError,))

    def late() -> None:
        clock.advance(2_000_000)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        breaker.call(late)
    assert breaker.totals == (0, 0, 0, 1, 0)
