"""The other changes of a user's record: a login, a look, an end, all ends, a list; and the marks of one-time tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from backendkit.core.operation import Change, Item, Operation, Reply, Script, State
from backendkit.tokens.decide.rotation import weigh_record
from backendkit.tokens.decide.session import PARSE_LUA, Session


class Login(NamedTuple):
    """A session to be begun, and what the policy says; lives in microseconds."""

    sid: bytes
    digest: bytes
    secret: bytes
    bind: bytes
    device: bytes
    agent: bytes
    address: bytes
    grants: bytes
    absolute: int
    idle: int
    most: int
    ttl: int


class Opened(NamedTuple):
    """A session that has begun: the user's epoch, the store's time, how many older ones gave way."""

    epoch: int
    now: int
    displaced: int


class Listed(NamedTuple):
    """A session in a list; times in microseconds."""

    sid: bytes
    generation: int
    rotated: int
    absolute: int
    created: int
    device: bytes
    agent: bytes
    address: bytes


def login(key: bytes, new: Login) -> Operation[Opened]:
    """Return the operation that begins a session, clears away ended ones and keeps the bound."""
    args: list[Item] = [b"s:" + new.sid, b"e:" + new.digest, *new[1:]]
    return Operation(LOGIN, (key,), args, lambda reply: Opened(*cast("list[int]", reply)))


def look(key: bytes, sid: bytes, digest: bytes, idle: int) -> Operation[tuple[int, bool]]:
    """Return the operation that tells a user's epoch and whether a session lives."""
    args: list[Item] = [b"s:" + sid, b"e:" + digest, digest, idle]
    return Operation(LOOK, (key,), args, lambda r: (cast("int", r[0]), bool(r[1])))


def end(key: bytes, sid: bytes, ttl: int) -> Operation[bool]:
    """Return the operation that ends one session and tells whether it was there."""
    return Operation(END, (key,), [b"s:" + sid, ttl], lambda reply: bool(reply[0]))


def end_all(key: bytes, digest: bytes, ttl: int) -> Operation[tuple[int, int]]:
    """Return the operation that ends all sessions of a user; gives the new epoch and their number."""
    args: list[Item] = [b"e:" + digest, digest, ttl]
    return Operation(END_ALL, (key,), args, lambda r: (cast("int", r[0]), cast("int", r[1])))


def sessions(key: bytes, digest: bytes, idle: int) -> Operation[list[Listed]]:
    """Return the operation that lists a user's live sessions, oldest first."""
    return Operation(LIST, (key,), [b"e:" + digest, digest, idle], _read_list)


def mark(key: bytes, ttl: int) -> Operation[bool]:
    """Return the operation that takes a mark and tells whether nobody had."""
    return Operation(MARK, (key,), [ttl], lambda reply: bool(reply[0]))


def _read_list(reply: Reply) -> list[Listed]:
    rows = [Listed(*cast("list[Any]", reply[i : i + 8])) for i in range(0, len(reply), 8)]
    return sorted(rows, key=lambda row: (row.created, row.sid))


def _live(session: Session, now: int, idle: int) -> bool:
    session, seen = session.clock(now)
    return seen < session.absolute and seen - session.rotated < idle


