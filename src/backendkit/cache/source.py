"""Loads: run a loader under its leases, store what it brings in both tiers in one batch, fall back on what is stale.

One load may be of many keys; a single one is a load of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from backendkit.cache import events
from backendkit.cache.asks import ask_many, carried, late_scope
from backendkit.cache.core import UNGIVEN, UNKEPT, Brought, Call, Core, Packed
from backendkit.cache.decide import tier
from backendkit.cache.io import CacheIO
from backendkit.cache.loading import MISSING, NOT_MODIFIED, Load
from backendkit.cache.names import WAKE
from backendkit.cache.record import Record, Ticket
from backendkit.cache.scope import Scope
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value

L1_HIT, L2_HIT, MISS = "l1_hits", "l2_hits", "misses"
"""How a caller was answered, by the names of the counters; or by what is stale: `error`, `timeout`, `revalidating`."""


class Found(Value[Record]):
    """A record, and how it was found."""

    __slots__ = ("how",)

    def __init__(self, record: Record, how: str) -> None:
        super().__init__(record)
        self.how = how


class Job(NamedTuple):
    """One load: for which call, under which ticket and versions, with which lease, with what to fall back on.

    The lease is None where there is no second tier to speak of, and empty where somebody else has it: then nothing is stored.
    """

    call: Call
    ticket: Ticket
    scope: Scope
    lease: bytes | None
    old: Record | None


def peeked(core: Core, key: str) -> Record | None:
    """Return what the first tier has, fresh or not."""
    found = core.local.l1.peek(key)
    return found if isinstance(found, Record) else None


def spare_of(core: Core, key: str, ticket: Ticket, old: Record | None) -> Record | None:
    """Return what may serve where nothing fresh can be had: nothing that this process knows to be removed.

    That is what was seen under a ticket which still stands, or what the first tier has now.
    """
    if ticket.attached and core.usable(old):
        return old
    found = peeked(core, key)
    return found if core.usable(found) else None


def hold(core: Core, job: Job) -> None:
    """Have the lease of a job renewed."""
    core.upkeep.hold(job.lease or b"", core.names.keys(job.call.key))


async def from_source(io: CacheIO, core: Core, job: Job) -> Outcome[Record]:
    """Run the loader of one key, and store what it brings where it may be stored."""
    key = job.call.key
    found = await run(io, core, (job,), job.call.loader, lambda value: {key: value})
    return found[key]


async def run(
    io: CacheIO,
    core: Core,
    jobs: Sequence[Job],
    loader: Callable[[], Any],
    reading: Callable[[Any], Mapping[str, Any]],
) -> dict[str, Outcome[Record]]:
    """Run a loader for all jobs, and store what `reading` makes of its answer: values by key."""
    local, began = core.local, core.local.now()
    try:
        stales = _shown(core, jobs)
        load = Load(core, [job.call.key for job in jobs], jobs[0].call.tags, stales)
        with load:
            outcome = await io.call(loader)
        cost_us = int((local.now() - began) * SECOND_US)
        core.counts.add("loads")
        core.counts.add("load_us", cost_us)
        values = _read(outcome, reading)
        if isinstance(values, Error):
            core.counts.add("load_errors")
            await give_back(io, core, jobs)
            return {job.call.key: _failed(core, job, values) for job in jobs}
        return await _bring(io, core, jobs, _Run(load, values, cost_us, began))
    except (
        GeneratorExit
    ):  # its loop has gone, and nobody awaits any more: the leases end by themselves
        raise
    except BaseException:
        await give_back(io, core, jobs)
        raise
    finally:
        for job in jobs:
            if job.lease:
                core.upkeep.let_go(job.lease)


class _Run(NamedTuple):
    load: Load
    values: Mapping[str, Any]
    cost_us: int
    began: float


def _shown(core: Core, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what a loader may look at: what is stale, by key."""
    stales: dict[str, Any] = {}
    for job in jobs:
        old = job.old
        if old is not None and spare_of(core, job.call.key, job.ticket, old) is old:
            value = core.given(job.call.key, old)
            if value is not UNGIVEN:
                stales[job.call.key] = value
    return stales


def _read(
    outcome: Outcome[Any], reading: Callable[[Any], Mapping[str, Any]]
) -> Mapping[str, Any] | Error:
    if isinstance(outcome, Error):
        return outcome
    try:
        return reading(outcome.value)
    except Exception as error:  # noqa: BLE001 - a loader's mapping may raise anything, and stands for it
        return Error(error)


class _Parcel(NamedTuple):
    """What is to be delivered for one job: a record or an error, and what the second tier is to do."""

    record: Record | Error
    packed: Packed | None
    scope: Scope | None
    cost_us: int
    operation: Operation[int] | Operation[bool] | None


