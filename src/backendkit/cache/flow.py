"""Get or load, written once; both faces run it.

In order: what is stale may serve at once while a load runs behind; else one load per key and process, which all who
ask meanwhile share; within it one load per key and fleet, by the lease; and what it brings is stored only if nobody
has invalidated it since it began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from backendkit.cache import events
from backendkit.cache.asks import ask, scope_of
from backendkit.cache.bell import Bell
from backendkit.cache.core import THROTTLED, UNGIVEN, Call, Core
from backendkit.cache.decide import tier
from backendkit.cache.decide.tier import HIT, LEASED, Answer
from backendkit.cache.errors import LoadTimeout, NestedLoad
from backendkit.cache.io import CacheIO, shared
from backendkit.cache.loading import Load, loading
from backendkit.cache.policy import CachePolicy
from backendkit.cache.reads import BLIND, look_first
from backendkit.cache.record import Record, Ticket
from backendkit.cache.scope import Scope
from backendkit.cache.source import (
    L1_HIT,
    L2_HIT,
    MISS,
    Found,
    Job,
    from_source,
    hold,
    peeked,
    spare_of,
)  # fmt: skip
from backendkit.core.clock import SECOND_US
from backendkit.core.operation import Operation
from backendkit.core.outcome import Outcome


async def get_or_load(io: CacheIO, core: Core, call: Call) -> Any:
    """Return the value of a key that the first tier has not, or has no longer fresh."""
    local, key = core.local, call.key
    refuse_nested(core, key)
    old = peeked(core, key)
    if old is not None:
        value = served_at_once(io, core, call, old)
        if value is not UNGIVEN:
            return value
        old = peeked(core, key)
    local.part(key)
    value, refused = await look_first(io, core, call)
    if value is not UNGIVEN:
        return value
    load = partial(load_shared, io, core, call, old, refused)
    if call.policy.soft_us is None and call.policy.hard_us is None:
        outcome: Outcome[Record] | None = await shared(io, key, load)
    else:
        ticket = local.board(key)
        try:
            spare = partial(spare_found, core, key, ticket, old)
            outcome = await bounded(io, call.policy, key, load, spare)
        finally:
            local.land(key, ticket)
    count(core, {key: outcome})
    if outcome is None:
        raise LoadTimeout(f"the loader of {key!r} has not returned in time; it goes on behind")
    value = core.given(key, outcome.unwrap())
    if value is not UNGIVEN:
        return value
    # What cannot be kept so that it comes back is loaded for this caller alone.
    with Load(core, (key,), call.tags, {}):
        return (await io.call(call.loader)).unwrap()


def refuse_nested(core: Core, key: str) -> None:
    """Raise where the calling code runs in the loader of this very key."""
    running = loading()
    if running is not None and running.runs_within(core, key):
        raise NestedLoad(f"the loader of {key!r} asked for {key!r}")


def served_at_once(io: CacheIO, core: Core, call: Call, old: Record) -> Any:
    """Return what is there if it serves without waiting, else UNGIVEN; have it refreshed behind where it is time."""
    how, refused = at_once(core, call, old, core.local.now())
    if how is None:
        return UNGIVEN
    value = core.given(call.key, old)
    if value is not UNGIVEN:
        if refused is not None and call.key not in core.local.flights:
            load = partial(load_shared, io, core, call, old, refused)
            io.spawn(partial(io.share, call.key, load))
        count(core, {call.key: Found(old, how)})
    return value


def at_once(core: Core, call: Call, old: Record, now: float) -> tuple[str | None, int | None]:
    """Return how a record serves without waiting, None if not; and which entry a refresh refuses, None: there is none to do."""
    if not core.local.trusts(old, now) or not core.local.lives(old):
        return None, None
    if now < old.fresh:
        if old.deadline == THROTTLED:
            return "error", None
        return L1_HIT, old.at if core.is_early(old, now, call.policy) else None
    return ("revalidating", 0) if revalidates(core, call, old) else (None, None)


def revalidates(core: Core, call: Call, stale: Record | None) -> bool:
    """Whether what is stale serves at once, while a load runs behind."""
    within = call.policy.revalidate_us
    return bool(within) and core.usable(stale, within=within / SECOND_US)


async def bounded(
    io: CacheIO,
    policy: CachePolicy,
    key: object,
    load: Callable[[], Any],
    spare: Callable[[], Outcome[Any] | None],
) -> Outcome[Any] | None:
    """Share a load for as long as its callers may wait; then what is to `spare`, if there is; None: nothing is."""
    soft, hard = policy.soft_us, policy.hard_us
    landing = io.begin(key, load)
    try:
        if soft is not None and (hard is None or soft < hard):
            outcome = await landing.within(soft) or spare()
            if outcome is not None:
                return outcome
        if hard is not None:
            return await landing.within(hard) or (spare() if policy.fail_safe else None)
    finally:
        landing.leave()
    return await shared(io, key, load)


def spare_found(core: Core, key: str, ticket: Ticket, old: Record | None) -> Found | None:
    """Return what may serve those who wait no longer."""
    record = spare_of(core, key, ticket, old)
    if record is None:
        return None
    return Found(record, L1_HIT if core.local.now() < record.fresh else "timeout")


def count(core: Core, outcomes: Mapping[str, Outcome[Any] | None]) -> None:
    """Count callers by how they were answered, and tell of what was stale."""
    tally: dict[str, int] = {}
    for key, outcome in outcomes.items():
        how = outcome.how if isinstance(outcome, Found) else MISS
        if how not in (L1_HIT, L2_HIT, MISS):
            core.tell(events.StaleServed(key, how))
            how = "stale"
        tally[how] = tally.get(how, 0) + 1
    for how, number in tally.items():
        core.counts.add(how, number)


async def load_shared(
    io: CacheIO, core: Core, call: Call, old: Record | None, refused: int
) -> Outcome[Record]:
    """Find or load a value for all who share this flight.

    `old` is what the first tier has; `refused` the second's entry that is to be replaced, however fresh.
    """
    local = core.local
    ticket = local.board(call.key)
    try:
        found, old = boarded(core, call.key, old)
        if found is not None:
            return found
        if core.alone:
            scope = local.invent(call.tags, core.draw, read=True)
            return await from_source(io, core, Job(call, ticket, scope, None, old))
        return await through_tier(io, core, Search(call, ticket, old, refused, core.draw()))
    finally:
        local.land(call.key, ticket)


def boarded(core: Core, key: str, old: Record | None) -> tuple[Found | None, Record | None]:
    """Look again under a ticket: return what somebody has brought meanwhile, and what is still there of `old`."""
    found = core.local.l1.get(key)
    if isinstance(found, Record) and found is not old and core.local.lives(found):
        return Found(found, L1_HIT), None
    # Else it was dropped before there was a ticket to say so.
    return None, old if old is not None and core.local.l1.peek(key) is old else None


class Search:
    """One look for a key in the second tier, over several answers."""

    __slots__ = ("bell", "call", "old", "refusals", "refused", "ticket", "token")

    def __init__(
        self, call: Call, ticket: Ticket, old: Record | None, refused: int, token: bytes
    ) -> None:
        self.call = call
        self.ticket = ticket
        self.old = old
        self.refused = refused
        self.refusals = TRIES if refused == BLIND else 0
        self.token = token
        self.bell: Bell | None = None

    def job(self, scope: Scope, lease: bytes | None, old: Record | None) -> Job:
        """Return the load of what was not found."""
        return Job(self.call, self.ticket, scope, lease, old)


async def through_tier(io: CacheIO, core: Core, search: Search) -> Outcome[Record]:
    """Read the second tier; load where it has nothing fresh and nobody else loads."""
    core.upkeep.start()
    local, call = core.local, search.call
    due = local.now() + call.policy.wait_us / SECOND_US
    try:
        while search.refusals < TRIES and core.upkeep.trusts(call.key):
            scope = await scope_of(io, core, call.tags)
            if scope is None:
                break
            began = local.now()
            answer = await ask(io, core, asking(core, search, scope))
            if answer is None:
                break
            outcome = await answered(io, core, search, (scope, answer, began, due))
            if outcome is not None:
                return outcome
    finally:
        hang_up(core, search)
    scope = local.invent(call.tags, core.draw, read=core.alone)
    return await from_source(io, core, search.job(scope, None, search.old))


def asking(core: Core, search: Search, scope: Scope) -> Operation[Answer]:
    """Return the operation that reads, or takes the lease."""
    keys, lease_us = core.names.keys(search.call.key), core.coherence.lease_us
    return tier.read_or_lease(keys, search.token, lease_us, scope.namespace.token, search.refused)


async def answered(
    io: CacheIO, core: Core, search: Search, found: tuple[Scope, Answer, float, float]
) -> Outcome[Record] | None:
    """Do what an answer of the second tier asks for; None: ask again."""
    scope, answer, began, due = found
    call, local = search.call, core.local
    entry = await scope_of(io, core, answer.tags) if answer.entry is not None else None
    record = None if entry is None else core.thawed(call, answer, began, entry)
    if not core.looks.pays:
        core.looks.note(answer.outcome == HIT, 1)
    if answer.outcome == HIT:
        return hit(core, search, answer, record)
    stale = stale_of(core, search, record)
    if answer.outcome == LEASED:
        return await with_lease(io, core, search.job(scope, search.token, stale))
    if stale is not None and revalidates(core, call, stale):
        return Found(stale, "revalidating")
    left = min(answer.busy_us, int((due - local.now()) * SECOND_US))
    if left <= 0 or not io.may_wait():
        # Whoever holds the lease hangs, or cannot go on while we wait: load, and store nothing.
        return await from_source(io, core, search.job(scope, b"", stale))
    if listens(core, search):
        await io.listen([search.bell] if search.bell else (), left)
        hang_up(core, search)
        listens(core, search)
    return None


def hit(core: Core, search: Search, answer: Answer, record: Record | None) -> Found | None:
    """Keep and return what was hit; None: it cannot be read, and is not wanted when asked again."""
    if record is not None:
        core.local.fill(search.call.key, search.ticket, record)
        return Found(record, L2_HIT)
    search.refused = answer.entry.at if answer.entry is not None else 0
    search.refusals += 1
    return None


def stale_of(core: Core, search: Search, record: Record | None) -> Record | None:
    """Return what to fall back on: what was read, or what was there before."""
    if record is not None and search.ticket.attached and core.usable(record):
        policy = search.call.policy
        if policy.soft_us is not None or policy.hard_us is not None:
            core.local.fill(search.call.key, search.ticket, record)  # for those who wait no longer
        return record
    return spare_of(core, search.call.key, search.ticket, search.old)


def listens(core: Core, search: Search) -> bool:
    """Whether it has a bell; else it gets one, before one more look, so that no ring is missed."""
    if search.bell is not None:
        return True
    search.bell = core.local.bell(search.call.key)
    return False


def hang_up(core: Core, search: Search) -> None:
    """Give the bell back."""
    if search.bell is not None:
        core.local.ring(search.call.key)
        search.bell = None


async def with_lease(io: CacheIO, core: Core, job: Job) -> Outcome[Record]:
    """Load under a lease that is renewed meanwhile; at once with what is stale, where the policy lets it serve."""
    hold(core, job)
    stale = job.old
    if stale is not None and revalidates(core, job.call, stale):
        core.local.board(job.call.key)  # the same ticket once more: it outlives this flight
        if io.spawn(partial(load_behind, io, core, job)):
            return Found(stale, "revalidating")
        core.local.land(job.call.key, job.ticket)
    return await from_source(io, core, job)


async def load_behind(io: CacheIO, core: Core, job: Job) -> None:
    """Load behind callers that were served what is stale."""
    try:
        await from_source(io, core, job)
    finally:
        core.local.land(job.call.key, job.ticket)


TRIES = 3
"""How often an entry that cannot be read is refused, when others keep storing such."""
