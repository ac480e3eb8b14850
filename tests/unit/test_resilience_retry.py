"""Retries: tenacity's engine behind an ordinary first attempt, bounded by attempts, time and a budget."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import AppError, InvalidArgument
from backendkit.core.events import Event
from backendkit.resilience import (
    Budget,
    CallRetried,
    CircuitBreaker,
    CircuitOpen,
    Retry,
    full_jitter,
)
from backendkit.resilience.asked import asked_us, parse_us

SECOND = 1_000_000
COLOURS = ("sync", "async")


class Flaky:
    """Fails so many times, then answers; notes when it was called."""

    def __init__(
        self, clock: ManualClock, failures: int, error: Any = OSError, takes: int = 0
    ) -> None:
        self.clock, self.failures, self.error, self.takes = clock, failures, error, takes
        self.at: list[int] = []
        self.raised: list[BaseException] = []

    def __call__(self) -> int:
        """Fail, or return how often it was called."""
        self.at.append(self.clock.mono_us())
        self.clock.advance(self.takes)
        if len(self.at) <= self.failures:
            error = self.error() if callable(self.error) else self.error
            self.raised.append(error)
            raise error
        return len(self.at)


def run(retry: Retry, work: Callable[[], Any], colour: str) -> Any:
    """Call in one colour or the other."""
    if colour == "sync":
        return retry.call(work)

    async def awaited() -> Any:
        return work()

    return asyncio.run(retry.call_async(awaited))


def retry_of(clock: ManualClock, **options: Any) -> Retry:
    """Make a retry on a clock that stands, with pauses of a second."""
    usual: dict[str, Any] = {
        "on": (OSError,),
        "attempts": 4,
        "backoff": lambda _: 1.0,
        "clock": clock,
    }
    return Retry(**(usual | options))


class Response:
    """What a client library returns."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class StatusError(Exception):
    """What a client library raises for a response."""

    def __init__(self, response: Response) -> None:
        self.response = response


@pytest.mark.parametrize("colour", COLOURS)
def test_it_tries_again_and_gives_up_with_the_last_error(colour: str) -> None:
    """The same object, after exactly so many attempts and pauses."""
    clock = ManualClock()
    assert run(retry_of(clock), flaky := Flaky(clock, 2), colour) == 3
    assert flaky.at == [0, SECOND, 2 * SECOND]
    clock = ManualClock()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - it is looked at
        run(retry_of(clock), flaky := Flaky(clock, 9), colour)
    assert caught.value is flaky.raised[-1]
    assert flaky.at == [0, SECOND, 2 * SECOND, 3 * SECOND]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "error", [KeyError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]
)
def test_what_is_not_named_is_never_repeated(error: type[BaseException], colour: str) -> None:
    """Above all no cancellation, even after an error that is repeated, and even where a function would say so."""
    for before in ([], [OSError]):
        clock = ManualClock()
        errors: list[Any] = [*before, error, OSError]
        flaky = Flaky(clock, 9, lambda errors=errors: errors.pop(0)())
        on = (OSError, lambda raised: not isinstance(raised, Exception))
        with pytest.raises(error):
            run(retry_of(clock, on=on), flaky, colour)
        assert len(flaky.at) == len(before) + 1


def test_a_task_that_is_cancelled_in_its_pause_ends() -> None:
    """And the function is not called again."""

    async def scene() -> None:
        clock, gate = ManualClock(), asyncio.Event()

        class Waits(ManualClock):
            async def sleep_async(self, us: int) -> None:
                gate.set()
                await asyncio.Event().wait()

        flaky = Flaky(clock, 9)

        async def work() -> int:
            return flaky()

        task = asyncio.create_task(retry_of(Waits()).call_async(work))
        await gate.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert len(flaky.at) == 1

    asyncio.run(scene())