def _fold_login(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    sid, epoch_field, digest, secret, bind, device, agent, address, grants = args[:9]
    absolute, idle, most, ttl = args[9:]
    record: dict[bytes, Any] = states[0] or {}
    epoch = record.get(epoch_field, 0)
    mine: list[tuple[int, bytes]] = []
    for field, value in list(record.items()):
        if isinstance(value, Session):
            if not _live(value, now, idle):
                del record[field]
            elif value.digest == digest:
                mine.append((value.created, field))
    mine.sort()
    displaced = max(len(mine) - most + 1, 0)
    for _, field in mine[:displaced]:
        del record[field]
    record[sid] = Session(
        digest, 1, now, now + absolute, epoch, now, 0, secret, bind, device, agent, address, grants
    )
    return Change(((record, ttl),), [epoch, now, displaced])


def _fold_look(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    record: dict[bytes, Any] = states[0] or {}
    epoch = record.get(args[1], 0)
    found: Session | None = record.get(args[0])
    live = (
        found is not None
        and found.digest == args[2]
        and found.epoch >= epoch
        and _live(found, now, args[3])
    )
    return Change((), [epoch, int(live)])


def _fold_end(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    record: dict[bytes, Any] | None = states[0]
    if record is None or args[0] not in record:
        return Change((), [0])
    del record[args[0]]
    return Change(((record, args[1]),), [1])


def _fold_end_all(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    epoch_field, digest, ttl = args
    record: dict[bytes, Any] = states[0] or {}
    mine = [f for f, v in record.items() if isinstance(v, Session) and v.digest == digest]
    for field in mine:
        del record[field]
    epoch = max(record.get(epoch_field, 0) + 1, now)
    record[epoch_field] = epoch
    return Change(((record, ttl),), [epoch, len(mine)])


def _fold_list(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    epoch_field, digest, idle = args
    record: dict[bytes, Any] = states[0] or {}
    epoch = record.get(epoch_field, 0)
    reply: Reply = []
    for field, s in record.items():
        if (
            isinstance(s, Session)
            and s.digest == digest
            and s.epoch >= epoch
            and _live(s, now, idle)
        ):
            reply += [field[2:], s.generation, s.rotated, s.absolute, s.created]
            reply += [s.device, s.agent, s.address]
    return Change((), reply)


def _fold_mark(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [0]) if states[0] is not None else Change(((1, args[0]),), [1])


_LOGIN_LUA = r"""
local epoch = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or 0)
local absolute, idle, most = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local all = redis.call('HGETALL', KEYS[1])
local mine, over = {}, {}
for i = 1, #all, 2 do
  local one = string.sub(all[i], 1, 2) == 's:' and parse(all[i + 1])
  if one then
    if one.now >= one.a or one.now - one.r >= idle then over[#over + 1] = all[i]
    elseif one.d == ARGV[3] then mine[#mine + 1] = {one.c, all[i]} end
  end
end
table.sort(mine, function(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end)
local displaced = math.max(#mine - most + 1, 0)
for i = 1, displaced do over[#over + 1] = mine[i][2] end
for i = 1, #over do redis.call('HDEL', KEYS[1], over[i]) end
redis.call('HSET', KEYS[1], ARGV[1], text({d = ARGV[3], g = 1, r = now, a = now + absolute, e = epoch, c = now, o = 0,
  s = ARGV[4], b = ARGV[5], dev = ARGV[6], agent = ARGV[7], address = ARGV[8], grants = ARGV[9]}))
redis.call('PEXPIRE', KEYS[1], ARGV[13] / 1000)
return {epoch, now, displaced}
"""

_LOOK_LUA = r"""
local epoch = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or 0)
local one = parse(redis.call('HGET', KEYS[1], ARGV[1]))
if one and one.d == ARGV[3] and one.e >= epoch and one.now < one.a and one.now - one.r < tonumber(ARGV[4]) then
  return {epoch, 1}
end
return {epoch, 0}
"""

_END_LUA = r"""
local ended = redis.call('HDEL', KEYS[1], ARGV[1])
if ended == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2] / 1000) end
return {ended}
"""

_END_ALL_LUA = r"""
local all = redis.call('HGETALL', KEYS[1])
local mine = {}
for i = 1, #all, 2 do
  local one = string.sub(all[i], 1, 2) == 's:' and parse(all[i + 1])
  if one and one.d == ARGV[2] then mine[#mine + 1] = all[i] end
end
local epoch = math.max(tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) + 1, now)
for i = 1, #mine do redis.call('HDEL', KEYS[1], mine[i]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', epoch))
redis.call('PEXPIRE', KEYS[1], ARGV[3] / 1000)
return {epoch, #mine}
"""

_LIST_LUA = r"""
local epoch = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0)
local idle = tonumber(ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
local reply = {}
local function add(item) reply[#reply + 1] = item end
for i = 1, #all, 2 do
  local one = string.sub(all[i], 1, 2) == 's:' and parse(all[i + 1])
  if one and one.d == ARGV[2] and one.e >= epoch and one.now < one.a and one.now - one.r < idle then
    add(string.sub(all[i], 3)) add(one.g) add(one.r) add(one.a) add(one.c)
    add(one.dev) add(one.agent) add(one.address)
  end
end
return reply
"""

_MARK_LUA = r"""
if redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1] / 1000) then return {1} end
return {0}
"""

LOGIN = Script("tokens.login", lua=PARSE_LUA + _LOGIN_LUA, fold=_fold_login, weigh=weigh_record)
LOOK = Script("tokens.look", lua=PARSE_LUA + _LOOK_LUA, fold=_fold_look)
END = Script("tokens.end", lua=_END_LUA, fold=_fold_end, weigh=weigh_record)
END_ALL = Script(
    "tokens.end_all", lua=PARSE_LUA + _END_ALL_LUA, fold=_fold_end_all, weigh=weigh_record
)
LIST = Script("tokens.list", lua=PARSE_LUA + _LIST_LUA, fold=_fold_list)
MARK = Script("tokens.mark", lua=_MARK_LUA, fold=_fold_mark)
