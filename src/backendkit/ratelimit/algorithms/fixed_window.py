"""One count per window of the wall clock: the cheapest, and up to twice the limit around a window's edge.

For quotas that people read ("per calendar minute"). In Redis: behind the common head the window's number (7 bytes)
and its count (4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept

FIXED_WINDOW_LUA = r"""
local function fixed_load(key, cap, window, extra, mine)
  local raw = redis.call('GET', key) or ''
  local s = begin(key, raw)
  s.window, s.number, s.used = window, (s.t - s.t % window) / window, 0
  if not s.fresh then
    local number, units = struct.unpack('>I7I4', raw, 17)
    if number == s.number then s.used = units end
    if s.holds > 0 then hold(s, string.sub(raw, 28), mine) end
  end
  return s
end
local function fixed_wait(s, over)
  return s.window - s.t % s.window
end
local function fixed_save(s, units)
  s.used = s.used + units
  put(s, struct.pack('>I7I4', s.number, s.used), s.window)
  return s.number
end
local function fixed_give(s, receipt, units)
  if receipt ~= s.number or s.used < units then return false end
  s.used = s.used - units
  return true
end
local function fixed_rest(s)
  fixed_save(s, 0)
end
"""


@dataclass(frozen=True, slots=True)
class FixedWindow:
    """Windows that begin at multiples of their length since 1970 (UTC); 27 bytes a key."""

    kind: ClassVar[str] = "fixed"
    lua: ClassVar[str] = FIXED_WINDOW_LUA

    @staticmethod
    def count(kept: Kept, t: int, window: int, extra: int) -> int:
        """Return the count, if it is of the window that `t` falls into."""
        body = kept.body
        return body[1] if body and body[0] == t // window else 0

    @staticmethod
    def wait(kept: Kept, t: int, window: int, extra: int, over: int) -> int:
        """Return the rest of the window."""
        return window - t % window

    @staticmethod
    def after(kept: Kept, t: int, window: int, extra: int, used: int) -> tuple[int, int]:
        """Return the rest of the window, twice."""
        rest = window - t % window
        return rest, rest

    @staticmethod
    def take(kept: Kept, t: int, window: int, extra: int, units: int, *, token: int) -> int:
        """Count; the receipt is the window's number."""
        kept.body = [t // window, FixedWindow.count(kept, t, window, extra) + units]
        return kept.body[0]

    @staticmethod
    def give(kept: Kept, t: int, window: int, extra: int, receipt: int, *, units: int) -> bool:
        """Count back, if the receipt is of the window that still runs."""
        if receipt != t // window or FixedWindow.count(kept, t, window, extra) < units:
            return False
        kept.body[1] -= units
        return True

    @staticmethod
    def life(kept: Kept, window: int, extra: int) -> int:
        """Return a window."""
        return window + GRACE_US
