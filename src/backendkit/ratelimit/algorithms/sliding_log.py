"""The exact sliding window, and the default: every unit is remembered for as long as it counts.

Admits a cost at `t` if and only if the units admitted in `(t - window, t]` and the cost are at most the limit. In
Redis the units are 7-byte stamps in one string that is used as a ring, so that an admission writes a few bytes
whatever the limit is: behind the common head its capacity, the slot of the oldest stamp, and their number, 4 bytes
each. The ring grows by being laid out anew; a full window takes at most `192 + len(key) + 9 * limit` bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import ClassVar

from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept

MOST = 1_000_000
"""The largest limit for which remembering every unit is sensible: a window of 7 MB."""


SLACK = 8
"""Stamps in memory that may stay although they no longer count."""

SLIDING_LOG_LUA = r"""
local function log_at(s, i)
  local at = 28 + 7 * ((s.first + i) % s.capacity)
  return (struct.unpack('>I7', redis.call('GETRANGE', s.key, at, at + 6)))
end
local function log_dead(s, edge)
  if s.last <= edge then return s.count end
  if s.count == 0 then return 0 end
  s.oldest = log_at(s, 0)
  if s.oldest > edge then return 0 end
  s.oldest = nil
  local low, step = 0, 1
  while low + step < s.count and log_at(s, low + step) <= edge do
    low = low + step
    step = step * 2
  end
  local high = math.min(low + step, s.count)
  while high - low > 1 do
    local middle = (low + high - (low + high) % 2) / 2
    if log_at(s, middle) <= edge then low = middle else high = middle end
  end
  return high
end
local function log_load(key, cap, window, extra, mine)
  local raw = redis.call('GETRANGE', key, 0, 27)
  local s = begin(key, raw)
  s.cap, s.window = cap, window
  s.capacity, s.first, s.count = 0, 0, 0
  if not s.fresh then
    s.capacity, s.first, s.count = struct.unpack('>I4I4I4', raw, 17)
    if s.holds > 0 then hold(s, redis.call('GETRANGE', key, 28 + 7 * s.capacity, -1), mine) end
  end
  s.dead = log_dead(s, s.t - window)
  s.used = s.count - s.dead
  return s
end
local function log_wait(s, over)
  if over > s.used - s.taken then return s.window end
  if over == 1 and s.oldest then return s.oldest + s.window - s.t end
  return log_at(s, s.dead + over - 1) + s.window - s.t
end
local function log_live(s)
  if s.used == 0 then return '' end
  local from = (s.first + s.dead) % s.capacity
  local run = math.min(s.used, s.capacity - from)
  local live = redis.call('GETRANGE', s.key, 28 + 7 * from, 27 + 7 * (from + run))
  if run < s.used then
    live = table.concat({live, redis.call('GETRANGE', s.key, 28, 27 + 7 * (s.used - run))})
  end
  return live
end
local function log_lay(s, live)
  s.used = #live / 7
  s.capacity = math.max(s.used, math.min(s.cap, math.max(2 * s.used, 16)))
  s.first, s.count, s.dead = 0, s.used, 0
  local pad = string.rep('\0', 7 * (s.capacity - s.used))
  local shape = struct.pack('>I4I4I4', s.capacity, 0, s.used)
  put(s, table.concat({shape, live, pad}), s.window + (s.window - s.window % 4) / 4)
end
local function log_append(s, stamp, units)
  local at = (s.first + s.count) % s.capacity
  local run = math.min(units, s.capacity - at)
  if run > 0 then redis.call('SETRANGE', s.key, 28 + 7 * at, string.rep(stamp, run)) end
  if run < units then redis.call('SETRANGE', s.key, 28, string.rep(stamp, units - run)) end
  s.first, s.count, s.dead = (s.first + s.dead) % s.capacity, s.used + units, 0
  s.used = s.count
  redis.call('SETRANGE', s.key, 0, table.concat({head(s), struct.pack('>I4I4I4', s.capacity, s.first, s.count)}))
  local quarter = (s.window - s.window % 4) / 4
  if s.stepped or s.t - s.t % quarter ~= s.last - s.last % quarter then
    redis.call('PEXPIRE', s.key, (s.window + quarter - (s.window + quarter) % 1000) / 1000 + 1001)
  end
end
local function log_save(s, units)
  local size, stamp = s.used + units, struct.pack('>I7', s.t)
  local roomy = s.capacity > 16 and 4 * size <= s.capacity or s.capacity > s.cap and size <= s.cap
  if s.moved or roomy or size > s.capacity or s.capacity == 0 then
    log_lay(s, table.concat({log_live(s), string.rep(stamp, units)}))
  else
    log_append(s, stamp, units)
  end
  s.taken = units
  return s.t
end
local function log_give(s, receipt, units)
  if receipt <= s.t - s.window then return false end
  local live, low, high = log_live(s), 0, s.used
  local function at(i) return (struct.unpack('>I7', live, 1 + 7 * i)) end
  while low < high do
    local middle = (low + high - (low + high) % 2) / 2
    if at(middle) < receipt then low = middle + 1 else high = middle end
  end
  if low + units > s.used or at(low + units - 1) ~= receipt then return false end
  s.body = table.concat({string.sub(live, 1, 7 * low), string.sub(live, 1 + 7 * (low + units))})
  s.used = s.used - units
  return true
end
local function log_rest(s)
  log_lay(s, s.body or log_live(s))
end
"""


@dataclass(frozen=True, slots=True)
class SlidingLog:
    """Exact in every window; memory grows with the limit (7 bytes a unit). For limits up to some thousands."""

    kind: ClassVar[str] = "log"
    lua: ClassVar[str] = SLIDING_LOG_LUA

    @staticmethod
    def count(kept: Kept, t: int, window: int, extra: int) -> int:
        """Return the stamps in `(t - window, t]`."""
        body = kept.body
        if not body or body[0] > t - window:
            return len(body)
        return len(body) - bisect_right(body, t - window)

    @staticmethod
    def wait(kept: Kept, t: int, window: int, extra: int, over: int) -> int:
        """Return when the `over`-th oldest stamp will be exactly a window old."""
        body = kept.body
        return body[bisect_right(body, t - window) + over - 1] + window - t

    @staticmethod
    def after(kept: Kept, t: int, window: int, extra: int, used: int) -> tuple[int, int]:
        """Return a window, for the newest stamp is of now, and when the oldest will be a window old."""
        return window, kept.body[-used] + window - t

    @staticmethod
    def take(kept: Kept, t: int, window: int, extra: int, units: int, *, token: int) -> int:
        """Add stamps; the receipt is their time."""
        body = kept.body
        if units == 1:
            body.append(t)
        else:
            body.extend([t] * units)
        if (
            len(body) > SLACK and body[SLACK] <= t - window
        ):  # not each time: it moves all that follow
            del body[: bisect_right(body, t - window)]
        return t

    @staticmethod
    def give(kept: Kept, t: int, window: int, extra: int, receipt: int, *, units: int) -> bool:
        """Remove stamps of the receipt's time, if all are there."""
        body = kept.body
        first = bisect_left(body, receipt)
        if receipt <= t - window or body[first : first + units] != [receipt] * units:
            return False
        del body[first : first + units]
        del body[: bisect_right(body, t - window)]
        return True

    @staticmethod
    def life(kept: Kept, window: int, extra: int) -> int:
        """Return a window and a quarter, so that the time to live is renewed four times in a window, not always."""
        return window + window // 4 + GRACE_US
