"""Looking through a namespace, for administrators: a step of `SCAN` at a time, on the server of one key.

The one place that scans: nothing that serves requests does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from backendkit.core.operation import Change, Operation, Reply, Script, State

STEP: Final = 500
"""Keys that one step asks for."""


class Step(NamedTuple):
    """What one step has found.

    Attributes:
        cursor: where the next one goes on; 0: it is done.
        entries: keys of entries.
        leases: keys of leases, held or just over.
    """

    cursor: int
    entries: int
    leases: int


def survey(key: bytes, head: bytes, cursor: int) -> Operation[Step]:
    """Return the operation that looks at the next keys.

    Args:
        key: any key of the namespace: decides the server.
        head: how the keys of its entries begin.
        cursor: of the last step, first 0.
    """
    return Operation(SURVEY, (key,), (cursor, head + b"*", STEP), _step)


def _step(reply: Reply) -> Step:
    return Step(*cast("list[int]", reply))


def _fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [0, 0, 0])


SURVEY = Script(
    "cache.survey",
    lua="""
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local entries, leases = 0, 0
for _, key in ipairs(found[2]) do
  if string.sub(key, -1) == '}' then
    entries = entries + 1
  else
    leases = leases + 1
  end
end
return {tonumber(found[1]), entries, leases}
""",
    fold=_fold,
)