@given(
    seed=st.integers(),
    attempt=st.integers(1, 60),
    base=st.floats(0, 10),
    cap=st.floats(0, 100),
    growth=st.integers(1, 10),
)
def test_full_jitter_stays_within_its_bound_and_repeats_itself_by_seed(
    seed: int, attempt: int, base: float, cap: float, growth: int
) -> None:
    """Even draws from nothing up to `min(cap, base * growth**(attempt - 1))`."""
    state: Any = type("State", (), {"attempt_number": attempt})
    one, other = (
        full_jitter(base, cap=cap, growth=growth, chance=random.Random(seed).random) for _ in "ab"
    )
    drawn = [one(state) for _ in range(5)]
    bound = min(cap, base * float(growth) ** (attempt - 1))
    assert all(0 <= pause <= bound + 2e-6 * growth**5 for pause in drawn)
    assert drawn == [other(state) for _ in range(5)]
    assert full_jitter(base, cap=cap, growth=growth, chance=lambda: 0.5)(state) == pytest.approx(
        one.bound_us(attempt) / 2 / SECOND
    )


def test_pauses_grow_up_to_their_cap() -> None:
    """By exact figures."""
    jitter = full_jitter(0.1, cap=5, growth=3)
    assert [jitter.bound_us(n) for n in (1, 2, 3, 4, 5, 99)] == [
        100_000, 300_000, 900_000, 2_700_000, 5_000_000, 5_000_000,
    ]  # fmt: skip


@pytest.mark.parametrize("colour", COLOURS)
def test_a_retry_after_is_honoured_as_given(colour: str) -> None:
    """Seconds of an error, seconds and dates of a response; only where the status means it."""
    clock = ManualClock(wall_us=1_790_000_000 * SECOND)
    date = format_datetime(datetime.fromtimestamp(1_790_000_007, UTC), usegmt=True)
    for error, pause in (
        (AppError(retry_after=2.5), 2.5),
        (StatusError(Response(429, Retry_After="3")), 3),
        (StatusError(Response(503, Retry_After=date)), 7),
        (StatusError(Response(500, Retry_After="3")), 1),
        (StatusError(Response(503, Retry_After="soon")), 1),
        (StatusError(Response(503)), 1),
    ):
        clock = ManualClock(wall_us=1_790_000_000 * SECOND)
        flaky = Flaky(clock, 1, error)
        run(retry_of(clock, on=(Exception,)), flaky, colour)
        assert flaky.at == [0, pause * SECOND]


def test_what_a_retry_after_may_say() -> None:
    """Nonsense says nothing; what has passed is now; nothing is longer than a day."""
    now = 1_790_000_000 * SECOND
    day = 86_400 * SECOND
    assert [parse_us(text, now) for text in ("0", " 12 ", "9" * 40, "-1", "1.5", "", "²", "x" * 99)] == [
        0, 12 * SECOND, day, None, None, None, None, None,
    ]  # fmt: skip
    assert parse_us("Sun, 06 Nov 1994 08:49:37 GMT", now) == 0
    assert parse_us("Sun, 06 Nov 2094 08:49:37 GMT", now) == day
    assert parse_us("Sun, 99 Nov 2094 08:49:37 GMT", now) is None
    assert parse_us("Mon, 21 Sep 2026 14:13:27 -0000", now) == 7 * SECOND
    for odd in (True, float("nan"), float("inf"), "3"):
        assert asked_us(type("Odd", (), {"retry_after": odd})(), now) is None
    assert asked_us(type("Odd", (), {"retry_after": -3})(), now) == 0
    assert asked_us(type("Odd", (), {"headers": 5, "status_code": 503})(), now) is None
    assert asked_us(type("Odd", (), {"headers": {}, "status_code": 503})(), now) is None
    assert asked_us(None, now) is None


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("left", "attempts"), [(3.0, 3), (3.1, 4), (1.0, 1), (0.5, 1), (100.0, 4)])
def test_no_pause_is_begun_that_does_not_end_before_the_deadline(
    left: float, attempts: int, colour: str
) -> None:
    """The failure is raised at once, and no time passes."""
    clock = ManualClock()
    flaky = Flaky(clock, 9)
    with context.until(int(left * SECOND)), pytest.raises(OSError):  # noqa: PT011 - any will do
        run(retry_of(clock), flaky, colour)
    assert len(flaky.at) == attempts
    assert clock.mono_us() == flaky.at[-1]
    within = Flaky(clock := ManualClock(), 9)
    with pytest.raises(OSError):  # noqa: PT011 - as above
        run(retry_of(clock, within=left), within, colour)
    assert len(within.at) == attempts


