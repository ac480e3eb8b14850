"""Pipelines, and the policies that are mostly seen in them: fallback, hedge, chaos."""

from __future__ import annotations

import asyncio
import random
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.resilience import (
    Budget,
    Bulkhead,
    BulkheadFull,
    CallTimeout,
    Chaos,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    Fallback,
    HarmfulOrder,
    Hedge,
    NothingStarted,
    Pipeline,
    Policy,
    Retry,
    Timeout,
)
from tests.ground.loops import passes, run_manually

SECOND = 1_000_000


def whole(clock: ManualClock, **options: Any) -> tuple[Pipeline, CircuitBreaker, Bulkhead]:
    """Make a pipeline of everything."""
    breaker = CircuitBreaker(
        "x", clock=clock, jitter=0, minimum_calls=options.get("minimum", 4), window=10, lease=60
    )
    bulkhead = Bulkhead(2, max_wait=1, clock=clock)
    layers = (
        Fallback.value("fallback", on=(CircuitOpen,)),
        Deadline(20, clock=clock),
        Retry(on=(OSError,), attempts=3, backoff=lambda _: 1.0, clock=clock),
        Hedge(3, clock=clock),
        breaker,
        Timeout(5, clock=clock),
        bulkhead,
        Chaos(rate=1, fault=ValueError, clock=clock),
    )
    return Pipeline.canonical(*reversed(layers)), breaker, bulkhead


def test_one_object_serves_every_kind_of_function() -> None:
    """Which stays what it is, and is called through every layer."""
    clock = ManualClock()
    pipeline, breaker, bulkhead = whole(clock, minimum=10)
    seen: list[Any] = []

    def look() -> None:
        seen.append((context.deadline_us(), bulkhead.running))

    def work(failures: list[int], *, value: int) -> int:
        look()
        if failures:
            failures.pop()
            raise OSError("down")
        return value

    plain = pipeline(work)

    @pipeline
    async def coroutine(failures: list[int], *, value: int) -> int:
        return work(failures, value=value)

    @pipeline
    def stream(failures: list[int], *, value: int) -> Generator[int, None, str]:
        yield work(failures, value=value)
        look()
        yield 2
        return "end"

    @pipeline
    async def astream(failures: list[int], *, value: int) -> AsyncGenerator[int, None]:
        yield work(failures, value=value)
        look()
        yield 2

    async def collected(items: AsyncGenerator[int, None]) -> list[int]:
        return [item async for item in items]

    assert plain([1], value=7) == 7
    assert run_manually(coroutine([1], value=7), clock) == 7
    assert list(stream([1], value=7)) == [7, 2]
    assert run_manually(collected(astream([1], value=7)), clock) == [7, 2]
    assert pipeline.call(work, [], value=1) == 1
    assert list(pipeline.call(stream.__wrapped__, [], value=1)) == [1, 2]  # type: ignore[attr-defined] # what `wraps` leaves
    assert run_manually(pipeline.call_async(coroutine.__wrapped__, [], value=1), clock) == 1  # type: ignore[attr-defined] # as above
    assert breaker.totals == (7, 4, 0, 0, 0)
    assert all(running == 1 for _, running in seen)
    assert bulkhead.running == 0
    assert context.deadline_us() is None
    # A first item has the timeout's moment, a later one only the deadline's.
    first, later = seen[3][0] or 0, seen[6][0] or 0
    assert first - clock.mono_us() + 20 * SECOND > 0
    assert later > first


def test_the_usual_order() -> None:
    """From the outside in, whatever order the layers came in."""
    pipeline, _, _ = whole(ManualClock())
    assert [type(layer).__name__ for layer in pipeline.layers] == [
        "Fallback", "Deadline", "Retry", "Hedge", "CircuitBreaker", "Timeout", "Bulkhead", "Chaos",
    ]  # fmt: skip
    twice = Pipeline(Fallback.value(1), Pipeline(Deadline(1), Pipeline(Timeout(1))))
    assert [type(layer) for layer in twice.layers] == [Fallback, Deadline, Timeout]


def test_another_order_is_kept() -> None:
    """What is outer goes first: a deadline inside a fallback, and the other way round."""
    clock = ManualClock()

    def handler() -> int | None:
        return context.deadline_us()

    def fail() -> int | None:
        raise OSError("down")

    assert Pipeline(Deadline(1, clock=clock), Fallback(handler)).call(fail) == SECOND
    assert Pipeline(Fallback(handler), Deadline(1, clock=clock)).call(fail) is None


