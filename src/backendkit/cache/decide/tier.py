"""The second tier's scripts on one key: read or lease, store, renew, release, set, invalidate, expire.

A lease is a random token beside the value. It fences the write and elects the one process of the fleet that loads:
whatever removes it (an invalidation, a set, eviction, expiry, `FLUSHALL`) makes the write that relied on it fail.
Whoever finds a lease taken leaves a mark on it, and only then its end is published. The last item of a reply says
whether the script has published its message.

| key | holds |
|---|---|
| `{key}` | the entry |
| `{key}:l` | until when the lease holds, its token, a mark if somebody waits |
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from backendkit.cache.decide.entry import GRACE_US, HEAD, TOKEN_BYTES, Entry, parse
from backendkit.core.operation import DELETE, KEEP, Change, Operation, Reply, Script, State

Keys = tuple[bytes, bytes]
"""Of the entry and of its lease."""

Post = tuple[bytes, bytes]
"""A channel and what to publish there."""

ABSENT: Final = 0
HIT: Final = 1
LEASED: Final = 2
BUSY: Final = 3

_LEASE = Struct(">Q16s")
_WANTED = b"w"


class Answer(NamedTuple):
    """What a read found.

    Attributes:
        outcome: ABSENT, HIT, LEASED (load it: the lease is yours) or BUSY (somebody loads).
        now: the server's time.
        entry: the entry if HIT, else one that is stale or was refused, if there is one.
        busy_us: how long the other's lease still holds.
    """

    outcome: int
    now: int
    entry: Entry | None
    busy_us: int

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the entry's tags."""
        return () if self.entry is None else tuple([name for name, _ in self.entry.tags])


class Life(NamedTuple):
    """How long an entry lives, in microseconds from when it is stored."""

    fresh_us: int
    stale_us: int


def read(keys: Keys, namespace: bytes, refused: int = 0) -> Operation[Answer]:
    """Return the operation that reads and takes no lease."""
    return Operation(READ, keys, (b"", 0, namespace, refused, 0), _read)


def read_or_lease(
    keys: Keys, token: bytes, lease_us: int, namespace: bytes, refused: int = 0
) -> Operation[Answer]:
    """Return the operation that reads, or takes the lease where there is nothing fresh.

    Args:
        keys: of entry and lease.
        token: the lease's, if it is granted.
        lease_us: how long it holds.
        namespace: the namespace's version; an entry of another is none.
        refused: `Entry.at` of an entry that the caller does not want, however fresh.
    """
    kept_ms = (lease_us + GRACE_US) // 1000
    return Operation(READ, keys, (token, lease_us, namespace, refused, kept_ms), _read)


def store(keys: Keys, token: bytes, life: Life, tail: bytes, post: Post) -> Operation[int]:
    """Return the operation that stores under a lease, and ends it: `Entry.at`; 0: the lease has gone, nothing was stored."""
    return Operation(STORE, keys, (token, *life, tail, _kept_ms(life), *post), _at)


def put(keys: Keys, life: Life, tail: bytes, post: Post) -> Operation[int]:
    """Return the operation that stores whatever is there, and ends any lease: `Entry.at`."""
    return Operation(PUT, keys, (*life, tail, _kept_ms(life), *post), _at)


def renew(keys: Keys, token: bytes, lease_us: int) -> Operation[bool]:
    """Return the operation that prolongs a lease; False: it has gone."""
    kept_ms = (lease_us + GRACE_US) // 1000
    return Operation(RENEW, keys[1:], (token, lease_us, kept_ms), _did)


def release(keys: Keys, token: bytes, post: Post) -> Operation[bool]:
    """Return the operation that gives a lease back."""
    return Operation(RELEASE, keys[1:], (token, *post), _did)


def invalidate(keys: Keys, post: Post) -> Operation[bool]:
    """Return the operation that removes entry and lease."""
    return Operation(INVALIDATE, keys, post, _did)


def expire(keys: Keys, post: Post) -> Operation[bool]:
    """Return the operation that makes an entry stale, and ends any lease."""
    return Operation(EXPIRE, keys, post, _did)