@pytest.mark.parametrize("colour", COLOURS)
def test_a_retry_after_past_the_deadline_or_the_longest_wait_ends_it(colour: str) -> None:
    """It is never cut short: asking earlier than told only burns attempts."""
    for asked, attempts in ((9.9, 2), (10, 1), (60, 1)):
        flaky = Flaky(clock := ManualClock(), 1, AppError(retry_after=asked))
        with context.until(10 * SECOND):
            if attempts == 1:
                with pytest.raises(AppError):
                    run(retry_of(clock, on=(AppError,)), flaky, colour)
            else:
                run(retry_of(clock, on=(AppError,)), flaky, colour)
        assert len(flaky.at) == attempts
    for longest, attempts in ((59, 1), (60, 2)):
        flaky = Flaky(clock := ManualClock(), 1, AppError(retry_after=60))
        retry = retry_of(clock, on=(AppError,), longest_wait=longest)
        if attempts == 1:
            with pytest.raises(AppError):
                run(retry, flaky, colour)
        assert attempts == 1 or run(retry, flaky, colour) == 2
    flaky = Flaky(clock := ManualClock(), 1)
    assert run(retry_of(clock, backoff=lambda _: 99.0), flaky, colour) == 2


@pytest.mark.parametrize("colour", COLOURS)
def test_no_attempt_begins_after_the_deadline_even_if_a_pause_was_longer_than_meant(
    colour: str,
) -> None:
    """A machine under load sleeps longer than it was told."""

    class Oversleeps(ManualClock):
        def sleep(self, us: int) -> None:
            self.advance(us + 5 * SECOND)

        async def sleep_async(self, us: int) -> None:
            self.sleep(us)

    flaky = Flaky(clock := Oversleeps(), 9)
    with context.until(3 * SECOND), pytest.raises(OSError) as caught:  # noqa: PT011 - as above
        run(retry_of(clock), flaky, colour)
    assert caught.value is flaky.raised[0]
    assert len(flaky.at) == 1
    results = iter((503, 200))
    with context.until(clock.mono_us() + 3 * SECOND):
        judged = retry_of(clock, failed_result=lambda status: status == 503)
        assert run(judged, lambda: next(results), colour) == 503


@pytest.mark.parametrize("colour", COLOURS)
def test_an_open_circuit_is_waited_for_only_within_a_bound(colour: str) -> None:
    """It has to say for how long, and that has to end before the deadline."""
    for left, calls in ((None, 1), (20, 1), (31, 2)):
        clock = ManualClock()
        breaker = CircuitBreaker("x", clock=clock, jitter=0, trials=1, open_for=30)
        breaker.open()
        tried: list[int] = []

        def guarded(tried: list[int] = tried, breaker: CircuitBreaker = breaker) -> str:
            tried.append(1)
            return breaker.call(str)

        retry = retry_of(clock, on=(Exception,))
        with context.until(left * SECOND if left else 2**52):
            if left is None:
                with pytest.raises(CircuitOpen):
                    run(retry_of(clock, on=(Exception,), longest_wait=29), guarded, colour)
            elif calls == 1:
                with pytest.raises(CircuitOpen):
                    run(retry, guarded, colour)
            else:
                assert run(retry, guarded, colour) == ""
        assert len(tried) == calls
    clock = ManualClock()
    breaker = CircuitBreaker("x", clock=clock)
    for open_up in (breaker.open, breaker.force_open):
        open_up()
        with pytest.raises(CircuitOpen):
            run(retry_of(clock, on=(Exception,)), lambda: breaker.call(str), colour)
        assert clock.mono_us() == 0
    with context.until(99 * SECOND), pytest.raises(CircuitOpen):
        run(retry_of(clock, on=(Exception,)), lambda: breaker.call(str), colour)
    assert clock.mono_us() == 0


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("judges", [False, True])
def test_it_makes_the_attempts_that_tenacity_makes(colour: str, judges: bool) -> None:
    """By tenacity's own account: numbers, times since the true start, outcomes, pauses, hooks; by either way."""

    def told(state: tenacity.RetryCallState) -> tuple[Any, ...]:
        assert state.outcome is not None
        return (
            state.attempt_number,
            state.outcome.exception() is flaky.raised[state.attempt_number - 1],
            state.idle_for,
            state.seconds_since_start is not None and state.seconds_since_start >= 10,
        )

    accounts: list[tuple[Any, ...]] = []
    flaky = Flaky(clock := ManualClock(), 9, takes=10 * SECOND)
    retry = retry_of(
        clock,
        attempts=9,
        stop=tenacity.stop_after_attempt(3),
        after=lambda state: accounts.append(told(state)),
        before_sleep=lambda state: accounts.append((state.next_action.sleep,)),
        failed_result=(lambda _: False) if judges else None,
    )
    with pytest.raises(OSError):  # noqa: PT011 - any
        run(retry, flaky, colour)
    # Judged calls begin with the engine, whose own clock stands while a manual one moves.
    late = not judges
    assert accounts == [
        (1, True, 0.0, late), (1.0,), (2, True, 1.0, late), (1.0,), (3, True, 2.0, late),
    ]  # fmt: skip