def retry() -> Retry:
    """Make one."""
    return Retry(on=(OSError,))


BREAKER = CircuitBreaker("x")

HARMFUL: list[tuple[Callable[[], tuple[Any, ...]], str]] = [
    (lambda: (BREAKER, retry()), "Retry inside CircuitBreaker"),
    (lambda: (BREAKER, Fallback.value(1)), "Fallback inside CircuitBreaker"),
    (lambda: (retry(), Fallback.value(1)), "Fallback inside Retry"),
    (lambda: (retry(), Deadline(1)), "Deadline inside Retry"),
    (lambda: (Bulkhead(1), retry()), "Retry inside Bulkhead"),
    (lambda: (Hedge(1), retry()), "Retry inside Hedge"),
    (lambda: (Timeout(1), retry()), "Timeout around Retry"),
    (lambda: (retry(), retry()), "Retry occurs more than once"),
    (lambda: (CircuitBreaker("y", lease=2), Timeout(2)), "lease of breaker 'y'"),
]
HARMLESS: list[Callable[[], tuple[Any, ...]]] = [
    lambda: (Timeout(1), Deadline(1), retry()),
    lambda: (CircuitBreaker("y", lease=2), Timeout(1.9)),
    lambda: (Chaos(rate=1), Timeout(1), BREAKER),
    lambda: (BREAKER, Bulkhead(1), Bulkhead(2)),
]


@pytest.mark.parametrize(("make", "text"), HARMFUL)
def test_an_order_that_defeats_its_layers_is_warned_about(
    make: Callable[[], tuple[Any, ...]], text: str
) -> None:
    """Where it is made, through nested pipelines as well; the other way round it is not."""
    layers = make()
    with pytest.warns(HarmfulOrder, match=text) as told:
        Pipeline(*layers)
    assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(HarmfulOrder, match=text):
        Pipeline(Pipeline(layers[0]), Pipeline(layers[1]))
    if "lease" not in text and "once" not in text:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Pipeline(*reversed(layers))


