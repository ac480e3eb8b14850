"""Seats: how many may be at work at once; each is given back by its owner, or by time if the owner has died.

A seat counts in the same half-open window as a stamp of the log: from when it was taken until the limit's time to
live is over. In Redis the seats stand behind the common head, in the form of tentative records: their number (4
bytes), then due, owner's token and units of each, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept, live

CONCURRENCY_LUA = r"""
local function seats_load(key, cap, window, extra, mine)
  local raw = redis.call('GET', key) or ''
  local s = begin(key, raw)
  s.window, s.used, s.seats, s.owner = window, 0, {}, mine
  if not s.fresh then
    local count = struct.unpack('>I4', raw, 17)
    for at = 21, 20 + 17 * count, 17 do
      local due, token, units = struct.unpack('>I7I6I4', raw, at)
      if due > s.t then
        s.seats[#s.seats + 1] = {due, token, units}
        s.used = s.used + units
      end
    end
    if s.holds > 0 then hold(s, string.sub(raw, 21 + 17 * count), mine) end
  end
  return s
end
local function seats_wait(s, over)
  local i, left = 1, over - s.seats[1][3]
  while left > 0 do
    i = i + 1
    left = left - s.seats[i][3]
  end
  return s.seats[i][1] - s.t
end
local function seats_save(s, units)
  if units > 0 then
    s.seats[#s.seats + 1] = {s.t + s.window, s.owner, units}
    s.used = s.used + units
  end
  local body = {struct.pack('>I4', #s.seats)}
  for i, seat in ipairs(s.seats) do body[i + 1] = struct.pack('>I7I6I4', seat[1], seat[2], seat[3]) end
  put(s, table.concat(body), s.window)
  return s.owner
end
local function seats_give(s, receipt, units)
  for i, seat in ipairs(s.seats) do
    if seat[2] == receipt and seat[3] == units then
      table.remove(s.seats, i)
      s.used = s.used - units
      return true
    end
  end
  return false
end
local function seats_rest(s)
  seats_save(s, 0)
end
"""


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most so many at once. The limit's time is a seat's time to live: longer than any work that holds one."""

    kind: ClassVar[str] = "seats"
    lua: ClassVar[str] = CONCURRENCY_LUA

    @staticmethod
    def count(kept: Kept, t: int, window: int, extra: int) -> int:
        """Return the units of the seats whose time is not over."""
        body = kept.body
        return sum(body[at + 2] for at in range(0, len(body), 3) if body[at] > t)

    @staticmethod
    def wait(kept: Kept, t: int, window: int, extra: int, over: int) -> int:
        """Return when time will have freed `over` units, if nobody gives back a seat before."""
        body = kept.body
        for at in range(0, len(body), 3):
            if body[at] > t:
                over -= body[at + 2]
                if over <= 0:
                    return body[at] - t
        raise AssertionError("more units than there are")

    @staticmethod
    def after(kept: Kept, t: int, window: int, extra: int, used: int) -> tuple[int, int]:
        """Return when the youngest and the oldest seat will be freed by time."""
        return kept.body[-3] - t, kept.body[0] - t

    @staticmethod
    def take(kept: Kept, t: int, window: int, extra: int, units: int, *, token: int) -> int:
        """Take a seat; the receipt is its owner's token."""
        kept.body = live(kept.body, t)
        if units:
            kept.body += (t + window, token, units)
        return token

    @staticmethod
    def give(kept: Kept, t: int, window: int, extra: int, receipt: int, *, units: int) -> bool:
        """Give back the seat of the receipt's owner, if it still counts."""
        seats = live(kept.body, t)
        for at in range(0, len(seats), 3):
            if seats[at + 1] == receipt and seats[at + 2] == units:
                kept.body = seats[:at] + seats[at + 3 :]
                return True
        return False

    @staticmethod
    def life(kept: Kept, window: int, extra: int) -> int:
        """Return a seat's time to live."""
        return window + GRACE_US
