"""One timer for any number of deadlines on one event loop.

`asyncio.timeout` asks the loop for a timer per call and takes it back, which costs 5 to 11 microseconds. Calls of one
timeout end in about the order in which they began, and nearly all before their time: so the moments stand in a heap,
the loop knows of the earliest only, and what has ended is dropped from the heap's head as others end.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

_MOST_DEAD = 512
"""Entries of ended calls that may wait behind the head before the heap is built anew."""


class Alarm:
    """One moment at which to do something, unless it is taken back.

    Attributes:
        ring: what to do; None: nothing any more.
    """

    __slots__ = ("ring", "when")

    def __init__(self, when: float, ring: Callable[[], object]) -> None:
        self.when = when
        self.ring: Callable[[], object] | None = ring

    def __lt__(self, other: Alarm) -> bool:
        return self.when < other.when


class AlarmClock:
    """The alarms of one event loop; used on its thread only, and holds no reference to it."""

    __slots__ = ("_alarms", "_dead", "_due")

    def __init__(self) -> None:
        self._alarms: list[Alarm] = []
        self._dead = 0
        self._due = float("inf")

    def set(self, loop: AbstractEventLoop, when: float, ring: Callable[[], object]) -> Alarm:
        """Have `ring` called at `when` by the loop's time."""
        alarm = Alarm(when, ring)
        heapq.heappush(self._alarms, alarm)
        if when < self._due:
            self._arm(loop, when)
        return alarm

    def stop(self, alarm: Alarm) -> None:
        """Take an alarm back, unless it rang."""
        if alarm.ring is None:
            return
        alarm.ring = None
        alarms = self._alarms
        if alarms and alarms[0] is alarm:
            heapq.heappop(alarms)
            while alarms and alarms[0].ring is None:
                heapq.heappop(alarms)
                self._dead -= 1
            return
        self._dead += 1
        if self._dead > _MOST_DEAD and self._dead * 2 > len(alarms):
            self._alarms = [one for one in alarms if one.ring is not None]
            heapq.heapify(self._alarms)
            self._dead = 0

    def _arm(self, loop: AbstractEventLoop, when: float) -> None:
        # A timer that was armed for later stays: what it finds then is up to date. No handle is kept, for it would
        # hold the loop.
        self._due = when
        loop.call_at(when, self._ring_due, when)

    def _ring_due(self, armed_for: float) -> None:
        if armed_for != self._due:
            return
        loop, alarms = asyncio.get_running_loop(), self._alarms
        self._due = float("inf")
        while alarms and (alarms[0].ring is None or alarms[0].when <= armed_for):
            alarm = heapq.heappop(alarms)
            ring, alarm.ring = alarm.ring, None
            if ring is None:
                self._dead -= 1
            else:
                ring()
            alarms = self._alarms
        if alarms:
            self._arm(loop, alarms[0].when)


class AlarmClocks:
    """An alarm clock for each event loop that asks for one."""

    __slots__ = ("_all", "_last")

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[AbstractEventLoop, AlarmClock] = WeakKeyDictionary()
        self._last: tuple[Any, AlarmClock] = (_nothing, AlarmClock())

    def of(self, loop: AbstractEventLoop) -> AlarmClock:
        """Return the clock of the loop that runs in this thread."""
        known, clock = self._last
        if known() is loop:
            return clock
        clock = self._all.setdefault(loop, AlarmClock())
        self._last = (ref(loop), clock)
        return clock


def _nothing() -> None:
    """Stand for a loop that is gone."""
