"""Rotating a refresh token: one Script, every outcome. The spec's table, in two languages.

| the presented generation is | then |
|---|---|
| the session's | ROTATED: the next generation, now |
| its parent, within the grace time | REPLAY: nothing changes; the same successor is derived again |
| its child, signed by us | FORWARD: the store lost its last write; rotated from there |
| further ahead | GONE: the store lost more than that; closed |
| anything older | REUSE: the family is revoked |

Before that: no such session, or one from before the user's epoch: GONE. Another binding: UNBOUND, nothing changes.
Idle for too long, or at its absolute end: EXPIRED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from backendkit.core.operation import Change, Item, Operation, Reply, Script, State
from backendkit.tokens.decide.session import PARSE_LUA, Session

ROTATED: Final = 1
REPLAY: Final = 2
REUSE: Final = 3
EXPIRED: Final = 4
GONE: Final = 5
UNBOUND: Final = 6
FORWARD: Final = 7


class Presented(NamedTuple):
    """A refresh token as it came, its signature checked, and what the policy says; times in microseconds."""

    sid: bytes
    digest: bytes
    generation: int
    rotated: int
    bind: bytes
    agent: bytes
    address: bytes
    secret: bytes
    grace: int
    idle: int
    ttl: int


class Rotation(NamedTuple):
    """What came of it; `address` is the one of the refresh before."""

    outcome: int
    generation: int
    rotated: int
    absolute: int
    epoch: int
    created: int
    secret: bytes
    address: bytes
    grants: bytes


def rotate(key: bytes, presented: Presented) -> Operation[Rotation]:
    """Return the operation that exchanges a refresh token."""
    p = presented
    args: list[Item] = [
        b"s:" + p.sid, b"e:" + p.digest, p.digest, p.generation, p.rotated, p.bind, p.agent, p.address,
        p.secret, p.grace, p.idle, p.ttl,
    ]  # fmt: skip
    return Operation(ROTATE, (key,), args, _read)


def _read(reply: Reply) -> Rotation:
    return Rotation(*reply)  # type: ignore[arg-type] # both spellings answer in this order


def _fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    sid, epoch_field, digest, generation = args[:4]
    record: dict[bytes, Any] | None = states[0]
    if record is None:
        return Change((), _gone(0))
    epoch: int = record.get(epoch_field, 0)
    found: Session | None = record.get(sid)
    if found is None or found.digest != digest:
        return Change((), _gone(epoch))
    ttl: int = args[11]
    if found.epoch < epoch:
        del record[sid]
        return Change(((record, ttl),), _gone(epoch))
    session, seen = found.clock(now)
    outcome = _judge(session, seen, args)
    if outcome in (REUSE, EXPIRED, GONE):
        del record[sid]
    elif outcome in (ROTATED, FORWARD):
        session = session._replace(
            generation=generation + 1, rotated=seen, secret=args[8],
            agent=args[6] or session.agent, address=args[7] or session.address,
        )  # fmt: skip
        record[sid] = session
    elif session is not found:
        record[sid] = session
    else:
        return Change((), _reply(outcome, session, epoch, found.address))
    return Change(((record, ttl),), _reply(outcome, session, epoch, found.address))


def _judge(session: Session, seen: int, args: Sequence[Any]) -> int:
    generation, rotated, bind, grace, idle = args[3], args[4], args[5], args[9], args[10]
    if session.bind != bind:
        return UNBOUND
    ahead = generation - session.generation
    since = rotated if ahead == 1 else session.rotated
    if seen >= session.absolute or seen - since >= idle:
        return EXPIRED
    if ahead == 0:
        return ROTATED
    if ahead == -1 and seen - session.rotated <= grace:
        return REPLAY
    if ahead == 1:
        return FORWARD
    return GONE if ahead > 1 else REUSE


def _gone(epoch: int) -> Reply:
    return [GONE, 0, 0, 0, epoch, 0, b"", b"", b""]


def _reply(outcome: int, s: Session, epoch: int, address: bytes) -> Reply:
    return [
        outcome,
        s.generation,
        s.rotated,
        s.absolute,
        epoch,
        s.created,
        s.secret,
        address,
        s.grants,
    ]


_ROTATE_LUA = r"""
local epoch = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or 0)
local one = parse(redis.call('HGET', KEYS[1], ARGV[1]))
if not one or one.d ~= ARGV[3] then return {5, 0, 0, 0, epoch, 0, '', '', ''} end
local generation, grace, idle = tonumber(ARGV[4]), tonumber(ARGV[10]), tonumber(ARGV[11])
local address = one.address
local function ended()
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[12] / 1000)
end
local function kept()
  redis.call('HSET', KEYS[1], ARGV[1], text(one))
  redis.call('PEXPIRE', KEYS[1], ARGV[12] / 1000)
end
if one.e < epoch then
  ended()
  return {5, 0, 0, 0, epoch, 0, '', '', ''}
end
local ahead = generation - one.g
local since = one.r
if ahead == 1 then since = tonumber(ARGV[5]) end
local outcome
if one.b ~= ARGV[6] then outcome = 6
elseif one.now >= one.a or one.now - since >= idle then outcome = 4
elseif ahead == 0 then outcome = 1
elseif ahead == -1 and one.now - one.r <= grace then outcome = 2
elseif ahead == 1 then outcome = 7
elseif ahead > 1 then outcome = 5
else outcome = 3 end
if outcome == 1 or outcome == 7 then
  one.g = generation + 1
  one.r = one.now
  one.s = ARGV[9]
  if ARGV[7] ~= '' then one.agent = ARGV[7] end
  if ARGV[8] ~= '' then one.address = ARGV[8] end
  kept()
elseif outcome == 3 or outcome == 4 or outcome == 5 then ended()
elseif one.stepped then kept() end
return {outcome, one.g, one.r, one.a, epoch, one.c, one.s, address, one.grants}
"""


def weigh_record(record: Any) -> int:
    """Return the approximate bytes of a user's record in memory."""
    return 240 + sum(
        700 + len(v.grants) if isinstance(v, Session) else 120 for v in record.values()
    )


ROTATE = Script("tokens.rotate", lua=PARSE_LUA + _ROTATE_LUA, fold=_fold, weigh=weigh_record)
"""Exchanges a refresh token; see the module's docstring."""
