"""Counting with an end: one number and the moment at which it is over, changed in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from backendkit.core.operation import DELETE, Change, Operation, Reply, Script, State

MOST = 2**53 - 1
"""Where counting stops, in either direction: the largest number that Redis's scripts hold exactly."""


_SPARE_US = 10_000_000
"""Microseconds for which a count is kept after it is over: its own deadline decides, not when it is swept away."""


def add(key: bytes, by: int, life_us: int) -> Operation[tuple[int, int]]:
    """Return the operation that adds, and begins at 0 where the count is over; its number, and microseconds left."""
    return Operation(ADD, (key,), (by, life_us), _pair)


def look(key: bytes) -> Operation[tuple[int, int]]:
    """Return the operation that reads a count; 0 and 0 where there is none."""
    return Operation(LOOK, (key,), (), _pair)


def reset(key: bytes) -> Operation[tuple[int, int]]:
    """Return the operation that reads a count and ends it."""
    return Operation(RESET, (key,), (), _pair)


def _pair(reply: Reply) -> tuple[int, int]:
    return cast("tuple[int, int]", (reply[0], reply[1]))


_FIND_LUA = """
local count, over = 0, 0
local found = redis.call('GET', KEYS[1])
if found then
  local c, o = string.match(found, '^(-?%d+) (%d+)$')
  if c and tonumber(o) > now then count, over = tonumber(c), tonumber(o) end
end
"""

_ADD_LUA = (
    _FIND_LUA
    + """
if over == 0 then over = now + tonumber(ARGV[2]) end
count = math.max(-9007199254740991, math.min(9007199254740991, count + tonumber(ARGV[1])))
local kept = string.format('%.0f %.0f', count, over)
redis.call('SET', KEYS[1], kept, 'PX', math.ceil((over - now) / 1000) + 10000)
return {count, over - now}
"""
)

_LOOK_LUA = (
    _FIND_LUA
    + """
return {count, over == 0 and 0 or over - now}
"""
)

_RESET_LUA = (
    _FIND_LUA
    + """
redis.call('DEL', KEYS[1])
return {count, over == 0 and 0 or over - now}
"""
)


def _found(state: State, now: int) -> tuple[int, int]:
    return state if state is not None and state[1] > now else (0, 0)


def _fold_add(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    count, over = _found(states[0], now)
    over = over or now + args[1]
    count = max(-MOST, min(MOST, count + args[0]))
    return Change([((count, over), over - now + _SPARE_US)], [count, over - now])


def _fold_look(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    count, over = _found(states[0], now)
    return Change([], [count, over - now if over else 0])


def _fold_reset(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change([DELETE], _fold_look(states, now, args).reply)


ADD = Script("cache.count", lua=_ADD_LUA, fold=_fold_add)
"""Adds to a count."""

LOOK = Script("cache.count_look", lua=_LOOK_LUA, fold=_fold_look)
"""Reads a count."""

RESET = Script("cache.count_reset", lua=_RESET_LUA, fold=_fold_reset)
"""Ends a count."""
