"""What a breaker remembers of calls: the last so many, or those of the last so long.

A call is one small integer of bits. What is ignored never gets here.
"""

from __future__ import annotations

from typing import Final

from backendkit.resilience.policy import SLICES, Rules

OK: Final = 0
FAILED: Final = 1
SLOW: Final = 2
IGNORED: Final = 4
"""Outcomes of a call, as bits: it may have failed and been slow."""


FOREVER_US: Final = 2**62


class CountWindow:
    """Exactly the last `size` calls, in a ring of bytes.

    Attributes:
        total: calls in the window.
        failed: those that failed.
        slow: those that were slow.
        settled: whether it is full and nothing in it failed or was slow. One more good call then changes nothing.
    """

    __slots__ = ("_at", "_ring", "failed", "settled", "slow", "total")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self._at = 0
        self.total = self.failed = self.slow = 0
        self.settled = False

    def add(self, bits: int, now: int) -> None:
        """Append a call and forget the oldest where the window is full."""
        ring, at = self._ring, self._at
        if self.total < len(ring):
            self.total += 1
        elif old := ring[at]:
            self.failed -= old & FAILED
            self.slow -= old >> 1
        ring[at] = bits
        self._at = at + 1 if at + 1 < len(ring) else 0
        if bits:
            self.failed += bits & FAILED
            self.slow += bits >> 1
        self.settled = not (self.failed or self.slow) and self.total == len(ring)

    def add_good(self, calls: int) -> None:
        """Append good calls."""
        for _ in range(0 if self.settled else min(calls, len(self._ring))):
            self.add(OK, 0)

    @property
    def quiet_until_us(self) -> int:
        """Up to when good calls may be added later: time changes nothing here."""
        return FOREVER_US

    def catch_up(self, now: int) -> None:
        """Nothing: time changes nothing here."""

    def resized(self, size: int) -> CountWindow:
        """Return a window of another size with the youngest calls of this one."""
        ring, at = self._ring, self._at
        oldest_first = ring[at:] + ring[:at]
        new = CountWindow(size)
        for bits in oldest_first[-min(self.total, size) :] if self.total else b"":
            new.add(bits, 0)
        return new


class TimeWindow:
    """The calls of the current slice and the nine before it.

    Attributes:
        total: calls in the window.
        failed: those that failed.
        slow: those that were slow.
        settled: never: each good call counts.
    """

    __slots__ = ("_last", "_slices", "_width", "failed", "slow", "total")

    settled = False

    def __init__(self, slice_us: int, now: int) -> None:
        self._width = slice_us
        self._last = now // slice_us
        self._slices = [[0, 0, 0] for _ in range(SLICES)]
        self.total = self.failed = self.slow = 0

    def add(self, bits: int, now: int) -> None:
        """Count a call in the current slice; one that seems to lie before the newest slice counts in that."""
        if now // self._width != self._last:
            self.catch_up(now)
        current = self._slices[self._last % SLICES]
        current[0] += 1
        self.total += 1
        if bits:
            current[1] += bits & FAILED
            current[2] += bits >> 1
            self.failed += bits & FAILED
            self.slow += bits >> 1

    def add_good(self, calls: int) -> None:
        """Count good calls in the newest slice there is."""
        self._slices[self._last % SLICES][0] += calls
        self.total += calls

    @property
    def quiet_until_us(self) -> int:
        """Up to when good calls may be added later: the end of the newest slice."""
        return (self._last + 1) * self._width

    def catch_up(self, now: int) -> None:
        """Forget the slices that are over by now."""
        newest = now // self._width
        for passed in range(max(self._last + 1, newest - SLICES + 1), newest + 1):
            total, failed, slow = self._slices[passed % SLICES]
            self.total -= total
            self.failed -= failed
            self.slow -= slow
            self._slices[passed % SLICES] = [0, 0, 0]
        self._last = max(self._last, newest)


Window = CountWindow | TimeWindow


def empty_window(rules: Rules, now: int) -> Window:
    """Return the window of a closed circuit."""
    return CountWindow(rules.calls) if rules.calls else TimeWindow(rules.slice_us, now)