@pytest.mark.parametrize("make", HARMLESS)
def test_other_orders_are_not(make: Callable[[], tuple[Any, ...]]) -> None:
    """They may be meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pipeline(*make())


def test_only_policies_are_layers() -> None:
    """A function is none."""
    with pytest.raises(InvalidArgument, match="layers"):
        Pipeline(print)  # type: ignore[arg-type] # wrong on purpose
    assert Pipeline().call(int, "7") == 7
    assert Policy().call(int, "7") == 7


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(["ok", "ok", "ok", "down", "hang", "mine", "wait"]), max_size=25
    ),
    colour=st.sampled_from(["sync", "async"]),
)
def test_a_pipeline_does_what_its_layers_do_one_around_the_other(
    steps: list[str], colour: str
) -> None:
    """Composed, against decorators stacked by hand around the long way of the breaker."""
    clocks = ManualClock(), ManualClock()
    one, breaker, _ = whole(clocks[0])
    other, long, _ = whole(clocks[1])
    # A listener keeps a breaker on its long way.
    long.add_listener(Silent())
    for step in steps:
        outcomes = [
            _outcome(pipeline, clock, step, colour)
            for pipeline, clock in zip((one, other), clocks, strict=True)
        ]
        assert outcomes[0] == outcomes[1]
        assert breaker.totals == long.totals
        assert breaker.current_state == long.current_state
        assert breaker.fail_counter == long.fail_counter
        assert clocks[0].mono_us() == clocks[1].mono_us()


class Silent:
    """A listener that does not care."""

    def before_call(self, *_: object, **__: object) -> None:
        """Nothing."""

    failure = success = state_change = before_call


def _outcome(pipeline: Pipeline, clock: ManualClock, step: str, colour: str) -> Any:
    async def work_async() -> str:
        if step == "hang":
            await passes(6)
        return work()

    def work() -> str:
        clock.advance(SECOND if step == "wait" else 0)
        if step == "hang" and colour == "sync":
            clock.advance(6 * SECOND)
        if step in {"down", "mine"}:
            raise OSError if step == "down" else KeyError
        return step

    try:
        if colour == "sync":
            return pipeline.call(work)
        return run_manually(pipeline.call_async(work_async), clock)
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), getattr(error, "retry_after", None)


def test_nothing_in_a_pipeline_starts_after_its_deadline() -> None:
    """Neither an attempt nor a wait."""
    clock = ManualClock()
    ran: list[int] = []
    pipeline, breaker, _ = whole(clock)
    with context.until(0):
        for _ in range(9):
            with pytest.raises(NothingStarted):
                pipeline.call(ran.append, 1)
    assert (ran, breaker.totals.succeeded, clock.mono_us()) == ([], 0, 0)


# Fallback


DOWN = OSError("down")


def fail(*_: object, **__: object) -> Any:
    """Raise the same error each time."""
    raise DOWN


async def fail_async(*_: object) -> Any:
    """Do so when awaited."""
    raise DOWN


def test_a_fallback_answers_with_the_calls_own_arguments() -> None:
    """In either colour; the handler may look at the error."""
    seen: list[Any] = []

    def other(value: int, *, more: int = 0) -> tuple[int, int]:
        seen.append(sys.exception())
        return -value, more

    async def other_async(value: int) -> int:
        return -value

    backed = Fallback(other)
    assert backed.call(fail, 3, more=4) == (-3, 4)
    assert seen == [DOWN]
    assert asyncio.run(backed.call_async(fail_async, 3)) == (-3, 0)
    assert asyncio.run(Fallback(other_async).call_async(fail_async, 3)) == -3
    assert Fallback.value(5).call(fail, 1) == 5
    assert backed.call(int, "7") == 7


def test_a_stream_is_replaced_up_to_its_first_item() -> None:
    """By whatever the handler's can be iterated for; what fails later fails."""

    async def items_async(value: int) -> AsyncGenerator[int, None]:
        yield value
        yield value

    @Fallback(lambda value: [value, value])
    def stream(value: int) -> Generator[int, None, None]:
        if value > 5:
            yield 1
        raise DOWN

    @Fallback(items_async)
    async def astream(value: int) -> AsyncGenerator[int, None]:
        if value > 5:
            yield 1
        raise DOWN

    async def collected(value: int) -> list[int]:
        return [item async for item in astream(value)]

    assert list(stream(3)) == [3, 3]
    assert asyncio.run(collected(3)) == [3, 3]
    with pytest.raises(OSError, match="down"):
        list(stream(6))
    with pytest.raises(OSError, match="down"):
        asyncio.run(collected(6))


def test_a_fallback_leaves_what_it_is_not_for() -> None:
    """Errors that it does not name, and whatever is no error."""
    named = Fallback.value(0, on=(OSError,))
    for error in (KeyError(), KeyboardInterrupt(), asyncio.CancelledError()):

        def fail(error: BaseException = error) -> None:
            raise error

        async def fail_async(error: BaseException = error) -> None:
            raise error

        for anything in (named, Fallback.value(0)) if not isinstance(error, KeyError) else (named,):
            with pytest.raises(type(error)):
                anything.call(fail)
            with pytest.raises(type(error)):
                asyncio.run(anything.call_async(fail_async))

    async def handler() -> None: ...

    with pytest.raises(InvalidArgument, match="plain function"):
        Fallback(handler).call(int)
    with pytest.raises(InvalidArgument, match=r"Fallback\.value"):
        Fallback(5)  # type: ignore[arg-type] # wrong on purpose

    def raises() -> None:
        raise ValueError("handler")

    with pytest.raises(ValueError, match="handler") as caught:
        Fallback(raises).call(lambda: 1 / 0)
    assert isinstance(caught.value.__context__, ZeroDivisionError)


@pytest.mark.parametrize("kind", [Fallback, Hedge])
def test_a_classifier_that_raises_changes_nothing_and_is_reported_once(
    caplog: pytest.LogCaptureFixture, kind: type
) -> None:
    """The caller gets the function's own error."""

    def confused(_: Exception) -> bool:
        raise ValueError

    async def fail() -> None:
        raise OSError("mine")

    layer = Fallback.value(0, on=(confused,)) if kind is Fallback else Hedge(9, on=(confused,))
    for _ in range(2):
        with pytest.raises(OSError, match="mine"):
            asyncio.run(layer.call_async(fail))
    assert len(caplog.records) == 1


# Hedge


