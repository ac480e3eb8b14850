"""What the first tier keeps of an entry, and the rights to store one there."""

from __future__ import annotations

import math
from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from backendkit.cache.l1 import Entry
from backendkit.cache.scope import Scope


class Times(NamedTuple):
    """What follows from when an entry was loaded, for all but the shortest way.

    Attributes:
        fresh: seconds on the monotonic clock until which it is fresh; `deadline` may come earlier.
        stale: until when it may serve where nothing fresh can be had.
        until: until when it may serve although nobody tells of changes.
        cost: seconds that its load took.
        at: of the second tier's entry, see `decide.entry`; 0: none.
    """

    fresh: float
    stale: float
    until: float
    cost: float
    at: int


class Record(Entry):
    """An entry of the first tier.

    Attributes:
        thaw: makes a value that the caller may change; None: nobody can change it.
        scope: the versions that it was loaded under.
        era: the local era in which these were last seen alive.
        packed: its `Times` as bytes, an eighth of the objects; None where they say no more than `deadline`.
    """

    __slots__ = ("era", "packed", "scope", "thaw")

    def __init__(self, value: Any, size: int, *, thaw: Callable[[Any], Any] | None) -> None:
        super().__init__(value, size, 0.0)
        self.thaw = thaw
        self.packed: bytes | None = None
        self.scope: Scope | None = None
        self.era: object = None

    @property
    def times(self) -> Times:
        """Its times."""
        if self.packed is None:
            return Times(self.deadline, self.deadline, math.inf, 0.0, 0)
        return Times(*TIMES.unpack(self.packed))

    def live(self, times: Times, deadline: float) -> None:
        """Set its times, and until when it serves on the shortest way."""
        plain = times == (deadline, deadline, math.inf, 0.0, 0)
        self.packed = None if plain else TIMES.pack(*times)
        self.deadline = (
            deadline  # last: without `packed` it stands for all, and who reads takes no lock
        )

    def named(self, at: int) -> None:
        """Note which entry of the second tier it is."""
        if at:
            self.live(self.times._replace(at=at), self.deadline)

    @property
    def fresh(self) -> float:
        """Until when it is fresh."""
        return self.times.fresh

    @property
    def at(self) -> int:
        """Which entry of the second tier it is."""
        return self.times.at

    def give(self) -> Any:
        """Return the value for a caller who may do with it what it likes."""
        return self.value if self.thaw is None else self.thaw(self.value)


class Ticket:
    """The right to store under one key; shared by all who have asked and not yet stored.

    Attributes:
        began: seconds on the monotonic clock when the first of them asked.
        attached: False once something was heard that concerns the key.
        count: of those who have not yet stored.
    """

    __slots__ = ("attached", "began", "count")

    def __init__(self, began: float = math.inf) -> None:
        self.began = began
        self.attached = True
        self.count = 0


class Watch:
    """The right to store what one read of many keys, or of versions, brings, but for those of which something was heard meanwhile.

    Changed and looked at under the lock.

    Attributes:
        attached: False once something was heard that concerns all of them.
        heard: keys, or tags, of which something was heard.
    """

    __slots__ = ("attached", "heard")

    def __init__(self) -> None:
        self.attached = True
        self.heard: set[str] = set()


class Watches:
    """Those who watch now. Used under the lock."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: set[Watch] = set()

    def __len__(self) -> int:
        """Return how many."""
        return len(self._all)

    def begin(self) -> Watch:
        """Return a watch that hears until its `end`."""
        watch = Watch()
        self._all.add(watch)
        return watch

    def end(self, watch: Watch) -> None:
        """Let a watch hear no more."""
        self._all.discard(watch)

    def tell(self, name: str, but: Watch | None = None) -> None:
        """Have all `but` one hear of a key or a tag."""
        for watch in tuple(self._all):
            if watch is not but:
                watch.heard.add(name)

    def detach(self, but: Watch | None = None) -> None:
        """Let nobody `but` one store anything any more."""
        for watch in tuple(self._all):
            if watch is not but:
                watch.attached = False


TIMES = Struct("=ddddQ")
"""How records keep their `Times`."""