def _kept_ms(life: Life) -> int:
    return (max(life) + GRACE_US) // 1000


def _read(reply: Reply) -> Answer:
    outcome, now, raw, busy_us, _ = reply
    entry = parse(raw) or _unreadable(raw) if raw else None  # type: ignore[arg-type] # both spellings answer in this order
    return Answer(outcome, now, entry, busy_us)  # type: ignore[arg-type] # as above


def _unreadable(raw: bytes) -> Entry:
    """Return what only its time is known of, so that it can be refused; no namespace has its version."""
    at, fresh, stale = HEAD.unpack_from(raw)
    return Entry(at, fresh, stale, b"", 0, (), b"", b"")


def _at(reply: Reply) -> int:
    return reply[0]  # type: ignore[return-value] # both spellings answer so


def _did(reply: Reply) -> bool:
    return reply[0] == 1


_READ_LUA = """
local value = redis.call('GET', KEYS[1])
local kept = ''
if value and string.len(value) >= 50 then
  local at, fresh, stale, namespace = struct.unpack('>I8I8I8c16', value)
  if namespace == ARGV[3] then
    if now < fresh and at ~= tonumber(ARGV[4]) then return {1, now, value, 0, 0} end
    if now < fresh or now < stale then kept = value end
  end
end
local lease = tonumber(ARGV[2])
if lease == 0 then return {0, now, kept, 0, 0} end
local held = redis.call('GET', KEYS[2])
if held and string.len(held) >= 24 then
  local till, token = struct.unpack('>I8c16', held)
  if now < till and token ~= ARGV[1] then
    if string.len(held) == 24 then
      redis.call('SET', KEYS[2], struct.pack('>I8c16c1', till, token, 'w'), 'KEEPTTL')
    end
    return {3, now, kept, till - now, 0}
  end
end
redis.call('SET', KEYS[2], struct.pack('>I8c16', now + lease, ARGV[1]), 'PX', ARGV[5])
return {2, now, kept, 0, 0}
"""


