"""Reading the second tier without a script: what is fresh there needs no lease.

A look is a plain read with the server's time, and the entries' own times decide as they do in the scripts: whoever looks
sees what a script would have answered. What is not fresh there is asked for once more, by a script that grants a lease:
one round trip more. So a load looks first where that pays, by what share of the looks has found something of late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from backendkit.cache.asks import carried, missed, scope_of, scopes_of
from backendkit.cache.core import UNGIVEN, Call, Core
from backendkit.cache.decide import tier
from backendkit.cache.decide.tier import HIT, Answer
from backendkit.cache.io import CacheIO
from backendkit.cache.loading import MISSING
from backendkit.cache.policy import CachePolicy
from backendkit.cache.record import Record
from backendkit.cache.scope import Scope
from backendkit.cache.thaw import Thaw, Wanting
from backendkit.cache.writes import fresh
from backendkit.core.look import UNSAID, look
from backendkit.core.operation import Item
from backendkit.core.outcome import Error


async def get_many(io: CacheIO, core: Core, keys: Sequence[str], call: Call) -> dict[str, Any]:
    """Return what both tiers have fresh; one batch for all that the first has not. `call` is the pattern of each."""
    found: dict[str, Any] = dict.fromkeys(keys, MISSING)
    peek = core.local.l1.peek
    missing: list[str] = []
    for key in found:
        record = None if peek(key) is None else fresh(core, key)
        value = UNGIVEN if record is None else core.given(key, record)
        if value is UNGIVEN:
            missing.append(key)
        else:
            found[key] = value
    core.counts.add("l1_hits", len(found) - len(missing))
    misses = len(missing)
    if missing and not core.alone:
        read = await read_fresh(io, core, missing, call, last=True)
        for key, (_, value) in read.found.items():
            found[key] = value
        misses -= len(read.found)
    core.counts.add("misses", misses)
    return found


BLIND: Final = -1
"""For the entry that a load refuses: all of them, for the second tier has just not answered."""

_ALONE = [[0]]

Seen = list[tuple[str, Item]]
"""Keys, and what lies under them."""


async def look_first(io: CacheIO, core: Core, call: Call) -> tuple[Any, int]:
    """Return the value of one key if the second tier has it fresh, else UNGIVEN; and which entry a load refuses.

    Not where somebody else of this process reads or loads it: then that is shared.
    """
    key, policy, looking = call.key, call.policy, core.looks.at
    if core.alone or not core.looks.pays or _is_bounded(policy):
        return UNGIVEN, 0
    if key in looking or key in core.local.flights:
        return UNGIVEN, 0
    looking.add(key)
    try:
        read = await read_fresh(io, core, (key,), call, last=False)
    finally:
        looking.discard(key)
    core.looks.note(len(read.found), 1)
    if key in read.found:
        return read.found[key][1], 0
    return UNGIVEN, BLIND if read.failed else 0


async def look_many_first(io: CacheIO, core: Core, calls: Sequence[Call]) -> Read:
    """Do the same for many keys."""
    if not calls or core.alone or not core.looks.pays_for_many or _is_bounded(calls[0].policy):
        return Read()
    read = await read_fresh(io, core, [call.key for call in calls], calls[0], last=False)
    core.looks.note(len(read.found), len(calls))
    return read


def _is_bounded(policy: CachePolicy) -> bool:
    """Whether callers wait for a load only so long: then reading is part of what they wait for."""
    return policy.soft_us is not None or policy.hard_us is not None


class Read:
    """What one read of the second tier has found.

    Attributes:
        found: records by their keys, each with its value for one caller.
        failed: keys that a server did not answer for: asking once more would cost the time of one more answer.
        unsaid: those whose entries only a script is told of.
    """

    __slots__ = ("failed", "found", "unsaid")

    def __init__(self) -> None:
        self.found: dict[str, tuple[Record, Any]] = {}
        self.failed: set[str] = set()
        self.unsaid: list[str] = []

    def keep(self, key: str, record: Record | None, core: Core) -> None:
        """Take what was read by a script."""
        value = UNGIVEN if record is None else core.given(key, record)
        if record is not None and value is not UNGIVEN:
            self.found[key] = record, value


async def read_fresh(
    io: CacheIO, core: Core, keys: Sequence[str], call: Call, *, last: bool
) -> Read:
    """Return what the second tier has fresh; it is in the first from now on.

    Args:
        io: the world.
        core: whose.
        keys: each once.
        call: the pattern of each.
        last: whether nobody asks again: then a script is asked for what a look is not told.
    """
    core.upkeep.start()
    local, trusts, read = core.local, core.upkeep.trusts, Read()
    watch = local.watch()  # first: what begins to wait in the queue after that is heard of
    try:
        keys = [key for key in keys if trusts(key)]
        scope = await scope_of(io, core, call.tags)
        if scope is None:
            read.failed.update(keys)
            return read
        thaw = Thaw(core, call, scope, local.now())
        await _look(io, core, keys, thaw, read)
        if read.unsaid and last:
            await _ask(io, core, read, (call, scope))
        local.fill_all(watch, read.found)
    finally:
        local.unwatch(watch)
    core.counts.add("l2_hits", len(read.found))
    return read


async def _look(io: CacheIO, core: Core, keys: Sequence[str], thaw: Thaw, read: Read) -> None:
    names = core.names.entries(keys)
    groups = core.together(names) if len(names) > 1 else _ALONE[: len(names)]
    outcomes = await carried(io, [look([names[place] for place in group]) for group in groups])
    late: list[tuple[int, Seen]] = []
    tags: dict[str, None] = {}
    for group, outcome in zip(groups, outcomes, strict=True):
        if isinstance(outcome, Error):
            missed(core, outcome)
            read.failed.update([keys[place] for place in group])
            continue
        thaw.now, values = outcome.value
        seen = zip([keys[place] for place in group], values, strict=True)
        wanting = _thawed(thaw, seen, read, tags)
        if wanting:
            late.append((thaw.now, wanting))
    # Held until all is thawed, for else nobody may hold the versions.
    scope = await scope_of(io, core, tuple(tags)) if late else None
    if scope is not None:
        for thaw.now, wanting in late:
            _thawed(thaw, wanting, read, tags)  # once: what is replaced meanwhile is no hit


def _thawed(
    thaw: Thaw, seen: Iterable[tuple[str, Item]], read: Read, tags: dict[str, None]
) -> Seen:
    """Thaw what was seen; return what wants versions of tags, which are noted in `tags`."""
    wanting: Seen = []
    found = read.found
    for key, raw in seen:
        thawed = thaw(key, raw)
        if thawed is None:
            if raw == UNSAID:
                read.unsaid.append(key)
        elif isinstance(thawed, Wanting):
            tags.update(dict.fromkeys(thawed.tags))
            wanting.append((key, raw))
        else:
            found[key] = thawed
    return wanting


async def _ask(io: CacheIO, core: Core, read: Read, how: tuple[Call, Scope]) -> None:
    """Ask by scripts for what a look was not told."""
    began, names = core.local.now(), core.names
    call, scope = how
    reads = [tier.read(names.keys(key), scope.namespace.token) for key in read.unsaid]
    hits: list[tuple[str, Answer]] = []
    for key, outcome in zip(read.unsaid, await carried(io, reads), strict=True):
        if isinstance(outcome, Error):
            missed(core, outcome)
        elif outcome.value.outcome == HIT:
            hits.append((key, outcome.value))
    scopes = await scopes_of(io, core, [answer for _, answer in hits])
    for key, answer in hits:
        of_entry = scopes[answer.tags]
        if of_entry is not None:
            read.keep(key, core.thawed(call._replace(key=key), answer, began, of_entry), core)