class Copies:
    """A function whose calls take what was listed, and may fail or be stubborn."""

    def __init__(self, *takes: Any) -> None:
        self.takes = list(takes)
        self.begun: list[float] = []
        self.cancelled: list[int] = []

    async def __call__(self) -> int:
        """Return the number of the call."""
        number = len(self.begun)
        self.begun.append(asyncio.get_running_loop().time())
        takes = self.takes[number]
        try:
            await passes(abs(takes))
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if takes < 0:
            raise OSError(number)
        return number


def hedged(clock: ManualClock, copies: Copies, hedge: Hedge) -> Any:
    """Call, and say what came of it, and when."""
    started = clock.mono_us()
    answer: Any
    try:
        answer = run_manually(hedge.call_async(copies), clock)
    except OSError as error:
        answer = error.args
    return answer, round((clock.mono_us() - started) / SECOND, 3)


def test_the_first_answer_wins_and_the_others_are_cancelled() -> None:
    """An error is no answer while another call runs; if all fail, the first one's is raised."""
    for takes, answer, at, begun in (
        ((0.5, 9), 0, 0.5, [0.0]),
        ((9, 1), 1, 2, [0.0, 1.0]),
        ((1.5, 9), 0, 1.5, [0.0, 1.0]),
        ((-0.5, 9), (0,), 0.5, [0.0]),
        ((-1.5, 1), 1, 2, [0.0, 1.0]),
        ((3, -1), 0, 3, [0.0, 1.0]),
        ((-3, -1), (0,), 3, [0.0, 1.0]),
    ):
        clock = ManualClock()
        copies = Copies(*takes)
        assert hedged(clock, copies, Hedge(1, clock=clock)) == (answer, at)
        assert [round(moment, 3) for moment in copies.begun] == begun
        ended = {round(abs(t) + b, 3) <= at for t, b in zip(takes, begun, strict=False)}
        assert bool(copies.cancelled) == (False in ended)
    clock = ManualClock()
    copies = Copies(9, 9, 0.25, 9)
    assert hedged(clock, copies, Hedge(1, copies=3, clock=clock)) == (2, 2.25)
    assert sorted(copies.cancelled) == [0, 1]
    fussy = Copies(-1.5, 9)
    assert hedged(clock, fussy, Hedge(1, on=(KeyError,), clock=clock)) == ((0,), 1.5)


def test_losers_are_awaited_for_a_second_at_most() -> None:
    """They may have something to tidy up; one that refuses to end holds nobody."""

    async def scene() -> None:
        calls, ended = list[int](), list[float]()
        loop = asyncio.get_running_loop()

        async def work() -> int:
            calls.append(1)
            if len(calls) == 2:
                await passes(0.5)
                return 2
            try:
                await passes(9)
            except asyncio.CancelledError:
                await passes(tidies)
                ended.append(loop.time())
                raise
            return 1

        for seconds, waited in ((0.25, 1.75), (5.0, 2.5)):
            tidies = seconds
            calls.clear()
            started = loop.time()
            assert await Hedge(1, clock=clock).call_async(work) == 2
            assert loop.time() - started == pytest.approx(waited, abs=1e-4)
        assert len(ended) == 1
        await passes(9)
        assert len(ended) == 2

    clock = ManualClock()
    run_manually(scene(), clock)


