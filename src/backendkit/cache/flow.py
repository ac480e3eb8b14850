"""Get or load, written once; both faces run it.

In order: what is stale may serve at once while a load runs behind; else one load per key and process, which all who
ask meanwhile share; within it one load per key and fleet, by the lease; and what it brings is stored only if nobody
has invalidated it since it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from backendkit.cache import events
from backendkit.cache.bell import Bell
from backendkit.cache.core import WAKE, Brought, Call, Core, Packed
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.tier import HIT, LEASED, Answer, Life
from backendkit.cache.errors import LoadTimeout, NestedLoad
from backendkit.cache.io import CacheIO
from backendkit.cache.loading import MISSING, NOT_MODIFIED, Load, loading
from backendkit.cache.local import Record, Scope, Ticket
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument, StoreError
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value

R = TypeVar("R")


async def get_or_load(io: CacheIO, core: Core, call: Call) -> Any:
    """Return the value of a key that the first tier has not, or has no longer fresh."""
    running = loading()
    if running is not None and running.runs_within(core, call.key):
        raise NestedLoad(f"the loader of {call.key!r} asked for {call.key!r}")
    found = core.local.l1.peek(call.key)
    old = found if isinstance(found, Record) else None
    if old is not None and serves_at_once(io, core, call, old):
        return old.give()
    core.local.part(call.key)
    load = partial(load_shared, io, core, call, old, 0)
    soft, hard = call.policy.soft_us, call.policy.hard_us
    if soft is not None and core.usable(old):
        outcome = await io.share_within(call.key, load, soft)
        if outcome is None and old is not None and core.usable(old):
            return serve_stale(core, call, old, "timeout").give()
    elif hard is not None:
        outcome = await io.share_within(call.key, load, hard)
    else:
        outcome = await io.share(call.key, load)
    if outcome is None:
        raise LoadTimeout(f"the loader of {call.key!r} has not returned in time; it goes on behind")
    return outcome.unwrap().give()


def serves_at_once(io: CacheIO, core: Core, call: Call, old: Record) -> bool:
    """Whether what is there serves without waiting; has it refreshed behind where it is time."""
    local, now = core.local, core.local.now()
    if not local.trusts(old, now) or not local.lives(old):
        return False
    if now < old.fresh:
        core.counts.add("l1_hits")
        if core.is_early(old, now, call.policy):
            refresh(io, core, call, old, old.at)
        return True
    if not call.policy.revalidate_us:
        return False
    if not core.usable(old, within=call.policy.revalidate_us / SECOND_US):
        return False
    refresh(io, core, call, old, 0)
    serve_stale(core, call, old, "revalidating")
    return True


def refresh(io: CacheIO, core: Core, call: Call, old: Record, refused: int) -> None:
    """Load behind, unless somebody does."""
    if call.key not in core.local.flights:
        io.spawn(partial(io.share, call.key, partial(load_shared, io, core, call, old, refused)))


def serve_stale(core: Core, call: Call, record: Record, reason: str) -> Record:
    """Count and tell that a caller gets what is stale."""
    core.counts.add("stale")
    core.tell(events.StaleServed(call.key, reason))
    return record


async def load_shared(
    io: CacheIO, core: Core, call: Call, old: Record | None, refused: int
) -> Outcome[Record]:
    """Find or load a value for all who share this flight.

    `old` is what the first tier has; `refused` the second's entry that is to be replaced, however fresh.
    """
    local = core.local
    ticket = local.board(call.key)
    try:
        found = local.l1.get(call.key)
        if isinstance(found, Record) and found is not old and local.lives(found):
            return Value(found)  # whoever landed while we took off has brought it
        if local.l1.peek(call.key) is not old:
            old = None  # dropped before there was a ticket to say so
        if core.alone:
            scope = local.invent(call.tags, core.draw, read=core.alone)
            return await from_source(io, core, Job(call, ticket, scope, None, old))
        return await through_tier(io, core, Search(call, ticket, old, refused))
    finally:
        local.land(call.key, ticket)


class Job:
    """One load: for which call, under which ticket and versions, with which lease, with what to fall back on."""

    __slots__ = ("call", "lease", "old", "scope", "ticket")

    def __init__(
        self, call: Call, ticket: Ticket, scope: Scope, lease: bytes | None, old: Record | None
    ) -> None:
        self.call = call
        self.ticket = ticket
        self.scope = scope
        self.lease = lease
        self.old = old


class Search:
    """One look for a key in the second tier, over several answers."""

    __slots__ = ("bell", "call", "old", "refused", "ticket", "token")

    def __init__(self, call: Call, ticket: Ticket, old: Record | None, refused: int) -> None:
        self.call = call
        self.ticket = ticket
        self.old = old
        self.refused = refused
        self.token = b""
        self.bell: Bell | None = None


async def through_tier(io: CacheIO, core: Core, search: Search) -> Outcome[Record]:
    """Read the second tier; load where it has nothing fresh and nobody else loads."""
    core.upkeep.start()
    local, call = core.local, search.call
    search.token = core.draw()
    due = local.now() + call.policy.wait_us / SECOND_US
    try:
        while core.upkeep.trusts(call.key):
            scope = await scope_of(io, core, call.tags)
            if scope is None:
                break
            began = local.now()
            operation = tier.read_or_lease(
                core.names.keys(call.key),
                search.token,
                core.coherence.lease_us,
                scope.namespace.token,
                search.refused,
            )
            answer = await ask(io, core, operation)
            if answer is None:
                break
            outcome = await answered(io, core, search, (scope, answer, began, due))
            if outcome is not None:
                return outcome
    finally:
        if search.bell is not None:
            local.ring(call.key)
    scope = local.invent(call.tags, core.draw, read=core.alone)
    return await from_source(io, core, Job(call, search.ticket, scope, None, search.old))


async def answer_with(io: CacheIO, core: Core, call: Call, ticket: Ticket) -> Outcome[Record]:
    """Find or load one value for whoever leads its flight and has its ticket."""
    return await through_tier(io, core, Search(call, ticket, None, 0))


async def answered(
    io: CacheIO, core: Core, search: Search, found: tuple[Scope, Answer, float, float]
) -> Outcome[Record] | None:
    """Do what an answer of the second tier asks for; None: ask again."""
    scope, answer, began, due = found
    call, local = search.call, core.local
    record = await record_of(io, core, call, answer, began)
    if answer.outcome == HIT and answer.entry is not None:
        if record is None:
            search.refused = answer.entry.at
            return None
        core.counts.add("l2_hits")
        local.fill(call.key, search.ticket, record)
        return Value(record)
    stale = record if core.usable(record) else search.old if search.ticket.attached else None
    if answer.outcome == LEASED:
        return await with_lease(io, core, Job(call, search.ticket, scope, search.token, stale))
    return await busy(io, core, search, (scope, answer, stale, due))


async def busy(
    io: CacheIO, core: Core, search: Search, found: tuple[Scope, Answer, Record | None, float]
) -> Outcome[Record] | None:
    """Wait for whoever loads elsewhere, or serve what is stale; None: ask again."""
    scope, answer, stale, due = found
    call, local = search.call, core.local
    within = call.policy.revalidate_us / SECOND_US
    if stale is not None and within and core.usable(stale, within=within):
        return Value(serve_stale(core, call, stale, "revalidating"))
    left = min(answer.busy_us, int((due - local.now()) * SECOND_US))
    if left <= 0 or not io.may_wait():
        # Whoever holds the lease hangs, or cannot go on while we wait: load, and store nothing.
        return await from_source(io, core, Job(call, search.ticket, scope, b"", stale))
    if search.bell is None:
        search.bell = local.bell(call.key)  # before one more look, so that no ring is missed
        return None
    await io.listen(search.bell, left)
    local.ring(call.key)
    search.bell = None
    return None


async def with_lease(io: CacheIO, core: Core, job: Job) -> Outcome[Record]:
    """Load under a lease that is renewed meanwhile; at once with what is stale, where the policy lets it serve."""
    call, stale = job.call, job.old
    assert job.lease is not None  # noqa: S101 - the caller has it
    core.upkeep.hold(job.lease, core.names.keys(call.key))
    within = call.policy.revalidate_us / SECOND_US
    if stale is not None and within and core.usable(stale, within=within):
        core.local.board(call.key)  # the same ticket once more: it outlives this flight
        if io.spawn(partial(load_behind, io, core, job)):
            return Value(serve_stale(core, call, stale, "revalidating"))
        core.local.land(call.key, job.ticket)
    return await from_source(io, core, job)


async def load_behind(io: CacheIO, core: Core, job: Job) -> None:
    """Load behind callers that were served what is stale."""
    try:
        await from_source(io, core, job)
    finally:
        core.local.land(job.call.key, job.ticket)


async def from_source(io: CacheIO, core: Core, job: Job) -> Outcome[Record]:
    """Run the loader, and store what it brings where it may be stored."""
    call, local = job.call, core.local
    began = local.now()
    try:
        old = job.old if core.usable(job.old) else None
        load = Load(core, call.key, call.tags, MISSING if old is None else old.give())
        with load:
            outcome = await io.call(call.loader)
        cost_us = int((local.now() - began) * SECOND_US)
        core.counts.add("loads")
        core.counts.add("load_us", cost_us)
        if isinstance(outcome, Error):
            return await failed(io, core, job, outcome)
        value = outcome.value
        if value is NOT_MODIFIED:
            if old is None:
                raise InvalidArgument("loader", "must return a value where nothing stale is", value)  # noqa: TRY301 - it stands for the loader's own
            value = old.give()
        brought = Brought(value, core.life(call, value, load.ttl_us), cost_us, began)
        return await bring(io, core, job, load, brought)
    except GeneratorExit:  # its loop has gone, and nobody awaits any more: the lease ends by itself
        raise
    except BaseException:
        await give_back(io, core, job)
        raise
    finally:
        if job.lease:
            core.upkeep.let_go(job.lease)


async def bring(io: CacheIO, core: Core, job: Job, load: Load, brought: Brought) -> Outcome[Record]:
    """Store what was loaded: in the second tier by the lease, and in the first if that was not refused."""
    call = job.call
    scope: Scope | None = job.scope
    if load.tags != call.tags:
        scope = await late_scope(io, core, job.scope, load.tags)
    packed = core.packed(call, brought, scope) if job.lease and scope is not None else None
    record = core.record(call, brought, scope or job.scope, packed)
    stored = scope is not None
    if job.lease is not None:
        at = await store(io, core, job, brought.life, packed)
        record.at, stored = at or 0, stored and at != 0
    stored = stored and core.local.fill(call.key, job.ticket, record)
    if not stored:
        core.counts.add("refused")
        core.tell(events.FenceRefused(call.key))
    core.tell(events.Loaded(call.key, brought.cost_us, stored))
    return Value(record)


async def store(io: CacheIO, core: Core, job: Job, life: Life, packed: Packed | None) -> int | None:
    """Store in the second tier and return `Entry.at`; 0: it was refused, None: nobody knows, which is no refusal."""
    if not job.lease:
        return 0
    if packed is None:
        await give_back(io, core, job)
        return 0
    names, key = core.names, job.call.key
    keys, post = names.keys(key), names.post(WAKE, key)
    return await ask(io, core, tier.store(keys, job.lease, life, packed.tail, post))


async def failed(io: CacheIO, core: Core, job: Job, outcome: Error) -> Outcome[Record]:
    """Answer a loader's error: by what is stale, if there is something that was not invalidated meanwhile."""
    call, old = job.call, job.old
    core.counts.add("load_errors")
    await give_back(io, core, job)
    safe = call.policy.fail_safe and isinstance(outcome.error, Exception)
    serves = safe and old is not None and job.ticket.attached and core.usable(old)
    core.tell(events.LoadFailed(call.key, type(outcome.error).__name__, serves))
    if not serves or old is None:
        return outcome
    record = core.throttled(call, old)
    core.local.fill(call.key, job.ticket, record)
    return Value(serve_stale(core, call, record, "error"))


