"""The penalty box: who is refused too often is refused for a time that doubles.

It counts the denials that the store decided, and knows nothing of the limit's algorithm. Its state stands under a
key of its own beside the limit's: behind the common head the number of denials (4 bytes), when the first of them
was (7), how often the subject was blocked (1), until when (7).
"""

from __future__ import annotations

from collections.abc import Sequence

from backendkit.ratelimit.algorithms.kept import GRACE_US, Kept

BOX_LUA = r"""
local function box_load(key)
  local raw = redis.call('GET', key) or ''
  local b = begin(key, raw)
  b.count, b.since, b.level, b.ends = 0, 0, 0, 0
  if not b.fresh then b.count, b.since, b.level, b.ends = struct.unpack('>I4I7BI7', raw, 17) end
  return b
end
local function box_note(b, after, within, first, longest)
  if b.ends > b.t then return end
  if b.t - b.since >= within then b.count, b.since = 0, b.t end
  if b.t - b.ends >= longest then b.level = 0 end
  b.count = b.count + 1
  if b.count >= after then
    b.ends = b.t + math.min(longest, first * 2 ^ b.level)
    b.level = math.min(b.level + 1, 40)
    b.count = 0
  end
  put(b, struct.pack('>I4I7BI7', b.count, b.since, b.level, b.ends), math.max(within, b.ends - b.t + longest))
end
"""

_LEVELS = 40
"""A time doubled so often is beyond any cap."""


def ends(box: Kept) -> int:
    """Return the key time at which the block ends or has ended."""
    return box.body[3] if box.body else 0


def note(box: Kept, t: int, rule: Sequence[int]) -> int | None:
    """Count a denial at `t`; return how long to keep the box for, None where a block runs and nothing changes.

    Args:
        box: its state.
        t: key time.
        rule: denials, the time within which, the first block, the longest block.
    """
    after, within, first, longest = rule
    count, since, level, end = box.body or (0, 0, 0, 0)
    if end > t:
        return None
    if t - since >= within:
        count, since = 0, t
    if t - end >= longest:
        level = 0
    count += 1
    if count >= after:
        end = t + min(longest, first << level)
        level = min(level + 1, _LEVELS)
        count = 0
    box.body = [count, since, level, end]
    return max(within, end - t + longest) + GRACE_US