def _fold_read(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    value, held = states
    token, lease, namespace, refused, kept_ms = args
    kept = b""
    if value is not None and len(value) >= 50:
        at, fresh, stale = HEAD.unpack_from(value)
        if value[HEAD.size : HEAD.size + TOKEN_BYTES] == namespace:
            if now < fresh and at != refused:
                return Change((), [HIT, now, value, 0, 0])
            if now < fresh or now < stale:
                kept = value
    if not lease:
        return Change((), [ABSENT, now, kept, 0, 0])
    if held is not None:
        till, holder = _LEASE.unpack_from(held)
        if now < till and holder != token:
            marked = held[: _LEASE.size] + _WANTED
            return Change((KEEP, (marked, till - now + GRACE_US)), [BUSY, now, kept, till - now, 0])
    granted = (_LEASE.pack(now + lease, token), kept_ms * 1000)
    return Change((KEEP, granted), [LEASED, now, kept, 0, 0])


_STORE_LUA = """
local held = redis.call('GET', KEYS[2])
if not held or string.len(held) < 24 then return {0, 0} end
local till, token = struct.unpack('>I8c16', held)
if token ~= ARGV[1] or now >= till then return {0, 0} end
local head = struct.pack('>I8I8I8', now, now + tonumber(ARGV[2]), now + tonumber(ARGV[3]))
redis.call('SET', KEYS[1], table.concat({head, ARGV[4]}), 'PX', ARGV[5])
redis.call('DEL', KEYS[2])
if string.len(held) == 24 then return {now, 0} end
redis.call('PUBLISH', ARGV[6], ARGV[7])
return {now, 1}
"""


def _fold_store(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    held = states[1]
    if not _holds(held, args[0], now):
        return Change((), [0, 0])
    entry = HEAD.pack(now, now + args[1], now + args[2]) + args[3]
    return Change(((entry, args[4] * 1000), DELETE), [now, int(len(held) > _LEASE.size)])


_PUT_LUA = """
local head = struct.pack('>I8I8I8', now, now + tonumber(ARGV[1]), now + tonumber(ARGV[2]))
redis.call('SET', KEYS[1], table.concat({head, ARGV[3]}), 'PX', ARGV[4])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return {now, 1}
"""


def _fold_put(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    entry = HEAD.pack(now, now + args[0], now + args[1]) + args[2]
    return Change(((entry, args[3] * 1000), DELETE), [now, 1])


_RENEW_LUA = """
local held = redis.call('GET', KEYS[1])
if not held or string.len(held) < 24 then return {0, 0} end
local till, token = struct.unpack('>I8c16', held)
if token ~= ARGV[1] or now >= till then return {0, 0} end
local longer = struct.pack('>I8c16', now + tonumber(ARGV[2]), token)
redis.call('SET', KEYS[1], table.concat({longer, string.sub(held, 25)}), 'PX', ARGV[3])
return {1, 0}
"""


def _fold_renew(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    held = states[0]
    if not _holds(held, args[0], now):
        return Change((), [0, 0])
    longer = _LEASE.pack(now + args[1], args[0]) + held[_LEASE.size :]
    return Change(((longer, args[2] * 1000),), [1, 0])


_RELEASE_LUA = """
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 9, 24) ~= ARGV[1] then return {0, 0} end
redis.call('DEL', KEYS[1])
if string.len(held) == 24 then return {1, 0} end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1, 1}
"""


def _fold_release(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    held = states[0]
    if held is None or _LEASE.unpack_from(held)[1] != args[0]:
        return Change((), [0, 0])
    return Change((DELETE,), [1, int(len(held) > _LEASE.size)])


_INVALIDATE_LUA = """
local gone = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return {gone, 1}
"""


def _fold_invalidate(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((DELETE, DELETE), [int(states[0] is not None), 1])


_EXPIRE_LUA = """
local value = redis.call('GET', KEYS[1])
local was = 0
if value and string.len(value) >= 50 then
  local at, fresh, stale = struct.unpack('>I8I8I8', value)
  if now < fresh then was = 1 end
  if now < stale then
    local head = struct.pack('>I8I8I8', at, math.min(now, fresh), stale)
    redis.call('SET', KEYS[1], table.concat({head, string.sub(value, 25)}), 'KEEPTTL')
  else redis.call('DEL', KEYS[1]) end
end
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return {was, 1}
"""


def _fold_expire(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    value = states[0]
    if value is None:
        return Change((KEEP, DELETE), [0, 1])
    at, fresh, stale = HEAD.unpack_from(value)
    if now >= stale:
        return Change((DELETE, DELETE), [int(now < fresh), 1])
    entry = HEAD.pack(at, min(now, fresh), stale) + value[HEAD.size :]
    return Change(((entry, stale - now + GRACE_US), DELETE), [int(now < fresh), 1])


def _holds(held: bytes | None, token: bytes, now: int) -> bool:
    """Whether a lease is this token's, and not yet over."""
    if held is None:
        return False
    till, holder = _LEASE.unpack_from(held)
    return bool(holder == token and now < till)


def _script(name: str, lua: str, fold: Any) -> Script:
    return Script(f"cache.{name}", lua=lua, fold=fold, evictable=True)


READ = _script("read", _READ_LUA, _fold_read)
"""Reads, and takes the lease where it may."""

STORE = _script("store", _STORE_LUA, _fold_store)
"""Stores what was loaded, if the lease still holds."""

PUT = _script("set", _PUT_LUA, _fold_put)
"""Stores what the caller has."""

RENEW = _script("renew", _RENEW_LUA, _fold_renew)
"""Prolongs a lease."""

RELEASE = _script("release", _RELEASE_LUA, _fold_release)
"""Gives a lease back."""

INVALIDATE = _script("invalidate", _INVALIDATE_LUA, _fold_invalidate)
"""Removes entry and lease, and tells everybody."""

EXPIRE = _script("expire", _EXPIRE_LUA, _fold_expire)
"""Makes an entry stale, ends the lease, and tells everybody."""
