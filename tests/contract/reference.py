"""Reference scripts: the sorts of change that features are made of, each in both spellings, with a slow oracle.

An oracle says what the change means, in the plainest Python, knowing neither Lua nor fold. Where the fold and the Lua
share a mistake, it does not.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from backendkit.core.operation import (
    DELETE,
    KEEP,
    Change,
    Fold,
    Item,
    Operation,
    Reply,
    Script,
    State,
)

LARGEST = 2**53 - 1
DAY_US = 86_400_000_000

Steps: TypeAlias = Operation[Reply]


def _raw(reply: Reply) -> Reply:
    return reply


# A counter: refuses what would leave the integers that Lua holds exactly.


def _fold_add(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    total = (states[0] or 0) + args[0]
    if abs(total) > LARGEST:
        return Change((), [0, states[0] or 0])
    return Change(((total, DAY_US),), [1, total])


ADD = Script(
    "reference.counter.add",
    lua="""
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local total = before + tonumber(ARGV[1])
if total > 9007199254740991 or total < -9007199254740991 then
  return {0, before}
end
redis.call('SET', KEYS[1], string.format('%.0f', total), 'PX', 86400000)
return {1, total}
""",
    fold=_fold_add,
)


def add(key: bytes, number: int) -> Steps:
    """Add `number` to a counter; replies whether it did, and the total."""
    return Operation(ADD, (key,), (number,), _raw)


# A sliding log: the stamps of the last hits, the key's own time and how far the clock lies behind it.


def _fold_hit(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    window, limit = args
    state = states[0] or [now, 0]
    if now + state[1] < state[0]:
        state[1] = state[0] - now
    here = state[0] = now + state[1]
    state[2:] = [stamp for stamp in state[2:] if stamp > here - window]
    allowed = len(state) - 2 < limit
    if allowed:
        state.append(here)
    return Change(((state, DAY_US),), [int(allowed), len(state) - 2, here])


HIT = Script(
    "reference.log.hit",
    lua="""
local window, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local last, offset, stamps = now, 0, {}
local packed = redis.call('GET', KEYS[1])
if packed then
  local place = 0
  for word in string.gmatch(packed, '[^,]+') do
    place = place + 1
    if place == 1 then last = tonumber(word)
    elseif place == 2 then offset = tonumber(word)
    else stamps[place - 2] = tonumber(word) end
  end
