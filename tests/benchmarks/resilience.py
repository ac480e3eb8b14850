"""Breakers, retries and pipelines beside the libraries that one would use instead: what they add to a call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from statistics import median
from typing import Any

import aiobreaker
import circuitbreaker
import purgatory
import pybreaker
import stamina
import tenacity
from hyx.circuitbreaker import consecutive_breaker

from backendkit.resilience import (
    Budget,
    Bulkhead,
    CircuitBreaker,
    Deadline,
    Fallback,
    Pipeline,
    Retry,
    Timeout,
)
from tests.benchmarks.measure import cost_of
from tests.benchmarks.report import Row, write

TEXT = """
What a policy adds to a call of a function that does nothing: CPU time over the plain call, every rival in turn in each round, no listeners.
The breakers that they are compared with count failures in a row; ours keeps a window of outcomes, and with *slow calls* takes the time of
each. *Rejection* is what a call costs over the raising of an exception while the circuit is open.
"""

Work = Callable[[int], None]
Func = Callable[..., Any]

ROUNDS = 15
THREADS = 8


def page() -> str:
    """Measure everything and write the page."""
    rows = [
        *_success(), *_success_async(), *_windows(), *_rejections(), *_retries(), _threads(), *_pipelines(),
    ]  # fmt: skip
    packages = [
        "pybreaker", "circuitbreaker", "purgatory", "aiobreaker", "hyx", "tenacity", "stamina",
    ]  # fmt: skip
    return write("resilience", "Resilience", TEXT, rows, packages)


def plain() -> None:
    """Do nothing."""


async def plain_async() -> None:
    """Do nothing."""


async def suspending() -> None:
    """Give way to the loop once."""
    await asyncio.sleep(0)


def fail() -> None:
    """Raise."""
    raise OSError("down")


def breaker(**options: Any) -> CircuitBreaker:
    """Make one of ours."""
    return CircuitBreaker("bench", **options)


def _success() -> Iterator[Row]:
    synchronous = purgatory.SyncCircuitBreakerFactory(default_threshold=5, default_ttl=30)
    costs = _overheads(
        _repeat,
        plain,
        {
            "ours": breaker()(plain),
            "pybreaker": pybreaker.CircuitBreaker(fail_max=5)(plain),
            "circuitbreaker": _circuit("sync")(plain),
            "purgatory": synchronous("bench")(plain),
        },
    )
    yield _row("success, sync", costs, "pybreaker", 1 / 8)
    yield _row("success, sync", costs, "circuitbreaker", 1 / 2)
    yield _row("success, sync", costs, "purgatory", 1 / 2)


def _success_async() -> Iterator[Row]:
    asynchronous = purgatory.AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=30)
    theirs = aiobreaker.CircuitBreaker(fail_max=5, timeout_duration=timedelta(seconds=30))
    with asyncio.Runner() as runner:
        costs = _overheads(
            lambda func: _repeat_async(runner, func),
            plain_async,
            {
                "ours": breaker()(plain_async),
                "hyx": consecutive_breaker(
                    exceptions=(Exception,), failure_threshold=5, recovery_time_secs=30
                )(plain_async),
                "circuitbreaker": _circuit("async")(plain_async),
                "aiobreaker": theirs(plain_async),
                "purgatory": asynchronous("bench")(plain_async),
            },
        )
    yield _row("success, async", costs, "hyx", 1 / 5)
    yield _row("success, async", costs, "circuitbreaker", 1 / 2)
    yield _row("success, async", costs, "aiobreaker", 1 / 5)
    yield _row("success, async", costs, "purgatory", 1 / 5)


def _windows() -> Iterator[Row]:
    minute = timedelta(minutes=1)
    costs = _overheads(
        _repeat,
        plain,
        {
            "ours": breaker(window=minute)(plain),
            "slow": breaker(window=minute, slow_after=2.0)(plain),
            "count": breaker(slow_after=2.0)(plain),
            "circuitbreaker": _circuit("windows")(plain),
        },
    )
    yield _row("success, time window", costs, "circuitbreaker", 0.8)
    yield _row("time window and slow calls", costs, "circuitbreaker", 1.0, ours="slow")
    yield _row("count window and slow calls", costs, "circuitbreaker", 1.0, ours="count")


def _rejections() -> Iterator[Row]:
    ours = breaker(open_for=3600)
    ours.open()
    theirs, other = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=3600), _circuit("open")(fail)
    theirs.open()
    for _ in range(6):
        with suppress(Exception):
            other()
    costs = _overheads(
        _repeat_caught,
        fail,
        {"ours": ours(plain), "circuitbreaker": other, "pybreaker": theirs(plain)},
    )
    yield _row("rejection while open", costs, "circuitbreaker", 0.5)
    yield _row("rejection while open", costs, "pybreaker", 0.25)


def _retries() -> Iterator[Row]:
    ours = Retry(on=(OSError,), budget=Budget())
    rules: dict[str, Any] = {
        "stop": tenacity.stop_after_attempt(3),
        "retry": tenacity.retry_if_exception_type(OSError),
        "reraise": True,
    }
    costs = _overheads(
        _repeat,
        plain,
        {
            "ours": ours(plain),
            "tenacity": tenacity.retry(**rules)(plain),
            "stamina": stamina.retry(on=OSError)(plain),
        },
        calls=4_000,
    )
    yield _row("retry, success, sync", costs, "tenacity", 1 / 50)
    yield _row("retry, success, sync", costs, "stamina", 1 / 30)
    with asyncio.Runner() as runner:
        costs = _overheads(
            lambda func: _repeat_async(runner, func),
            plain_async,
            {
                "ours": ours(plain_async),
                "tenacity": tenacity.retry(**rules)(plain_async),
                "stamina": stamina.retry(on=OSError)(plain_async),
            },
            calls=4_000,
        )
    yield _row("retry, success, async", costs, "tenacity", 1 / 50)
    yield _row("retry, success, async", costs, "stamina", 1 / 30)


def _threads() -> Row:
    ours = _speed_up(breaker().call)
    theirs = _speed_up(pybreaker.CircuitBreaker(fail_max=5).call)
    return Row(
        f"{THREADS} threads of blocking calls", f"{ours:.1f}x one thread", "pybreaker", f"{theirs:.1f}x",
        7.5 / ours, 1.0,
    )  # fmt: skip


def _pipelines() -> Iterator[Row]:
    pipeline = Pipeline(
        Fallback.value(None),
        Deadline(3),
        Retry(on=(OSError,), budget=Budget()),
        breaker(slow_after=0.9),
        Timeout(1),
        Bulkhead(20),
    )
    with asyncio.Runner() as runner:
        for what, func in (("does not suspend", plain_async), ("suspends", suspending)):
            costs = _overheads(
                lambda func: _repeat_async(runner, func), func, {"ours": pipeline(func)}
            )
            ours = median(costs["ours"])
            yield Row(
                f"pipeline of six, async, {what}",
                f"{ours:.2f} us",
                "a bound",
                "3 us",
                ours / 3,
                1.0,
            )


def _circuit(name: str) -> Func:
    decorate: Func = circuitbreaker.circuit(failure_threshold=5, recovery_timeout=3600, name=name)
    return decorate


def _repeat(func: Func) -> Work:
    def work(times: int) -> None:
        for _ in range(times):
            func()

    return work


def _repeat_caught(func: Func) -> Work:
    def work(times: int) -> None:
        for _ in range(times):
            try:  # noqa: SIM105 - `suppress` would be measured, too
                func()
            except Exception:  # noqa: BLE001 - what is measured
                pass

    return work


def _repeat_async(runner: asyncio.Runner, func: Func) -> Work:
    async def awaited(times: int) -> None:
        for _ in range(times):
            await func()

    return lambda times: runner.run(awaited(times))


def _overheads(
    repeat: Callable[[Func], Work], floor: Func, rivals: Mapping[str, Func], *, calls: int = 40_000
) -> dict[str, list[float]]:
    """Return what each rival adds to the floor in each round, in microseconds of CPU time."""
    works = {name: repeat(func) for name, func in rivals.items()}
    bottom = repeat(floor)
    for work in (bottom, *works.values()):
        work(calls // 4)
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(ROUNDS):
        least = cost_of(bottom, calls).cpu
        for name, work in works.items():
            found[name].append(cost_of(work, calls).cpu - least)
    return found


def _row(
    what: str, costs: dict[str, list[float]], rival: str, target: float, ours: str = "ours"
) -> Row:
    ratio = median(mine / other for mine, other in zip(costs[ours], costs[rival], strict=True))
    mine, other = median(costs[ours]), median(costs[rival])
    return Row(what, f"{mine:.2f} us", rival, f"{other:.2f} us", ratio, target)


def _speed_up(call: Func, each: float = 0.02, times: int = 10) -> float:
    """Return how many times faster calls that block are made by several threads than by one."""

    def blocking() -> None:
        for _ in range(times):
            call(time.sleep, each)

    def elapsed(count: int) -> float:
        threads = [threading.Thread(target=blocking) for _ in range(count)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    return THREADS * elapsed(1) / elapsed(THREADS)