async def _bring(
    io: CacheIO, core: Core, jobs: Sequence[Job], ran: _Run
) -> dict[str, Outcome[Record]]:
    """Store what was loaded: in the second tier by the leases, and in the first what was not refused."""
    scopes: dict[Scope, Scope | None] = {}
    for job in jobs:
        if ran.load.tags != job.call.tags and job.scope not in scopes:
            scopes[job.scope] = await late_scope(io, core, job.scope, ran.load.tags)
    parcels = [_packed(core, job, ran, scopes.get(job.scope, job.scope)) for job in jobs]
    operations = [parcel.operation for parcel in parcels if parcel.operation is not None]
    answers = iter(await ask_many(io, core, operations))
    return {
        job.call.key: _delivered(
            core, job, parcel, None if parcel.operation is None else next(answers)
        )
        for job, parcel in zip(jobs, parcels, strict=True)
    }


def _packed(core: Core, job: Job, ran: _Run, scope: Scope | None) -> _Parcel:
    """Return what to store; where it cannot be kept, what gives the lease back, and a record that only serves."""
    key, value = job.call.key, ran.values.get(job.call.key, MISSING)
    release = _release(core, job)
    if value is NOT_MODIFIED:
        value = (
            UNGIVEN if job.old is None or key not in ran.load.stales else core.given(key, job.old)
        )
        if value is UNGIVEN:
            rule = "must return a value where nothing stale is"
            error = Error(InvalidArgument("loader", rule, NOT_MODIFIED))
            return _Parcel(error, None, scope, ran.cost_us, release)
    if value is MISSING:
        return _Parcel(Record(value, UNKEPT, thaw=None), None, scope, ran.cost_us, release)
    try:
        life = core.life(job.call, value, ran.load.ttl_us)
        brought = Brought(value, life, ran.cost_us, ran.began)
        packed = core.packed(job.call, brought, scope) if job.lease and scope is not None else None
        record = core.record(job.call, brought, scope or job.scope, packed)
    except Exception as error:
        if core.coherence.strict:
            raise
        core.tell(events.NotStored(key, type(error).__name__))
        return _Parcel(Record(value, UNKEPT, thaw=None), None, scope, ran.cost_us, release)
    if packed is None or not job.lease:
        return _Parcel(record, None, scope, ran.cost_us, release)
    keys, post = core.names.keys(key), core.names.post(WAKE, key)
    storing = tier.store(keys, job.lease, life, packed.tail, post)
    return _Parcel(record, packed, scope, ran.cost_us, storing)


def _delivered(core: Core, job: Job, parcel: _Parcel, at: int | None) -> Outcome[Record]:
    """Keep in the first tier what may be kept; `at` is what the second answered, None: nobody knows, which is no refusal."""
    record, key = parcel.record, job.call.key
    if isinstance(record, Error):
        return record
    if record.value is MISSING:
        return Found(record, MISS)
    refused = parcel.scope is None or (parcel.packed is not None and at == 0)
    kept = job.lease is None or parcel.packed is not None
    if kept and not refused:
        record.named(at or 0)
        refused = not core.local.fill(key, job.ticket, record)
    if refused:
        core.counts.add("refused")
        core.tell(events.FenceRefused(key))
    stored = kept and not refused and (record.size != UNKEPT or parcel.packed is not None)
    core.tell(events.Loaded(key, parcel.cost_us, stored))
    return Found(record, MISS)


def _failed(core: Core, job: Job, outcome: Error) -> Outcome[Record]:
    """Answer a loader's error: by what is stale, if there is something that was not invalidated meanwhile."""
    call, key = job.call, job.call.key
    safe = call.policy.fail_safe and isinstance(outcome.error, Exception)
    stands = job.ticket.attached
    stale = spare_of(core, key, job.ticket, job.old) if safe else None
    record = None if stale is None else core.throttled(call, stale)
    if record is not None and stands and not core.local.fill(key, job.ticket, record):
        record = None  # removed at the last moment
    core.tell(events.LoadFailed(key, type(outcome.error).__name__, record is not None))
    return outcome if record is None else Found(record, "error")


async def give_back(io: CacheIO, core: Core, jobs: Sequence[Job]) -> None:
    """End leases, so that others need not wait until they are over. Never raises: there is an error on its way already."""
    releases = [release for release in (_release(core, job) for job in jobs) if release is not None]
    for outcome in await carried(io, releases) if releases else ():
        if isinstance(outcome, Error):
            core.counts.add("errors")


def _release(core: Core, job: Job) -> Operation[bool] | None:
    if not job.lease:
        return None
    names, key = core.names, job.call.key
    return tier.release(names.keys(key), job.lease, names.post(WAKE, key))
