"""The generic cell rate algorithm, as the bucket that it is: admits a burst, then a steady rate.

Source: ITU-T I.371, in the form of a leaky bucket. Its level is kept in units times the window's microseconds, so
that `rate` of it drains per microsecond and nothing is ever rounded: in any interval of length D at most
`burst + floor(D * rate / window)` units are admitted, plus those given back. With `burst` equal to the limit that
is up to `2 * limit - 1` in one window: choose it for its small state and smooth refill, not for a hard cap.
In Redis: behind the common head the level, 7 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backendkit.core import checks
from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept

GCRA_LUA = r"""
local function gcra_load(key, cap, window, rate, mine)
  local raw = redis.call('GET', key) or ''
  local s = begin(key, raw)
  s.window, s.rate, s.level = window, rate, 0
  if not s.fresh then
    s.level = math.max(0, struct.unpack('>I7', raw, 17) - (s.t - s.last) * rate)
    if s.holds > 0 then hold(s, string.sub(raw, 24), mine) end
  end
  local up = s.level + window - 1
  s.used = (up - up % window) / window
  return s
end
local function gcra_wait(s, over)
  local up = s.level - (s.used - over) * s.window + s.rate - 1
  return (up - up % s.rate) / s.rate
end
local function gcra_save(s, units)
  s.level = s.level + units * s.window
  s.used = s.used + units
  local up = s.level + s.rate - 1
  local life = (up - up % s.rate) / s.rate
  put(s, struct.pack('>I7', s.level), life)
  return s.t + life
end
local function gcra_give(s, receipt, units)
  if receipt <= s.t or s.level == 0 then return false end
  s.level = s.level - math.min(s.level, units * s.window, (receipt - s.t) * s.rate)
  local up = s.level + s.window - 1
  s.used = (up - up % s.window) / s.window
  return true
end
local function gcra_rest(s)
  gcra_save(s, 0)
end
"""


@dataclass(frozen=True, slots=True)
class GCRA:
    """A steady rate with bursts; 23 bytes a key.

    Attributes:
        burst: how many units may come at once, from 1; None: as many as the limit.
    """

    burst: int | None = None

    kind: ClassVar[str] = "gcra"
    lua: ClassVar[str] = GCRA_LUA

    def __post_init__(self) -> None:
        if self.burst is not None:
            checks.whole("burst", self.burst, least=1)

    @staticmethod
    def count(kept: Kept, t: int, window: int, rate: int) -> int:
        """Return the level in units, rounded up."""
        return -(-_level(kept, t, rate) // window)

    @staticmethod
    def wait(kept: Kept, t: int, window: int, rate: int, over: int) -> int:
        """Return when the level will be `over` units below what it counts for now."""
        level = _level(kept, t, rate)
        return -(-(level - (-(-level // window) - over) * window) // rate)

    @staticmethod
    def after(kept: Kept, t: int, window: int, rate: int, used: int) -> tuple[int, int]:
        """Return both waits."""
        wait = GCRA.wait
        return wait(kept, t, window, rate, used), wait(kept, t, window, rate, 1)

    @staticmethod
    def take(kept: Kept, t: int, window: int, rate: int, units: int, *, token: int) -> int:
        """Raise the level; the receipt is when these units will have drained."""
        level = _level(kept, t, rate) + units * window
        kept.body = [level]
        return t - -level // rate

    @staticmethod
    def give(kept: Kept, t: int, window: int, rate: int, receipt: int, *, units: int) -> bool:
        """Lower the level by what has not drained yet of the receipt's units."""
        level = _level(kept, t, rate)
        if receipt <= t or level == 0:
            return False
        kept.body = [level - min(level, units * window, (receipt - t) * rate)]
        kept.last = t
        return True

    @staticmethod
    def life(kept: Kept, window: int, rate: int) -> int:
        """Return how long the level takes to drain."""
        return -(-kept.body[0] // rate) + GRACE_US


def _level(kept: Kept, t: int, rate: int) -> int:
    return max(0, kept.body[0] - (t - kept.last) * rate) if kept.body else 0
