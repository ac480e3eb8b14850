"""Many keys at once: one batch of reads, one call of the loader for what is missing, one batch of fenced writes.

Each key has its own flight, so that calls which overlap share: a key that somebody else loads is waited for, after all
that this call leads has landed; so no two calls can wait for each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from backendkit.cache.core import Brought, Call, Core, Packed
from backendkit.cache.decide import tier
from backendkit.cache.decide.tier import HIT, LEASED
from backendkit.cache.errors import NestedLoad
from backendkit.cache.flow import (
    Job,
    answer_with,
    failed,
    get_or_load,
    record_of,
    scope_of,
)
from backendkit.cache.io import CacheIO
from backendkit.cache.loading import MISSING, Load, loading
from backendkit.cache.local import Record, Ticket
from backendkit.cache.writes import fresh
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.outcome import Error, Outcome, Value


async def get_or_load_many(
    io: CacheIO, core: Core, calls: Sequence[Call], loader: Any
) -> list[Any]:
    """Return the values of calls, in order; `MISSING` for what the loader does not bring."""
    wanted = {call.key: call for call in calls}
    found: dict[str, Outcome[Record]] = {}
    for key in wanted:
        record = fresh(core, key)
        if record is not None:
            found[key] = Value(record)
    core.counts.add("l1_hits", len(found))
    missing = [call for key, call in wanted.items() if key not in found]
    if missing:
        running = loading()
        for call in missing:
            if running is not None and running.runs_within(core, call.key):
                raise NestedLoad(f"the loader of {call.key!r} asked for {call.key!r}")
        lead = partial(_lead, io, core, missing, loader)
        # Nobody shares this flight: it has a task of its own, which its first caller's cancellation does not end.
        led = (await io.share(object(), lead)).unwrap()
        found |= led[0]
        for call, flight in led[1]:
            outcome = await io.land(flight)
            if outcome is None:
                alone = call._replace(loader=partial(_only, loader, call.key))
                found[call.key] = Value(await get_or_load(io, core, alone))
            else:
                found[call.key] = outcome
    return [_given(found[call.key]) for call in calls]


def _given(outcome: Outcome[Any]) -> Any:
    value = outcome.unwrap()
    return value.give() if isinstance(value, Record) else value


def _only(loader: Any, key: str) -> Any:
    brought = loader([key])
    if isinstance(brought, Awaitable):
        return _picked(brought, key)  # pyright: ignore[reportUnknownArgumentType]  # of what, the loader knows
    return brought.get(key, MISSING)


async def _picked(brought: Awaitable[Any], key: str) -> Any:
    return (await brought).get(key, MISSING)


async def _lead(io: CacheIO, core: Core, calls: Sequence[Call], loader: Any) -> Outcome[Any]:
    """Load what nobody else loads; return it, and the flights of the rest."""
    flights = core.local.flights
    for call in calls:
        core.local.part(call.key)
    boarded = [(call, *flights.board(call.key)) for call in calls]
    led = [call for call, _, leads in boarded if leads]
    tickets = {call.key: core.local.board(call.key) for call in led}
    found: dict[str, Outcome[Any]] = {}
    try:
        if led:
            found = await _found(io, core, led, tickets, loader)
    finally:
        for call, flight, leads in boarded:
            if leads:
                core.local.land(call.key, tickets[call.key])
                lost = Error(RuntimeError("the load was interrupted"))
                flights.land(call.key, flight, found.get(call.key, lost))
    return Value((found, [(call, flight) for call, flight, leads in boarded if not leads]))


async def _found(
    io: CacheIO, core: Core, calls: Sequence[Call], tickets: Mapping[str, Ticket], loader: Any
) -> dict[str, Outcome[Any]]:
    found: dict[str, Outcome[Any]] = {}
    jobs, busy = await _read(io, core, calls, tickets, found)
    try:
        if jobs:
            found |= await _load(io, core, jobs, loader)
    finally:
        for job in jobs:
            core.upkeep.let_go(job.lease or b"")
    for call in busy:
        # Somebody in another process loads it: wait for that as a single load does.
        alone = call._replace(loader=partial(_only, loader, call.key))
        found[call.key] = await answer_with(io, core, alone, tickets[call.key])
    return found


async def _read(
    io: CacheIO, core: Core, calls: Sequence[Call], tickets: Mapping[str, Ticket],
    found: dict[str, Outcome[Any]],
) -> tuple[list[Job], list[Call]]:  # fmt: skip
    """Read or lease in one batch; return what is to be loaded, and what others load."""
    local, names = core.local, core.names
    scope = None if core.alone else await scope_of(io, core, calls[0].tags)
    if scope is None:
        scope = local.invent(calls[0].tags, core.draw, read=core.alone)
        return [Job(call, tickets[call.key], scope, None, None) for call in calls], []
    core.upkeep.start()
    # Of what an invalidation waits for, the second tier may still have the old.
    trusted = {call.key for call in calls if core.upkeep.trusts(call.key)}
    jobs = [
        Job(call, tickets[call.key], scope, None, None) for call in calls if call.key not in trusted
    ]
    calls = [call for call in calls if call.key in trusted]
    began, lease_us = local.now(), core.coherence.lease_us
    tokens = [core.draw() for _ in calls]
    outcomes = await io.run_many([
        tier.read_or_lease(names.keys(call.key), token, lease_us, scope.namespace.token)
        for call, token in zip(calls, tokens, strict=True)
    ])  # fmt: skip
    busy: list[Call] = []
    for call, token, outcome in zip(calls, tokens, outcomes, strict=True):
        ticket = tickets[call.key]
        if isinstance(outcome, Error):
            core.counts.add("errors")
            jobs.append(Job(call, ticket, scope, None, None))
            continue
        record = await record_of(io, core, call, outcome.value, began)
        if outcome.value.outcome == HIT and record is not None:
            local.fill(call.key, ticket, record)
            core.counts.add("l2_hits")
            found[call.key] = Value(record)
        elif outcome.value.outcome == LEASED:
            core.upkeep.hold(token, names.keys(call.key))
            jobs.append(Job(call, ticket, scope, token, record))
        else:
            busy.append(call)
    return jobs, busy


async def _load(
    io: CacheIO, core: Core, jobs: Sequence[Job], loader: Any
) -> dict[str, Outcome[Any]]:
    """Call the loader once for all, and store what it brings in one batch."""
    local = core.local
    began = local.now()
    keys = [job.call.key for job in jobs]
    with Load(core, keys[0], jobs[0].call.tags, MISSING, *keys[1:]):
        outcome = await io.call(lambda: loader(keys))
    cost_us = int((local.now() - began) * SECOND_US)
    core.counts.add("loads")
    core.counts.add("load_us", cost_us)
    if isinstance(outcome, Value) and not isinstance(outcome.value, Mapping):
        outcome = Error(
            InvalidArgument("loader", "must return a mapping", cast("object", outcome.value))
        )
    if isinstance(outcome, Error):
        return {job.call.key: await failed(io, core, job, outcome) for job in jobs}
    values = cast("Mapping[str, Any]", outcome.value)
    brought = [
        (job, Brought(values[key], core.life(job.call, values[key], None), cost_us, began))
        for key, job in zip(keys, jobs, strict=True)
        if key in values
    ]
    found: dict[str, Outcome[Any]] = {key: Value(MISSING) for key in keys if key not in values}
    return found | await _store(io, core, brought)


async def _store(
    io: CacheIO, core: Core, brought: Sequence[tuple[Job, Brought]]
) -> dict[str, Outcome[Any]]:
    names = core.names
    operations: dict[str, Any] = {}
    packed: dict[str, Packed | None] = {}
    for job, each in brought:
        made = core.packed(job.call, each, job.scope) if job.lease else None
        packed[job.call.key] = made
        if job.lease and made is not None:
            keys, post = names.keys(job.call.key), names.post(b"w", job.call.key)
            operations[job.call.key] = tier.store(keys, job.lease, each.life, made.tail, post)
    outcomes = dict(zip(operations, await io.run_many(list(operations.values())), strict=True))
    found: dict[str, Outcome[Any]] = {}
    for job, each in brought:
        key = job.call.key
        record = core.record(job.call, each, job.scope, packed[key])
        outcome = outcomes.get(key)
        if isinstance(outcome, Value):
            record.at = outcome.value
        refused = isinstance(outcome, Value) and not outcome.value
        unkept = bool(job.lease) and outcome is None
        if refused or unkept or not core.local.fill(key, job.ticket, record):
            core.counts.add("refused")
        found[key] = Value(record)
    return found