def test_a_cancelled_hedge_cancels_its_calls() -> None:
    """All of them, before it ends."""

    async def scene() -> None:
        copies = Copies(9, 9)
        task = asyncio.create_task(Hedge(1, clock=clock).call_async(copies))
        await passes(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert sorted(copies.cancelled) == [0, 1]

    clock = ManualClock()
    run_manually(scene(), clock)


def test_the_delay_may_be_what_most_answers_took() -> None:
    """The quantile of the last hundred; nothing is hedged before twenty are known."""
    clock = ManualClock()
    hedge = Hedge(quantile=0.9, clock=clock)
    for number in range(20):
        assert hedge.delay is None
        hedged(clock, Copies((number + 1) / 10), hedge)
    assert hedge.delay == pytest.approx(1.8, abs=1e-4)
    copies = Copies(9, 0.1)
    assert hedged(clock, copies, hedge)[0] == 1
    for _ in range(100):
        hedged(clock, Copies(0.01), hedge)
    assert hedge.delay == pytest.approx(0.01, abs=1e-4)
    assert Hedge(2).delay == 2.0


def test_hedges_are_paid_from_the_budget_that_retries_have() -> None:
    """A call that a retry has counted is not counted again."""
    clock = ManualClock()
    budget = Budget(0.2, reserve=1, per_second=0, clock=clock)
    hedge = Hedge(1, budget=budget, clock=clock)
    copies = Copies(*[2] * 99)
    for _ in range(10):
        hedged(clock, copies, hedge)
    assert (len(copies.begun), budget.calls, budget.spent) == (13, 10, 3)
    both = Pipeline(Retry(on=(OSError,), budget=budget, clock=clock), hedge)
    for _ in range(10):
        run_manually(both.call_async(copies), clock)
    assert (len(copies.begun), budget.calls) == (25, 20)
    other = Pipeline(Retry(on=(OSError,), clock=clock), hedge)
    run_manually(other.call_async(copies), clock)
    assert budget.calls == 21


def test_functions_and_streams_pass_unhedged() -> None:
    """So that one pipeline serves both colours."""
    hedge = Hedge(0.001)
    assert hedge.call(int, "7") == 7

    @hedge
    def stream() -> Generator[int, None, None]:
        yield 1

    @hedge
    async def astream() -> AsyncGenerator[int, None]:
        yield 1

    async def collected() -> list[int]:
        return [item async for item in astream()]

    assert list(stream()) == asyncio.run(collected()) == [1]


# Chaos


def test_chaos_meets_a_seeded_share_and_only_when_enabled() -> None:
    """Latency, then the fault, or the result in place of the call."""
    clock = ManualClock()
    on = False
    chaos = Chaos(
        rate=0.3, latency=2, fault=ConnectionError, chance=random.Random(5).random, clock=clock,
        enabled=lambda: on,
    )  # fmt: skip

    def outcomes(count: int) -> list[bool]:
        found: list[bool] = []
        for _ in range(count):
            before = clock.mono_us()
            try:
                chaos.call(int)
            except ConnectionError:
                found.append(True)
            else:
                found.append(False)
            assert (clock.mono_us() - before) // SECOND == (2 if found[-1] else 0)
        return found

    assert outcomes(50) == [False] * 50
    on = True
    draws = random.Random(5)
    assert outcomes(200) == [draws.random() < 0.3 for _ in range(200)]
    never = Chaos(rate=1, fault=ConnectionError)
    assert never.call(int) == 0
    answered = Chaos(rate=1, result=None, enabled=True)
    slow = Chaos(rate=1, latency=3, enabled=True, clock=clock)
    assert answered.call(int) is None
    before = clock.mono_us()
    assert slow.call(int) == 0
    assert clock.mono_us() - before == 3 * SECOND

    async def scene() -> None:
        async def work() -> int:
            return 1

        assert await answered.call_async(work) is None
        assert await slow.call_async(work) == 1
        assert await never.call_async(work) == 1
        with pytest.raises(ConnectionError):
            await Chaos(rate=1, fault=ConnectionError, enabled=True).call_async(work)

    run_manually(scene(), clock)
    made: Any
    for made, argument in (
        (lambda: Chaos(rate=0), "rate"),
        (lambda: Chaos(rate=1, latency=-1), "latency"),
        (lambda: Chaos(rate=1, fault=OSError()), "fault"),  # type: ignore[arg-type] # an error, not what makes one
    ):
        with pytest.raises(InvalidArgument) as refused:
            made()
        assert refused.value.argument == argument


def test_chaos_inside_a_pipeline_is_met_by_all_of_it() -> None:
    """Which is what it is for."""
    clock = ManualClock()
    chaos = Chaos(rate=1, latency=9, enabled=True, clock=clock)

    class Loops(ManualClock):
        async def sleep_async(self, us: int) -> None:
            await passes(us / SECOND)

    chaos = Chaos(rate=1, latency=9, enabled=True, clock=Loops())
    with pytest.raises(CallTimeout):
        run_manually(Pipeline(Timeout(1, clock=clock), chaos).call_async(asyncio.sleep, 0), clock)
    refusing = Chaos(rate=1, fault=lambda: BulkheadFull("x", 1), enabled=True)
    breaker = CircuitBreaker("x")
    with pytest.raises(BulkheadFull):
        Pipeline(breaker, refusing).call(int)
    assert breaker.totals.ignored == 1
