"""One atomic change of shared state, as a value that a store can run.

Building an `Operation` does nothing. A store runs it: Redis executes the script's Lua in one round trip, the
memory store calls the script's `fold` under a lock. Both spellings stand side by side in one file, and the
contract tests play random histories against both and demand identical replies.

What a fold must keep, because Redis does:

- `states` holds one state, or None, per key of the operation, in the same order. A state may be any object that
  the script's own folds understand; the store only keeps it.
- `now` is in microseconds, from the store's one clock for folds. It may step. A script that must not see time go
  backwards keeps the last time it wrote, and an offset, in its own state.
- Arguments and reply items are `int` below 2**53 in magnitude, or `bytes`. No None (a nil cuts a Lua reply
  short), no bool, no float.
- Every check comes before the first write. A fold may change the state it was given, but only after its last
  check, and must then return that very object as a write.
- A time to live is garbage collection, never logic: the fold itself decides what has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast

R = TypeVar("R")

Item: TypeAlias = int | bytes
"""What travels between an operation and a store: an integer below 2**53, or bytes."""

Reply: TypeAlias = list[Item]
"""What a script answers: a flat list."""

State: TypeAlias = Any
"""What a script keeps under one key in memory; opaque to the store."""


class _Keep:
    """The write that leaves a key as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "KEEP"


class _Delete:
    """The write that removes a key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DELETE"


KEEP: Final = _Keep()
"""Leave this key as it is, its time to live included."""

DELETE: Final = _Delete()
"""Remove this key."""

Write: TypeAlias = tuple[State, int] | _Keep | _Delete
"""What becomes of one key: `(state, ttl_us)`, KEEP or DELETE. `ttl_us` counts from now and is positive."""


class Change(NamedTuple):
    """What a fold decided: one write per key, and the reply.

    An empty `writes` means KEEP for every key, so that a fold that only looks needs no list.
    """

    writes: Sequence[Write]
    reply: Reply


Fold: TypeAlias = Callable[[Sequence[State], int, Sequence[Any]], tuple[Sequence[Write], Reply]]
"""`(states, now_us, args) -> Change`, or a plain pair of the same. Pure: no clock, no I/O, no randomness.

`args` are the operation's own, so that a fold knows which are integers and which bytes.
"""


class Script:
    """The two spellings of one atomic change.

    In `lua` the store provides a local `now` (microseconds) to a script that mentions it; arguments are
    `ARGV[1]`, `ARGV[2]`, ... exactly as `fold` gets `args[0]`, `args[1]`, ... Numbers go into strings by
    `string.format('%.0f', x)` only.

    Args:
        name: what statistics and messages call it, like `"ratelimit.sliding_log.hit"`.
        lua: what Redis runs.
        fold: the same change in Python.
        evictable: whether the memory store may drop what this script wrote when it is full. True for
            cached values; never for a limit or a revocation, which must not be forgotten.
        slow: whether one run may take Redis longer than about a millisecond; such scripts travel on a
            connection of their own, so that quick ones do not queue behind them.
        weigh: the approximate bytes of a state; None takes `weigh_state`.

    Two scripts are equal only if they are the same object.
    """

    __slots__ = ("evictable", "fold", "lua", "name", "slow", "weigh")

    def __init__(
        self,
        name: str,
        *,
        lua: str,
        fold: Fold,
        evictable: bool = False,
        slow: bool = False,
        weigh: Callable[[State], int] | None = None,
    ) -> None:
        self.name = name
        self.lua = lua
        self.fold = fold
        self.evictable = evictable
        self.slow = slow
        self.weigh = weigh or weigh_state

    def __repr__(self) -> str:
        return f"Script({self.name!r})"


class Copies(NamedTuple):
    """How many replicas must have what an operation has written before it returns, and how long that is waited for.

    Attributes:
        replicas: 1 or more.
        wait_us: microseconds; at the most four fifths of what the store gives a reply.
    """

    replicas: int
    wait_us: int


class Operation(Generic[R]):
    """One call of a script: what to run, on which keys, and how to read the reply.

    Args:
        script: the change.
        keys: at least one; several must share a `{hash tag}` to run on a Cluster.
        args: integers below 2**53 in magnitude, or bytes.
        read: turns the raw reply into what the caller wants; runs in the caller's thread or task.
        copies: what to wait for once it has run; None: nothing. A store without replicas has all of them. Of a batch all
            operations have the same.
    """

    __slots__ = ("args", "copies", "keys", "read", "script")

    def __init__(
        self,
        script: Script,
        keys: tuple[bytes, ...],
        args: Sequence[Item],
        read: Callable[[Reply], R],
        copies: Copies | None = None,
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.read = read
        self.copies = copies

    def __repr__(self) -> str:
        # Arguments may hold what was cached, or a token: they stay out.
        return f"Operation({self.script.name!r}, keys={self.keys!r}, {len(self.args)} args)"


def weigh_state(state: State) -> int:
    """Return the approximate bytes of a state made of numbers, bytes, text and one level of containers."""
    # Exact types: this runs at every write, and `isinstance` costs twice as much.
    kind = type(state)  # pyright: ignore[reportUnknownVariableType] - the type of an Any
    if kind is int or kind is float:
        return 32
    if kind is bytes or kind is str:
        return 56 + len(state)
    try:
        items = len(state)
    except TypeError:
        return 256  # an object of the script's own; who keeps more brings its own `weigh`
    if isinstance(state, Mapping):
        held = cast("Mapping[object, object]", state)
        return 64 + 80 * items + _text(held, items) + _text(held.values(), items)
    return 64 + 40 * items + _text(state, items)


def _text(container: Iterable[object], items: int) -> int:
    """Return the approximate bytes of the texts in a container: a large one is judged by its first items."""
    looked = list(islice(container, _WEIGHED_ITEMS))
    nbytes = sum(len(item) for item in looked if isinstance(item, bytes | str))
    return nbytes * items // len(looked) if looked else 0


_WEIGHED_ITEMS = 16
"""So many items of a container are looked at, so that weighing stays cheap."""
