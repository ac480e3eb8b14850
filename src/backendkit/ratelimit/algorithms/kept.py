"""What all algorithms keep alike: one clock per key, and tentative units; in Lua and in Python.

Key time is the store's clock plus an offset that lies beside the state. Where it falls before the last write, the
clock has stepped back, and the offset becomes what makes up for it: time goes on from the last write, neither
back (which would admit too much) nor frozen until the clock catches up (which would lock out for that long).

A tentative unit counts like any other until it is settled or its time is over. Reservations over several slots of
a Cluster are made of them; their records stand behind the state proper.

In Redis a state is one string: `last` (7 bytes), `offset` (7, signed), the number of tentative records (2), then
what the algorithm keeps, then those records of 17 bytes: due (7), token (6), units (4). Big-endian throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

GRACE_US = 1_000_000
"""Added to every logical life before it becomes a time to live."""


class Kept:
    """What is kept under one key in memory; what a Redis string holds there.

    Attributes:
        last: key time of the last write.
        offset: key time minus the store's clock.
        body: what the algorithm keeps; `seats` and tentative units are flat triples of due, token, units.
        held: tentative units.
    """

    __slots__ = ("body", "held", "last", "offset")

    def __init__(self) -> None:
        self.last = 0
        self.offset = 0
        self.body: list[int] = []
        self.held: list[int] = []


def weigh(kept: Kept) -> int:
    """Return the approximate bytes of a state."""
    return 240 + 40 * (len(kept.body) + len(kept.held))


def live(triples: list[int], t: int, mine: int = 0) -> list[int]:
    """Return the triples of due, token, units that count at `t` and are not of token `mine`."""
    if not triples:
        return []
    kept: list[int] = []
    for at in range(0, len(triples), 3):
        if triples[at] > t and triples[at + 1] != mine:
            kept += triples[at : at + 3]
    return kept


class Rules(Protocol):
    """An algorithm as pure functions over `Kept`; `t` is key time, `window` and `extra` are the limit's.

    Attributes:
        kind: stands in keys; letters.
        lua: the same in Lua: functions `<kind>_load`, `_wait`, `_save`, `_give`.
    """

    kind: ClassVar[str]
    lua: ClassVar[str]

    @staticmethod
    def count(kept: Kept, t: int, window: int, extra: int, /) -> int:
        """Return the units that count at `t`, tentative ones aside."""
        ...

    @staticmethod
    def wait(kept: Kept, t: int, window: int, extra: int, over: int, /) -> int:
        """Return the least time until `over` (1..count) fewer count, if nothing else happens."""
        ...

    @staticmethod
    def after(kept: Kept, t: int, window: int, extra: int, used: int, /) -> tuple[int, int]:
        """Return, right after units were taken at `t`, the least times until none and until one fewer of `used` count."""
        ...

    @staticmethod
    def take(kept: Kept, t: int, window: int, extra: int, units: int, /, *, token: int) -> int:
        """Record units at `t`, and forget what no longer counts; return the receipt."""
        ...

    @staticmethod
    def give(kept: Kept, t: int, window: int, extra: int, receipt: int, /, *, units: int) -> bool:
        """Remove exactly the units of a receipt; return whether they were there."""
        ...

    @staticmethod
    def life(kept: Kept, window: int, extra: int, /) -> int:
        """Return how long the state means anything after a write, in microseconds."""
        ...


def fall(t: int, held: list[int], used: int, target: int, wait: Callable[[int], int]) -> int:
    """Return the least time until no more than `target` units count, if nothing else happens.

    Args:
        t: key time.
        held: the tentative units that count at `t`.
        used: the other units that count.
        target: 0 or more.
        wait: the algorithm's, for this state: how long until so many fewer count.
    """
    over = used - target
    if not held:
        return wait(over) if over > 0 else 0
    times: list[int] = []
    for after in (t, *held[::3]):
        more = over + sum(held[at + 2] for at in range(0, len(held), 3) if held[at] > after)
        if more <= used:
            times.append(max(after - t, wait(more) if more > 0 else 0))
    return min(times)


PRELUDE_LUA = r"""
local function begin(key, raw)
  local s = {key = key, last = 0, offset = 0, holds = 0, held = 0, tail = '', dues = {}, taken = 0}
  s.fresh = #raw == 0
  if not s.fresh then s.last, s.offset, s.holds = struct.unpack('>I7i7I2', raw) end
  s.t = now + s.offset
  if s.t < s.last then
    s.offset = s.last - now
    s.t = s.last
    s.stepped = true
  end
  return s
end
local function hold(s, tail, mine)
  local kept = {}
  for at = 1, #tail, 17 do
    local due, token, units = struct.unpack('>I7I6I4', tail, at)
    if due > s.t and token ~= mine then
      kept[#kept + 1] = string.sub(tail, at, at + 16)
      s.held = s.held + units
      s.dues[#s.dues + 1] = {due, units}
    else
      s.moved = true
    end
  end
  s.tail = table.concat(kept)
end
local function add_hold(s, due, token, units)
  s.tail = table.concat({s.tail, struct.pack('>I7I6I4', due, token, units)})
  s.held = s.held + units
  s.dues[#s.dues + 1] = {due, units}
  s.moved = true
end
local function head(s)
  return struct.pack('>I7i7I2', s.t, s.offset, #s.tail / 17)
end
local function put(s, body, life)
  local ms = (life + 1000999 - (life + 999) % 1000) / 1000
  redis.call('SET', s.key, table.concat({head(s), body, s.tail}), 'PX', ms)
end
local function fall(s, wait, target)
  local over = s.used - target
  if s.held == 0 then
    if over > 0 then return wait(s, over) end
    return 0
  end
  local least
  local function consider(after)
    local more = over
    for _, due in ipairs(s.dues) do
      if due[1] > after then more = more + due[2] end
    end
    if more > s.used then return end
    local time = after - s.t
    if more > 0 then time = math.max(time, wait(s, more)) end
    if not least or time < least then least = time end
  end
  consider(s.t)
  for _, due in ipairs(s.dues) do consider(due[1]) end
  return least
end
"""
"""What every script begins with. A state is a table `s`: `t`, `used`, `held`, and what its algorithm needs."""
