# ruff: noqa: D101, D102, PLR0917 - models of one definition; their methods mean what the base says
"""The rate limiting algorithms as slow models over whole numbers: what counts at a time, by definition.

A model answers one question, how many units count at `t`; everything else (what is admitted, how long to wait)
follows from it by definition and by search, the same for all algorithms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

FAR = 2**52


def first_time(holds: Callable[[int], bool]) -> int:
    """Return the least time from now at which a condition that stays true becomes true."""
    low, high = 0, FAR
    assert holds(high)
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


@dataclass
class Hold:
    """Tentative units."""

    due: int
    token: int
    units: int


@dataclass
class Model(ABC):
    """One key."""

    window: int
    extra: int = 0
    last: int = 0
    offset: int = 0
    holds: list[Hold] = field(default_factory=list)

    @abstractmethod
    def used(self, t: int) -> int:
        """Units that count at key time `t`."""

    @abstractmethod
    def add(self, t: int, units: int, token: int) -> int:
        """Admit; return the receipt."""

    @abstractmethod
    def remove(self, t: int, receipt: int, units: int) -> bool:
        """Take back exactly these."""

    @abstractmethod
    def empty(self) -> None:
        """Forget everything."""

    def time(self, now: int) -> tuple[int, int]:
        """Key time and offset."""
        t = now + self.offset
        return (t, self.offset) if t >= self.last else (self.last, self.last - now)

    def held(self, t: int, mine: int = 0) -> int:
        """Tentative units that count."""
        return sum(h.units for h in self.holds if h.due > t and h.token != mine)

    def take(
        self, now: int, cap: int, least: int, most: int, mode: int, token: int, span: int
    ) -> list[int]:
        """What the script `take` replies for this limit alone."""
        t, offset = self.time(now)

        def total(dt: int, mine: int = token) -> int:
            return self.used(t + dt) + self.held(t + dt, mine)

        room = min(most, cap - total(0))
        allowed, receipt = room >= least, 0
        retry = mark = 0
        if not allowed:
            retry = -1 if least > cap else first_time(lambda dt: total(dt) + least <= cap)
            mark = int(self.used(t) + least <= cap)
            if mode:
                self.offset = offset
        elif mode and room > 0:
            self.holds = [h for h in self.holds if h.due > t and h.token != token]
            self.last, self.offset = t, offset
            if mode == 2:
                self.holds.append(Hold(t + span, token, room))
                self.add(t, 0, token)
                token = 0
            else:
                receipt = self.add(t, room, token)
        mine = 0 if mode == 2 and allowed and room > 0 else token
        now_total = total(0, mine)
        reset = more = 0
        if now_total:
            reset = first_time(lambda dt: total(dt, mine) == 0)
            more = first_time(lambda dt: max(0, cap - total(dt, mine)) > max(0, cap - now_total))
        return [
            int(allowed),
            max(0, room) if allowed else 0,
            now_total,
            retry,
            reset,
            more,
            receipt,
            mark,
        ]

    def give(self, now: int, receipt: int, units: int, token: int) -> list[int]:
        """What the script `give` replies for this limit alone."""
        t, offset = self.time(now)
        given = units > 0 and self.remove(t, receipt, units)
        kept = [h for h in self.holds if h.due > t and h.token != token]
        if given or len(kept) != len(self.holds):
            self.holds, self.last, self.offset = kept, t, offset
            self.add(t, 0, token)
            if self.used(t) + self.held(t) == 0:
                self.empty()
                self.holds, self.last, self.offset = [], 0, 0
        return [units if given else 0]


@dataclass
class Stamped(Model):
    """Models that remember every admission."""

    units: list[tuple[int, int, int]] = field(default_factory=list)  # time, units, token

    def add(self, t: int, units: int, token: int) -> int:
        if units:
            self.units.append((t, units, token))
        return self.receipt(t, token)

    def receipt(self, t: int, token: int) -> int:
        return t

    def empty(self) -> None:
        self.units = []

    def remove(self, t: int, receipt: int, units: int) -> bool:
        same = [u for u in self.units if self.receipt(u[0], u[2]) == receipt and self.counts(u, t)]
        if sum(u[1] for u in same) < units:
            return False
        left = sum(u[1] for u in same) - units
        self.units = [u for u in self.units if u not in same]
        if left:
            self.units.append((same[0][0], left, same[0][2]))
            self.units.sort(key=lambda u: u[0])
        return True

    def counts(self, unit: tuple[int, int, int], t: int) -> bool:
        raise NotImplementedError

    def used(self, t: int) -> int:
        return sum(unit[1] for unit in self.units if self.counts(unit, t))


class Log(Stamped):
    def counts(self, unit: tuple[int, int, int], t: int) -> bool:
        return t - self.window < unit[0]


class Buckets(Stamped):
    def bucket(self, t: int) -> int:
        return int(Fraction(t * self.extra, self.window).__floor__())

    def receipt(self, t: int, token: int) -> int:
        return self.bucket(t)

    def counts(self, unit: tuple[int, int, int], t: int) -> bool:
        return self.bucket(unit[0]) >= self.bucket(t - self.window)


class Fixed(Stamped):
    def receipt(self, t: int, token: int) -> int:
        return t // self.window

    def counts(self, unit: tuple[int, int, int], t: int) -> bool:
        return unit[0] // self.window == t // self.window


class Seats(Stamped):
    def receipt(self, t: int, token: int) -> int:
        return token

    def counts(self, unit: tuple[int, int, int], t: int) -> bool:
        return t < unit[0] + self.window

    def remove(self, t: int, receipt: int, units: int) -> bool:
        for unit in self.units:
            if unit[2] == receipt and unit[1] == units and self.counts(unit, t):
                self.units.remove(unit)
                return True
        return False


@dataclass
class Gcra(Model):
    """A level that drains at a constant rate, as a fraction of units."""

    level: Fraction = Fraction(0)
    since: int = 0

    def at(self, t: int) -> Fraction:
        return max(Fraction(0), self.level - Fraction((t - self.since) * self.extra, self.window))

    def used(self, t: int) -> int:
        return int(self.at(t).__ceil__())

    def add(self, t: int, units: int, token: int) -> int:
        self.level, self.since = self.at(t) + units, t
        return t + int((self.level * self.window / self.extra).__ceil__())

    def remove(self, t: int, receipt: int, units: int) -> bool:
        level = self.at(t)
        if receipt <= t or level == 0:
            return False
        left = Fraction((receipt - t) * self.extra, self.window)
        self.level, self.since = level - min(level, Fraction(units), left), t
        return True

    def empty(self) -> None:
        self.level, self.since = Fraction(0), 0
