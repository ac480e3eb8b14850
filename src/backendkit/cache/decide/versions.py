"""Versions of a namespace and of its tags: random tokens that entries carry, never clocks, never growing sets.

Clearing a namespace or invalidating a tag replaces one token: O(1), whatever it concerns. A version that is missing
(evicted, expired, lost) is made anew, and so differs from all that entries carry: it fails to the safe side. All
versions of a namespace lie in one slot, so that one script changes several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from backendkit.core.operation import Change, Operation, Reply, Script, State

LIFE_US = 90 * 86_400 * 1_000_000
"""How long a version is kept after it was last looked at; longer than any entry."""


def look(keys: tuple[bytes, ...], spare: Sequence[bytes]) -> Operation[list[bytes]]:
    """Return the operation that reads versions; where one is missing, its `spare` becomes it."""
    return Operation(LOOK, keys, (LIFE_US // 1000, *spare), _versions)


def bump(
    keys: tuple[bytes, ...], fresh: Sequence[bytes], post: tuple[bytes, bytes]
) -> Operation[bool]:
    """Return the operation that replaces versions, and tells everybody."""
    return Operation(BUMP, keys, (LIFE_US // 1000, *fresh, *post), _did)


def _versions(reply: Reply) -> list[bytes]:
    return cast("list[bytes]", reply[:-1])


def _did(reply: Reply) -> bool:
    return reply[0] == 1


_LOOK_LUA = """
local found = {}
for i, key in ipairs(KEYS) do
  local version = redis.call('GET', key)
  if version then
    redis.call('PEXPIRE', key, ARGV[1])
  else
    version = ARGV[i + 1]
    redis.call('SET', key, version, 'PX', ARGV[1])
  end
  found[i] = version
end
found[#KEYS + 1] = 0
return found
"""


def _fold_look(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    found = [
        spare if state is None else state for state, spare in zip(states, args[1:], strict=True)
    ]
    return Change([(version, args[0] * 1000) for version in found], [*found, 0])


_BUMP_LUA = """
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
redis.call('PUBLISH', ARGV[#KEYS + 2], ARGV[#KEYS + 3])
return {1, 1}
"""


def _fold_bump(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change([(fresh, args[0] * 1000) for fresh in args[1:-2]], [1, 1])


LOOK = Script("cache.versions", lua=_LOOK_LUA, fold=_fold_look)
"""Reads versions, and makes those that are missing."""

BUMP = Script("cache.bump", lua=_BUMP_LUA, fold=_fold_bump)
"""Replaces versions."""
