"""A sliding window in constant memory that errs on the safe side only.

The window is cut into `buckets` parts. What counts at `t` is the part that `t` falls into and the `buckets` before
it, the oldest one whole: never more than the limit in ANY half-open window, and everything is admitted that an
exact log of width `window * (1 + 1 / buckets)` over the same units would admit. The popular counter of two windows,
which takes a share of the older one, admits twice the limit in one window at worst.

Bucket `n` begins at `n // B * W + ceil(n % B * W / B)`: a width rounded once would drift, and break the one promise
or the other. In Redis: behind the common head the number of the newest bucket (7 bytes) and `buckets + 1` counts
(4 each), oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from backendkit.core import checks
from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept

SLIDING_BUCKETS_LUA = r"""
local function buckets_load(key, cap, window, parts, mine)
  local raw = redis.call('GET', key) or ''
  local s = begin(key, raw)
  s.window, s.parts, s.counts, s.used = window, parts, {}, 0
  local scaled = s.t % window * parts
  s.newest = (s.t - s.t % window) / window * parts + (scaled - scaled % window) / window
  for i = 0, parts do s.counts[i] = 0 end
  if not s.fresh then
    local behind = s.newest - struct.unpack('>I7', raw, 17)
    for i = behind, parts do
      local units = struct.unpack('>I4', raw, 24 + 4 * i)
      s.counts[i - behind] = units
      s.used = s.used + units
    end
    if s.holds > 0 then hold(s, string.sub(raw, 28 + 4 * parts), mine) end
  end
  return s
end
local function buckets_wait(s, over)
  local i, left = 0, over - s.counts[0]
  while left > 0 do
    i = i + 1
    left = left - s.counts[i]
  end
  local leaves = s.newest + i + 1
  local part = leaves % s.parts
  local begins = (leaves - part) / s.parts * s.window
  local scaled = part * s.window + s.parts - 1
  return begins + (scaled - scaled % s.parts) / s.parts - s.t
end
local function buckets_save(s, units)
  s.counts[s.parts] = s.counts[s.parts] + units
  s.used = s.used + units
  local body = {struct.pack('>I7', s.newest)}
  for i = 0, s.parts do body[i + 2] = struct.pack('>I4', s.counts[i]) end
  put(s, table.concat(body), s.window + (s.window + s.parts - 1 - (s.window + s.parts - 1) % s.parts) / s.parts)
  return s.newest
end
local function buckets_give(s, receipt, units)
  local i = receipt - s.newest + s.parts
  if i < 0 or i > s.parts or s.counts[i] < units then return false end
  s.counts[i] = s.counts[i] - units
  s.used = s.used - units
  return true
end
local function buckets_rest(s)
  buckets_save(s, 0)
end
"""


@dataclass(frozen=True, slots=True)
class SlidingBuckets:
    """Never more than the limit in any window, `23 + 4 * (buckets + 1)` bytes a key, whatever the limit.

    Attributes:
        buckets: 1..1000. With more of them less is refused that an exact log would admit.
    """

    buckets: int = 10

    kind: ClassVar[str] = "buckets"
    lua: ClassVar[str] = SLIDING_BUCKETS_LUA

    def __post_init__(self) -> None:
        checks.whole("buckets", self.buckets, least=1, most=1000)

    @staticmethod
    def count(kept: Kept, t: int, window: int, parts: int) -> int:
        """Return the units of the bucket that `t` falls into and of the `parts` before it."""
        body = kept.body
        behind = _bucket(t, window, parts) - body[0] if body else parts + 1
        return sum(body[1 + behind :])

    @staticmethod
    def wait(kept: Kept, t: int, window: int, parts: int, over: int) -> int:
        """Return when the bucket leaves with which `over` units are gone."""
        newest = _bucket(t, window, parts)
        behind = newest - kept.body[0]
        for at in range(1 + behind, parts + 2):
            over -= kept.body[at]
            if over <= 0:
                return _begins(newest + at - behind, window, parts) - t
        raise AssertionError("more units than there are")

    @staticmethod
    def after(kept: Kept, t: int, window: int, parts: int, used: int) -> tuple[int, int]:
        """Return both waits."""
        wait = SlidingBuckets.wait
        return wait(kept, t, window, parts, used), wait(kept, t, window, parts, 1)

    @staticmethod
    def take(kept: Kept, t: int, window: int, parts: int, units: int, *, token: int) -> int:
        """Add units to the newest bucket; the receipt is its number."""
        newest = _bucket(t, window, parts)
        body = kept.body
        behind = min(newest - body[0], parts + 1) if body else parts + 1
        counts = body[1 + behind :] + [0] * behind
        counts[-1] += units
        kept.body = [newest, *counts]
        return newest

    @staticmethod
    def give(kept: Kept, t: int, window: int, parts: int, receipt: int, *, units: int) -> bool:
        """Take units out of the receipt's bucket, if it still counts."""
        at = 1 + receipt - kept.body[0] + parts if kept.body else 0
        oldest = _bucket(t, window, parts) - parts
        if receipt < oldest or not 1 <= at < len(kept.body) or kept.body[at] < units:
            return False
        kept.body[at] -= units
        return True

    @staticmethod
    def life(kept: Kept, window: int, parts: int) -> int:
        """Return a window and a bucket."""
        return window + -(-window // parts) + GRACE_US


def _bucket(t: int, window: int, parts: int) -> int:
    return t // window * parts + t % window * parts // window


def _begins(bucket: int, window: int, parts: int) -> int:
    return bucket // parts * window + -(-(bucket % parts) * window // parts)
