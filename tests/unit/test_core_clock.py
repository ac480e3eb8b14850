"""Clocks: the machine's, and the one that tests move."""

import asyncio
import time

import pytest

from backendkit.core.clock import (
    SECOND_US,
    Clock,
    ManualClock,
    SystemClock,
    nanoseconds_of,
    seconds_of,
)
from tests.ground.loops import in_threads


def test_the_system_clock_tells_the_date_in_microseconds() -> None:
    """That of the machine, below 2**53."""
    before = time.time_ns() // 1000
    now = SystemClock().wall_us()
    assert before <= now <= time.time_ns() // 1000
    assert now < 2**53


def test_the_system_clock_never_goes_back() -> None:
    """Its monotonic reading."""
    clock = SystemClock()
    readings = [clock.mono_us() for _ in range(1000)]
    assert readings == sorted(readings)


def test_the_system_clock_sleeps_for_what_it_was_told() -> None:
    """At least; nothing and less than nothing return at once."""
    clock = SystemClock()
    start = clock.mono_us()
    clock.sleep(2_000)
    asyncio.run(clock.sleep_async(2_000))
    assert clock.mono_us() - start >= 4_000
    clock.sleep(0)
    clock.sleep(-SECOND_US * 3600)
    asyncio.run(clock.sleep_async(-SECOND_US * 3600))


def test_time_passes_on_a_manual_clock_when_told() -> None:
    """On both readings; a step moves the date alone."""
    clock = ManualClock(wall_us=100, mono_us=5)
    clock.advance(10)
    clock.step_wall(-50)
    assert (clock.wall_us(), clock.mono_us()) == (60, 15)
    clock.step_wall(7)
    assert (clock.wall_us(), clock.mono_us()) == (67, 15)


def test_a_manual_clock_does_not_run_backwards() -> None:
    """The message says what does."""
    clock = ManualClock()
    with pytest.raises(ValueError, match="got -1; to set the date back use step_wall"):
        clock.advance(-1)
    assert clock.mono_us() == 0


def test_whoever_sleeps_on_a_manual_clock_moves_it() -> None:
    """By as much as was asked for; never back."""
    clock = ManualClock(wall_us=0)
    clock.sleep(3)
    clock.sleep(-3)
    asyncio.run(clock.sleep_async(4))
    asyncio.run(clock.sleep_async(-4))
    assert (clock.wall_us(), clock.mono_us()) == (7, 7)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_an_asynchronous_pause_lets_others_run(clock: Clock) -> None:
    """Also one of no length."""
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async def main() -> None:
        task = asyncio.create_task(other())
        await clock.sleep_async(0)
        seen.append("main")
        await task

    asyncio.run(main())
    assert seen == ["other", "main"]


def test_threads_share_a_manual_clock() -> None:
    """No advance is lost."""
    clock = ManualClock(wall_us=0)

    def work(_: int) -> None:
        for _ in range(2_000):
            clock.advance(1)
            clock.step_wall(1)

    in_threads(8, work)
    assert (clock.mono_us(), clock.wall_us()) == (16_000, 32_000)


def test_seconds_and_nanoseconds_are_the_clocks_own() -> None:
    """The machine's clock is read directly; any other is asked."""
    clock = ManualClock(mono_us=1_500_000)
    seconds, nanoseconds = seconds_of(clock), nanoseconds_of(clock)
    assert (seconds(), nanoseconds()) == (1.5, 1_500_000_000)
    clock.advance(500_000)
    assert (seconds(), nanoseconds()) == (2.0, 2_000_000_000)
    assert abs(seconds_of(SystemClock())() - SystemClock().mono_us() / 1e6) < 60
    assert abs(nanoseconds_of(SystemClock())() - SystemClock().mono_us() * 1000) < 60e9
