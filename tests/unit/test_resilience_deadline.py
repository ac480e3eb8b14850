"""Deadlines: nested ones take the minimum, nothing starts after one, and none leaks out of a generator."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.resilience import Deadline, DeadlineExceeded

SECOND = 1_000_000


def left() -> int | None:
    """Return the deadline in force, in whole seconds of the clock."""
    moment = context.deadline_us()
    return None if moment is None else moment // SECOND


async def left_async() -> int | None:
    """Return the same."""
    return left()


def test_nested_deadlines_take_the_minimum() -> None:
    """A callee cannot give itself more time than its caller has."""
    clock = ManualClock()
    three, five = Deadline(3, clock=clock), Deadline(5, clock=clock)
    with five.running() as outer:
        assert outer == 5 * SECOND
        assert three.call(left) == 3
        clock.advance(4 * SECOND)
        assert three.call(left) == 5
        assert asyncio.run(three.call_async(left_async)) == 5
    assert left() is None


def test_nothing_starts_after_a_deadline() -> None:
    """Whatever the kind of function."""
    clock = ManualClock()
    short, long = Deadline(1, clock=clock), Deadline(9, clock=clock)
    ran: list[str] = []

    @long
    def function() -> None:
        ran.append("function")

    @long
    async def coroutine() -> None:
        ran.append("coroutine")

    @long
    def stream() -> Generator[int]:
        ran.append("stream")
        yield 1

    @long
    async def async_stream() -> AsyncGenerator[int]:
        ran.append("async stream")
        yield 1

    assert inspect.iscoroutinefunction(coroutine)
    with short.running():
        clock.advance(SECOND)
        with pytest.raises(DeadlineExceeded) as caught:
            function()
        with pytest.raises(DeadlineExceeded):
            asyncio.run(coroutine())
        with pytest.raises(DeadlineExceeded):
            next(stream())
        with pytest.raises(DeadlineExceeded):
            asyncio.run(_first(async_stream()))
    assert ran == []
    assert (caught.value.status, caught.value.code) == (504, "DEADLINE_EXCEEDED")
    function()
    asyncio.run(coroutine())
    assert ran == ["function", "coroutine"]


def test_a_generator_keeps_its_deadline_to_itself() -> None:
    """It holds within each step, however the step begins, and never for the consumer."""
    seen: list[int | None] = []

    @Deadline(3, clock=ManualClock())
    def stream() -> Generator[Any, Any, str]:
        try:
            seen.append(left())
            got = yield 1
            seen.append(left())
            try:
                yield got
            except KeyError:
                yield "caught"
            return "end"
        finally:
            seen.append(left())

    source = stream()
    assert next(source) == 1
    assert left() is None
    assert source.send(7) == 7
    assert source.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration, match="end"):
        next(source)
    early = stream()
    next(early)
    early.close()
    assert seen == [3] * 5
    assert left() is None


def test_an_async_generator_likewise() -> None:
    """Sent values, thrown errors and early ends reach it."""
    seen: list[int | None] = []

    @Deadline(3, clock=ManualClock())
    async def stream() -> AsyncGenerator[Any, Any]:
        try:
            seen.append(left())
            got = yield 1
            seen.append(left())
            try:
                yield got
            except KeyError:
                yield "caught"
        finally:
            seen.append(left())

    async def scene() -> None:
        source = stream()
        assert await anext(source) == 1
        assert left() is None
        assert await source.asend(7) == 7
        assert await source.athrow(KeyError()) == "caught"
        assert [item async for item in source] == []
        early = stream()
        await anext(early)
        await early.aclose()

    asyncio.run(scene())
    assert seen == [3] * 5


def test_a_deadline_is_a_positive_time() -> None:
    """Zero would let nothing start."""
    with pytest.raises(InvalidArgument, match="after"):
        Deadline(0)


async def _first(stream: AsyncGenerator[int]) -> int:
    return await anext(stream)