end
if now + offset < last then offset = last - now end
local here = now + offset
local kept = {string.format('%.0f', here), string.format('%.0f', offset)}
for _, stamp in ipairs(stamps) do
  if stamp > here - window then kept[#kept + 1] = string.format('%.0f', stamp) end
end
local allowed = 0
if #kept - 2 < limit then
  allowed = 1
  kept[#kept + 1] = string.format('%.0f', here)
end
redis.call('SET', KEYS[1], table.concat(kept, ','), 'PX', 86400000)
return {allowed, #kept - 2, here}
""",
    fold=_fold_hit,
)


def hit(key: bytes, window_us: int, limit: int) -> Steps:
    """Count a hit unless `limit` of them lie in the window; replies whether it counted, how many do, the key's time."""
    return Operation(HIT, (key,), (window_us, limit), _raw)


# Compare and set: bytes of any kind.


def _fold_swap(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    present, expected, wanted = args
    held = states[0]
    if (held is not None) != bool(present) or (present and held != expected):
        return Change((KEEP,), [0, int(held is not None), held or b""])
    return Change(((wanted, DAY_US),), [1, 1, wanted])


SWAP = Script(
    "reference.cell.swap",
    lua="""
local held = redis.call('GET', KEYS[1])
local expected = ARGV[1] ~= '0'
if (held and true or false) ~= expected or (expected and held ~= ARGV[2]) then
  return {0, held and 1 or 0, held or ''}
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', 86400000)
return {1, 1, ARGV[3]}
""",
    fold=_fold_swap,
)


def swap(key: bytes, expected: bytes | None, wanted: bytes) -> Steps:
    """Set a cell if it holds what is expected, None for nothing; replies whether it did, and what it holds."""
    return Operation(SWAP, (key,), (int(expected is not None), expected or b"", wanted), _raw)


# A transfer between two keys, one of which may vanish by it.


def _fold_transfer(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    source, target, amount = states[0] or 0, states[1] or 0, args[0]
    if amount < 0 or amount > source or target + amount > LARGEST:
        return Change((), [0, source, target])
    left = source - amount
    kept = (left, DAY_US) if left else DELETE
    return Change((kept, (target + amount, DAY_US)), [1, left, target + amount])


TRANSFER = Script(
    "reference.counter.transfer",
    lua="""
local source = tonumber(redis.call('GET', KEYS[1]) or '0')
local target = tonumber(redis.call('GET', KEYS[2]) or '0')
local amount = tonumber(ARGV[1])
if amount < 0 or amount > source or target + amount > 9007199254740991 then
  return {0, source, target}
end
if source == amount then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.format('%.0f', source - amount), 'PX', 86400000)
end
redis.call('SET', KEYS[2], string.format('%.0f', target + amount), 'PX', 86400000)
return {1, source - amount, target + amount}
""",
    fold=_fold_transfer,
)


def transfer(source: bytes, target: bytes, amount: int) -> Steps:
    """Move an amount between two counters if there is so much; replies whether it did, and both."""
    return Operation(TRANSFER, (source, target), (amount,), _raw)


# What writes nothing: an echo of bytes, and the time.


def _fold_echo(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [len(args[0]), args[0], b""])


ECHO = Script("reference.echo", lua="return {#ARGV[1], ARGV[1], ''}", fold=_fold_echo)


def echo(key: bytes, token: bytes) -> Steps:
    """Reply with the token's length, the token and an empty one."""
    return Operation(ECHO, (key,), (token,), _raw)


def _fold_time(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [now])


TIME = Script("reference.time", lua="return {now}", fold=_fold_time)


def time(key: bytes) -> Steps:
    """Reply with what scripts see as now."""
    return Operation(TIME, (key,), (), _raw)


# Cells with a time to live, read and deleted.


def _fold_put(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    value, ttl_us = args
    return Change(((value, ttl_us),), [int(states[0] is not None)])


def _put(name: str, *, evictable: bool) -> Script:
    lua = """
local before = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2] / 1000)
return {before}
"""
    return Script(name, lua=lua, fold=_fold_put, evictable=evictable)


PUT = _put("reference.cell.put", evictable=False)
CACHE = _put("reference.cell.cache", evictable=True)


def put(key: bytes, value: bytes, ttl_ms: int = 86_400_000) -> Steps:
    """Write a cell; replies whether there was one."""
    return Operation(PUT, (key,), (value, ttl_ms * 1000), _raw)


def cache(key: bytes, value: bytes, ttl_ms: int = 86_400_000) -> Steps:
    """Write a cell that a full store may drop; replies whether there was one."""
    return Operation(CACHE, (key,), (value, ttl_ms * 1000), _raw)


def _fold_look(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    held = states[0]
    return Change((KEEP,), [int(held is not None), held if held is not None else b""])


LOOK = Script(
    "reference.cell.look",
    lua="""
local held = redis.call('GET', KEYS[1])
return {held and 1 or 0, held or ''}
""",
    fold=_fold_look,
)


def look(key: bytes) -> Steps:
    """Reply whether there is a cell, and what it holds."""
    return Operation(LOOK, (key,), (), _raw)


def _fold_drop(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((DELETE,), [int(states[0] is not None)])


DROP = Script("reference.cell.drop", lua="return {redis.call('DEL', KEYS[1])}", fold=_fold_drop)


def drop(key: bytes) -> Steps:
    """Delete whatever is there; replies whether something was."""
    return Operation(DROP, (key,), (), _raw)


SCRIPTS = (ADD, HIT, SWAP, TRANSFER, ECHO, TIME, PUT, CACHE, LOOK, DROP)


class Oracle:
    """What the reference scripts mean. Keys are the names that a history gives them."""

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}
        self._cells: dict[str, bytes] = {}
        self._logs: dict[str, _Log] = {}

    def add(self, name: str, number: int) -> Reply:
        """See `add`."""
        total = self._counters.get(name, 0) + number
        if not -LARGEST <= total <= LARGEST:
            return [0, self._counters.get(name, 0)]
        self._counters[name] = total
        return [1, total]

    def transfer(self, source: str, target: str, amount: int) -> Reply:
        """See `transfer`."""
        before = [self._counters.get(name, 0) for name in (source, target)]
        if not 0 <= amount <= before[0] or before[1] + amount > LARGEST:
            return [0, *before]
        self._counters[source] = before[0] - amount
        self._counters[target] = before[1] + amount
        return [1, before[0] - amount, before[1] + amount]

    def hit(self, name: str, now: int, window_us: int, limit: int) -> Reply:
        """See `hit`."""
        return self._logs.setdefault(name, _Log(now)).hit(now, window_us, limit)

    def swap(self, name: str, expected: bytes | None, wanted: bytes) -> Reply:
        """See `swap`."""
        held = self._cells.get(name)
        if held == expected:
            held = self._cells[name] = wanted
            return [1, 1, held]
        return [0, 0, b""] if held is None else [0, 1, held]

    def put(self, name: str, value: bytes) -> Reply:
        """See `put`."""
        before = name in self._cells
        self._cells[name] = value
        return [int(before)]

    def look(self, name: str) -> Reply:
        """See `look`."""
        return [1, self._cells[name]] if name in self._cells else [0, b""]

    def drop(self, name: str) -> Reply:
        """See `drop`."""
        return [0 if self._cells.pop(name, None) is None else 1]


class _Log:
    """A key's own time runs while the clock runs forward, and stands still while it steps back."""

    def __init__(self, now: int) -> None:
        self.time = self.seen = now
        self.hits: list[int] = []

    def hit(self, now: int, window_us: int, limit: int) -> Reply:
        if now > self.seen:
            self.time += now - self.seen
        self.seen = now
        self.hits = [stamp for stamp in self.hits if self.time - stamp < window_us]
        allowed = len(self.hits) < limit
        self.hits += [self.time] * allowed
        return [int(allowed), len(self.hits), self.time]


def script_of(lua: str, fold: Callable[..., Change], name: str = "reference.odd") -> Script:
    """Return a script that is no reference: one that errs."""
    typed: Fold = fold
    return Script(name, lua=lua, fold=typed)


def operation(script: Script, *keys: bytes, args: Sequence[Item] = ()) -> Steps:
    """Return an operation that reads its reply as it is."""
    return Operation(script, keys, args, _raw)
