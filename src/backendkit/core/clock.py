"""Time as the rest of the library sees it: whole microseconds, from a clock that is handed in.

Two readings, never mixed. `wall_us` tells the date and may step in either direction (tokens, logs, the state
that operations keep); `mono_us` only ever grows (durations, deadlines, garbage collection). Waiting belongs to
the clock too: whoever replaces the clock decides how long a pause really takes. This is the one room that
imports `time`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

SECOND_US = 1_000_000
"""Microseconds in a second."""


class Clock(Protocol):
    """What a source of time offers. All values are `int` microseconds below 2**53."""

    def wall_us(self) -> int:
        """Return microseconds since 1970-01-01T00:00Z; may step back and forth."""
        ...

    def mono_us(self) -> int:
        """Return microseconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, us: int) -> None:
        """Block the calling thread for `us` microseconds; zero or less returns at once."""
        ...

    async def sleep_async(self, us: int) -> None:
        """Suspend the calling task for `us` microseconds; zero or less still yields to the loop once."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def wall_us(self) -> int:
        """Return microseconds since 1970-01-01T00:00Z by the machine's adjustable clock."""
        return time.time_ns() // 1000

    def mono_us(self) -> int:
        """Return microseconds by the machine's monotonic clock."""
        return time.monotonic_ns() // 1000

    def sleep(self, us: int) -> None:
        """Block the calling thread for `us` microseconds."""
        if us > 0:
            time.sleep(us / SECOND_US)

    async def sleep_async(self, us: int) -> None:
        """Suspend the calling task for `us` microseconds."""
        import asyncio  # noqa: PLC0415  # 25 ms that synchronous programs and `import backendkit.errors` need not pay

        await asyncio.sleep(max(us, 0) / SECOND_US)


def seconds_of(clock: Clock) -> Callable[[], float]:
    """Return the clock's monotonic reading in seconds, for paths on which every 10 ns count.

    The machine's clock is then read without a call in between, which costs a third of its `mono_us`.
    """
    if type(clock) is SystemClock:
        return time.monotonic
    return lambda: clock.mono_us() / SECOND_US


def nanoseconds_of(clock: Clock) -> Callable[[], int]:
    """Return the clock's monotonic reading in whole nanoseconds, as quick as `seconds_of`, where none may be rounded."""
    if type(clock) is SystemClock:
        return time.monotonic_ns
    return lambda: clock.mono_us() * 1000


class ManualClock:
    """A clock that moves only when told, for tests: whoever sleeps on it moves it.

    Safe to share between threads. `advance` moves both readings, `step_wall` only the date, which is how a
    machine's clock is set back or forth under a running program.
    """

    __slots__ = ("_lock", "_mono_us", "_wall_us")

    def __init__(self, wall_us: int = 1_790_000_000_000_000, mono_us: int = 0) -> None:
        self._wall_us = wall_us
        self._mono_us = mono_us
        self._lock = threading.Lock()

    def wall_us(self) -> int:
        """Return the date this clock was last moved to, in microseconds."""
        return self._wall_us

    def mono_us(self) -> int:
        """Return the microseconds this clock was advanced by, plus its start."""
        return self._mono_us

    def advance(self, us: int) -> None:
        """Let `us` microseconds pass; negative values are refused, for `mono_us` never goes back."""
        if us < 0:
            raise ValueError(
                f"us must not be negative, got {us}; to set the date back use step_wall"
            )
        with self._lock:
            self._wall_us += us
            self._mono_us += us

    def step_wall(self, us: int) -> None:
        """Set the date forward or back by `us` microseconds while no time passes."""
        with self._lock:
            self._wall_us += us

    def sleep(self, us: int) -> None:
        """Advance by `us` instead of blocking."""
        self.advance(max(us, 0))

    async def sleep_async(self, us: int) -> None:
        """Advance by `us` instead of waiting, and let other tasks run once."""
        self.advance(max(us, 0))
        import asyncio  # noqa: PLC0415  # as above

        await asyncio.sleep(0)