@pytest.mark.parametrize("colour", COLOURS)
def test_results_may_be_judged_and_attempts_announced(colour: str) -> None:
    """The last result is returned, whatever it is; a raising judge repeats nothing."""
    answers = iter([503, 503, 200])
    clock, before = ManualClock(), list[int]()
    retry = retry_of(
        clock,
        failed_result=lambda status: status == 503,
        before=lambda state: before.append(state.attempt_number),
    )
    assert run(retry, lambda: next(answers), colour) == 200
    assert before == [1, 2, 3]
    assert run(retry, lambda: 503, colour) == 503
    confused = retry_of(clock, failed_result=lambda status: status > 5)
    assert run(confused, lambda: "text", colour) == "text"
    told = retry_of(clock, failed_result=lambda answer: answer.status_code == 429)
    answers_of = iter([Response(429, Retry_After="9"), Response(200)])
    started = clock.mono_us()
    assert run(told, lambda: next(answers_of), colour).status_code == 200
    assert clock.mono_us() - started == 9 * SECOND


def test_a_classifier_that_raises_repeats_nothing_and_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller gets the function's own error."""

    def confused(_: Exception) -> bool:
        raise ValueError

    retry = retry_of(ManualClock(), on=(confused,))
    for _ in range(2):
        with pytest.raises(OSError, match="mine"):
            retry.call(Flaky(ManualClock(), 1, OSError("mine")))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_try_again_is_tenacitys(colour: str) -> None:
    """It repeats whatever `on` says; what caused it is raised in the end."""
    clock = ManualClock()

    def again() -> None:
        raise tenacity.TryAgain from KeyError("cause")

    with pytest.raises(KeyError, match="cause"):
        run(retry_of(clock), again, colour)
    assert clock.mono_us() == 3 * SECOND


def test_a_function_stays_what_it_is_and_streams_are_repeated_up_to_their_first_item() -> None:
    """What has been handed out cannot be taken back."""
    clock = ManualClock()
    retry = retry_of(clock)
    begun: list[str] = []

    @retry
    def stream(failures: int) -> Generator[Any, Any, str]:
        begun.append("sync")
        if len(begun) <= failures:
            raise OSError("first")
        got = yield 1
        yield got
        raise OSError("later")

    @retry
    async def astream(failures: int) -> AsyncGenerator[Any, Any]:
        begun.append("async")
        if len(begun) <= failures:
            raise OSError("first")
        got = yield 1
        yield got
        raise OSError("later")

    one = stream(2)
    assert not begun
    assert [next(one), one.send(7)] == [1, 7]
    assert len(begun) == 3
    with pytest.raises(OSError, match="later"):
        next(one)
    assert len(begun) == 3
    begun.clear()

    async def scene() -> None:
        other = astream(2)
        assert not begun
        assert [await anext(other), await other.asend(7)] == [1, 7]
        with pytest.raises(OSError, match="later"):
            await anext(other)
        assert len(begun) == 3

    asyncio.run(scene())
    with pytest.raises(TypeError, match="call_async"):
        retry.call(scene)  # type: ignore[unused-coroutine] # there is none