async def give_back(io: CacheIO, core: Core, job: Job) -> None:
    """End the lease, so that others need not wait until it is over."""
    if job.lease:
        names, key = core.names, job.call.key
        await ask(io, core, tier.release(names.keys(key), job.lease, names.post(WAKE, key)))


async def record_of(
    io: CacheIO, core: Core, call: Call, answer: Answer, began: float
) -> Record | None:
    """Return the record of the entry that was read, if its tags are those of now."""
    if answer.entry is None:
        return None
    scope = await scope_of(io, core, answer.tags)
    return None if scope is None else core.thawed(call, answer, began, scope)


async def scope_of(io: CacheIO, core: Core, tags: Sequence[str]) -> Scope | None:
    """Return the versions of now, asking for those that this process does not know; None: nobody answers."""
    local, names = core.local, core.names
    for _ in range(_TRIES):
        known = local.known(tags)
        if known is not None:
            return known
        mark, began = local.mark(), local.now()
        keys = names.versions(tags)
        tokens = await ask(io, core, versions.look(keys, [core.draw() for _ in keys]))
        if tokens is None:
            return None
        first = (tokens[0], tokens[1])
        scope = local.learn(mark, began, first, dict(zip(tags, tokens[2:], strict=True)))
        if scope is not None:
            return scope
    return None


async def late_scope(io: CacheIO, core: Core, scope: Scope, tags: tuple[str, ...]) -> Scope | None:
    """Return the versions with those of tags that the loader has named; None: some tag was invalidated meanwhile."""
    if core.alone:
        late = core.local.invent(tags, core.draw, read=True)
    else:
        found = await scope_of(io, core, tags)
        if found is None:
            return None
        late = found
    if not scope.alive or late.epoch is not scope.epoch or not scope.epoch.alive:
        return None
    return Scope(scope.namespace, scope.epoch, {**late.tags, **scope.tags})


async def ask(io: CacheIO, core: Core, operation: Operation[R]) -> R | None:
    """Carry out an operation; None where the second tier fails, unless that shall be raised."""
    try:
        return await io.run(operation)
    except StoreError:
        core.counts.add("errors")
        if core.coherence.strict:
            raise
        return None


_TRIES = 3
"""How often versions are read again, because one was replaced meanwhile."""
