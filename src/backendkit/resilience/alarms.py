"""One timer for any number of deadlines on one event loop.

`asyncio.timeout` asks the loop for a timer per call and takes it back, which costs 5 to 11 microseconds. Calls of one
timeout end in about the order in which they began, and nearly all before their time: so the moments stand in a heap,
the loop knows of the earliest only, and what has ended is dropped from the heap's head as others end.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from heapq import heapify, heappop, heappush
from typing import Any
from weakref import WeakKeyDictionary, ref

_MOST_DEAD = 512
"""Entries of ended calls that may wait behind the head before the heap is built anew."""


class Alarm:
    """Something that rings at its moment, unless it is taken back.

    Attributes:
        is_set: whether it may ring yet.
    """

    is_set = True

    def ring(self) -> None:
        """The moment has come."""
        raise NotImplementedError


class AlarmClock:
    """The alarms of one event loop; used on its thread only, and holds no reference to it."""

    __slots__ = ("_alarms", "_count", "_dead", "_due")

    def __init__(self) -> None:
        # The count settles ties, so that alarms need not be compared.
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self._dead = 0
        self._due = float("inf")

    def set(self, loop: AbstractEventLoop, when: float, alarm: Alarm) -> None:
        """Have `alarm` ring at `when` by the loop's time."""
        self._count += 1
        heappush(self._alarms, (when, self._count, alarm))
        if when < self._due:
            self._arm(loop, when)

    def stop(self, alarm: Alarm) -> None:
        """Take an alarm back, unless it rang."""
        if not alarm.is_set:
            return
        alarm.is_set = False
        alarms = self._alarms
        if alarms[0][2] is alarm:
            heappop(alarms)
            while alarms and not alarms[0][2].is_set:
                heappop(alarms)
                self._dead -= 1
            return
        self._dead += 1
        if self._dead > _MOST_DEAD and self._dead * 2 > len(alarms):
            self._alarms = [one for one in alarms if one[2].is_set]
            heapify(self._alarms)
            self._dead = 0

    def _arm(self, loop: AbstractEventLoop, when: float) -> None:
        # A timer that was armed for later stays, and finds that it is not the one. No handle is kept, for it would
        # hold the loop.
        self._due = when
        loop.call_at(when, self._ring_due, when)

    def _ring_due(self, armed_for: float) -> None:
        if armed_for != self._due:
            return
        self._due = float("inf")
        while (alarms := self._alarms) and (not alarms[0][2].is_set or alarms[0][0] <= armed_for):
            alarm = heappop(alarms)[2]
            if alarm.is_set:
                alarm.is_set = False
                alarm.ring()
            else:
                self._dead -= 1
        if alarms:
            self._arm(asyncio.get_running_loop(), alarms[0][0])


class AlarmClocks:
    """An alarm clock for each event loop that asks for one.

    Attributes:
        last: a reference to the loop that asked last, and its clock: nearly always the one that asks next.
    """

    __slots__ = ("_all", "last")

    def __init__(self) -> None:
        self._all: WeakKeyDictionary[AbstractEventLoop, AlarmClock] = WeakKeyDictionary()
        self.last: tuple[Any, AlarmClock] = (_nothing, AlarmClock())

    def of(self, loop: AbstractEventLoop) -> AlarmClock:
        """Return the clock of the loop that runs in this thread."""
        clock = self._all.setdefault(loop, AlarmClock())
        self.last = (ref(loop), clock)
        return clock


def _nothing() -> None:
    """Stand for a loop that is gone."""
