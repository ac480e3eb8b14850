"""What lies under keys, with the server's time: the operation that only reads, and so needs no script.

A store may carry it out in whatever way is quickest. Redis reads a hundred values by a plain command at a twentieth of
what as many scripts take. Its keys need not be related; `Gathering.together` tells which of them go in one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from backendkit.core.operation import Change, Operation, Reply, Script, State
from backendkit.core.store import Store

ABSENT: Final = 0
"""There is nothing under the key."""

UNSAID: Final = -1
"""The server would not say, in this way: a script may be told, or tell why not."""


class Sight(NamedTuple):
    """What was seen.

    Attributes:
        now: the server's time in microseconds, no earlier than when the last value was read; 0: nothing was said.
        values: per key what lies there, ABSENT or UNSAID.
    """

    now: int
    values: Reply


@runtime_checkable
class Gathering(Protocol):
    """A store that knows which keys one server holds."""

    def together(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return the places of `keys`, grouped: each group may be asked for by one `look`."""
        ...


def look(keys: Sequence[bytes]) -> Operation[Sight]:
    """Return the operation that reads what scripts keep as bytes under `keys`; one group of `together`."""
    return Operation(LOOK, tuple(keys), (), _sight)


def gathering(store: Store) -> Callable[[Sequence[bytes]], list[list[int]]]:
    """Return a store's `together`; of a store that has none, one that leaves each key alone. To be asked for once."""
    return store.together if isinstance(store, Gathering) else _each_alone


def _each_alone(keys: Sequence[bytes]) -> list[list[int]]:
    return [[place] for place in range(len(keys))]


def unsaid(operation: Operation[Any]) -> Reply:
    """Return the reply that says nothing."""
    return [0, *[UNSAID] * len(operation.keys)]


def _sight(reply: Reply) -> Sight:
    return Sight(reply[0], reply[1:])  # type: ignore[arg-type] # both spellings answer with the time first


_LOOK_LUA = """
local found = redis.call('MGET', unpack(KEYS))
local reply = {now}
for place, value in ipairs(found) do reply[place + 1] = value or 0 end
return reply
"""


def _fold_look(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [now, *(ABSENT if state is None else state for state in states)])


LOOK = Script("store.look", lua=_LOOK_LUA, fold=_fold_look)
"""Reads what lies under its keys."""