def test_repetitions_are_told() -> None:
    """Each one, with its pause; not what ended it."""
    told: list[Event] = []
    clock = ManualClock()
    retry = retry_of(clock, name="charges")
    retry.hooks.add(told.append)
    retry.call(Flaky(clock, 2))
    assert told == [CallRetried("charges", n, SECOND, "builtins.OSError") for n in (1, 2)]
    assert (retry.name, retry.budget) == ("charges", None)


def test_a_thousand_failing_calls_make_at_most_twelve_hundred_attempts_and_the_reserve() -> None:
    """However many each of them would be allowed."""
    clock = ManualClock()
    budget = Budget(0.2, reserve=10, per_second=0, clock=clock)
    retry = retry_of(clock, budget=budget, backoff=lambda _: 0.0, attempts=5)
    flaky = Flaky(clock, 10**9)
    for _ in range(1000):
        with pytest.raises(OSError):  # noqa: PT011 - any
            retry.call(flaky)
    assert len(flaky.at) == 1210
    assert (budget.spent, retry.budget) == (210, budget)


@settings(max_examples=200)
@given(
    steps=st.lists(
        st.one_of(st.just("call"), st.just("take"), st.integers(1, 3_000_000)), max_size=60
    ),
    reserve=st.integers(0, 5),
    share=st.sampled_from([0.1, 0.2, 0.5, 1]),
    per_second=st.sampled_from([0, 0.5, 3]),
)
def test_a_budget_against_fractions(
    steps: list[Any], reserve: int, share: float, per_second: float
) -> None:
    """Never more than share, reserve and time pay for; exactly what a bucket of fractions would give without time."""
    clock = ManualClock()
    budget = Budget(share, reserve=reserve, per_second=per_second, most=7, clock=clock)
    tokens, most = reserve * 10**6, max(7, reserve) * 10**6
    calls = taken = elapsed = 0
    for step in steps:
        if step == "call":
            budget.calls += 1
            calls += 1
            tokens = min(most, tokens + round(share * 10**6))
        elif step == "take":
            given_ = budget.take()
            taken += given_
            assert per_second or given_ == (tokens >= 10**6)
            tokens -= given_ * 10**6
        else:
            clock.advance(step)
            elapsed += step
        assert taken <= share * calls + reserve + per_second * elapsed / SECOND
    assert budget.spent == taken


def test_a_budget_fills_with_time_up_to_its_reserve_only() -> None:
    """What calls brought above that stays."""
    clock = ManualClock()
    budget = Budget(1.0, reserve=3, per_second=2, most=5, clock=clock)
    for _ in range(3):
        assert budget.take()
    assert not budget.take()
    assert budget.refused == 1
    clock.advance(SECOND)
    assert budget.left == 2.0
    clock.advance(99 * SECOND)
    assert budget.left == 3.0
    budget.calls += 50
    assert budget.left == 5.0
    clock.advance(99 * SECOND)
    assert budget.left == 5.0


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Retry(on=OSError), "on"),  # type: ignore[arg-type] # one, not several
        (lambda: Retry(on=("OSError",)), "on"),  # type: ignore[arg-type] # a name
        (lambda: Retry(on=(int,)), "on"),  # type: ignore[arg-type] # no error
        (lambda: Retry(on=(), attempts=0), "attempts"),
        (lambda: Retry(on=(), within=0), "within"),
        (lambda: Retry(on=(), name=""), "name"),
        (lambda: Retry(on=(), longest_wait=-1), "longest_wait"),
        (lambda: full_jitter(-1), "base"),
        (lambda: full_jitter(1, growth=0), "growth"),
        (lambda: Budget(0), "share"),
        (lambda: Budget(reserve=-1), "reserve"),
        (lambda: Budget(per_second=float("nan")), "per_second"),
        (lambda: Budget(most=0), "most"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(make: Callable[[], Any], argument: str) -> None:
    """Where it is made, by name."""
    with pytest.raises(InvalidArgument) as refused:
        make()
    assert refused.value.argument == argument
