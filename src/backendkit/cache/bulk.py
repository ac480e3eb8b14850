"""Many keys at once: one batch of reads, one call of the loader for what is missing, one batch of fenced writes.

Each key has its own flight, so that calls which overlap share: a key that somebody else loads is waited for, after all
that this call leads has landed; so no two calls can wait for each other. What other processes load is waited for
together, and asked for again in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

from backendkit.cache.asks import carried, missed, scope_of, scopes_of
from backendkit.cache.core import UNGIVEN, Call, Core
from backendkit.cache.decide.tier import HIT, LEASED, Answer
from backendkit.cache.errors import LoadTimeout
from backendkit.cache.flow import (
    TRIES,
    Search,
    asking,
    at_once,
    boarded,
    bounded,
    count,
    hang_up,
    hit,
    listens,
    refuse_nested,
    revalidates,
    spare_found,
    stale_of,
)  # fmt: skip
from backendkit.cache.io import CacheIO, shared, was_interrupted
from backendkit.cache.loading import MISSING, Load
from backendkit.cache.reads import BLIND, Read, look_many_first
from backendkit.cache.record import Record, Ticket
from backendkit.cache.scope import Scope
from backendkit.cache.source import Found, Job, give_back, hold, peeked, run
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.flights import Flight, interrupted
from backendkit.core.outcome import Error, Outcome, Value

Loader = Callable[[list[str]], Any]
"""What the caller gives: keys in, a mapping out, which is to be awaited on the asynchronous face."""

Outcomes = dict[str, Outcome[Record]]


class Want(NamedTuple):
    """One key of a call: what the first tier has, and which entry of the second is not wanted any more."""

    call: Call
    old: Record | None
    refused: int


async def get_or_load_many(
    io: CacheIO, core: Core, calls: Sequence[Call], loader: Loader
) -> list[Any]:
    """Return the values of calls, in order; `MISSING` for what the loader does not bring."""
    wanted = {call.key: call for call in calls}
    found, missing, due = _look(core, wanted)
    if due:
        io.spawn(partial(io.share, object(), partial(_lead, io, core, due, loader)))
    if missing:
        for want in missing:
            refuse_nested(core, want.call.key)
    read = await look_many_first(io, core, [want.call for want in missing])
    missing = [
        want._replace(refused=BLIND) if want.call.key in read.failed else want
        for want in missing
        if want.call.key not in read.found
    ]
    if missing:
        outcome = await _bounded(io, core, missing, loader)
        if outcome is None:
            count(core, found | {want.call.key: None for want in missing})
            raise LoadTimeout("the loader of many has not returned in time; it goes on behind")
        found |= outcome.unwrap()
    count(core, found)
    values = _values(core, calls, found, read)
    if any(value is UNGIVEN for value in values):
        return await _afresh(io, core, calls, values, loader)
    return values


def _values(core: Core, calls: Sequence[Call], found: Outcomes, read: Read) -> list[Any]:
    """Return a value for each call. The one that a look has brought is for one place; a key that stands again gets another."""
    looked = read.found
    given: dict[str, Any] = {key: value for key, (_, value) in looked.items()}
    values: list[Any] = []
    for call in calls:
        key = call.key
        if key in given:
            values.append(given.pop(key))
        else:
            record = looked[key][0] if key in looked else found[key].unwrap()
            values.append(core.given(key, record))
    return values


def _look(core: Core, wanted: Mapping[str, Call]) -> tuple[Outcomes, list[Want], list[Want]]:
    """Return what the first tier serves, what is missing there, and what is to be refreshed behind."""
    found: Outcomes = {}
    missing: list[Want] = []
    due: list[Want] = []
    now = core.local.now()
    for key, call in wanted.items():
        record = peeked(core, key)
        how, refused = (None, None) if record is None else at_once(core, call, record, now)
        if record is None or how is None:
            missing.append(Want(call, record, 0))
            continue
        found[key] = Found(record, how)
        if refused is not None and key not in core.local.flights:
            due.append(Want(call, record, refused))
    return found, missing, due


async def _bounded(
    io: CacheIO, core: Core, wants: Sequence[Want], loader: Loader
) -> Outcome[Outcomes] | None:
    """Load what is missing, for as long as the policy lets its callers wait."""
    local, policy = core.local, wants[0].call.policy
    load = partial(_lead, io, core, wants, loader)
    # Nobody shares this flight: it has a task of its own, which its first caller's cancellation does not end.
    if policy.soft_us is None and policy.hard_us is None:
        return await shared(io, object(), load)
    tickets = [(want, local.board(want.call.key)) for want in wants]
    try:
        return await bounded(io, policy, object(), load, partial(_spare, core, tickets))
    finally:
        for want, ticket in tickets:
            local.land(want.call.key, ticket)


def _spare(core: Core, tickets: Sequence[tuple[Want, Ticket]]) -> Outcome[Outcomes] | None:
    """Return what may serve those who wait no longer, if that is so for every key."""
    found: Outcomes = {}
    for want, ticket in tickets:
        spare = spare_found(core, want.call.key, ticket, want.old)
        if spare is None:
            return None
        found[want.call.key] = spare
    return Value(found)


async def _afresh(
    io: CacheIO, core: Core, calls: Sequence[Call], values: list[Any], loader: Loader
) -> list[Any]:
    """Load what cannot be kept so that it comes back, for this caller alone."""
    lost = list(dict.fromkeys(
        call.key for call, value in zip(calls, values, strict=True) if value is UNGIVEN
    ))  # fmt: skip
    with Load(core, lost, calls[0].tags, {}):
        outcome = await io.call(partial(loader, list(lost)))
    brought = _mapping(lost, outcome.unwrap())
    return [
        brought.get(call.key, MISSING) if value is UNGIVEN else value
        for call, value in zip(calls, values, strict=True)
    ]


async def _lead(
    io: CacheIO, core: Core, wants: Sequence[Want], loader: Loader
) -> Outcome[Outcomes]:
    """Load what nobody else loads, then wait for the rest; what does not come from there is loaded after all."""
    flights = core.local.flights
    for want in wants:
        core.local.part(want.call.key)
    flown = [(want, *flights.board(want.call.key)) for want in wants]
    found: Outcomes = {}
    try:
        led = [want for want, _, leads in flown if leads]
        if led:
            found = await _under_tickets(io, core, led, loader)
    finally:
        for want, flight, leads in flown:
            if leads:
                key = want.call.key
                flights.land(key, flight, found.get(key, interrupted()))
    others = [(want, flight) for want, flight, leads in flown if not leads]
    rest = await _landed(io, core, others, found) if others else []
    if rest:
        found |= await _under_tickets(io, core, rest, loader)
    return Value(found)


async def _landed(
    io: CacheIO, core: Core, others: Sequence[tuple[Want, Flight]], found: Outcomes
) -> list[Want]:
    """Wait for what others lead; return what does not come from there."""
    rest: list[Want] = []
    due = core.local.now() + core.local.flights.longest_wait
    for want, flight in others:
        left = max(due - core.local.now(), 0)
        outcome = await io.land(want.call.key, flight, left)
        if outcome is None or was_interrupted(outcome):
            rest.append(want)
        else:
            found[want.call.key] = outcome
    return rest


async def _under_tickets(
    io: CacheIO, core: Core, wants: Sequence[Want], loader: Loader
) -> Outcomes:
    local = core.local
    tickets = [(want, local.board(want.call.key)) for want in wants]
    try:
        found: Outcomes = {}
        searches: list[Search] = []
        for (want, ticket), token in zip(tickets, core.draws(len(tickets)), strict=True):
            there, old = boarded(core, want.call.key, want.old)
            if there is not None:
                found[want.call.key] = there
            else:
                searches.append(Search(want.call, ticket, old, want.refused, token))
        if searches:
            found |= await _search(io, core, searches, loader)
        return found
    finally:
        for want, ticket in tickets:
            local.land(want.call.key, ticket)


class _Round:
    """What one batch of answers has brought."""

    __slots__ = ("again", "behind", "busy", "found", "jobs", "wait_us")

    def __init__(self, jobs: list[Job]) -> None:
        self.found: Outcomes = {}
        self.jobs = jobs
        self.behind: list[Job] = []
        self.again: list[Search] = []
        self.busy: list[Search] = []
        self.wait_us: list[int] = []


async def _search(io: CacheIO, core: Core, searches: Sequence[Search], loader: Loader) -> Outcomes:
    """Ask the second tier, load what it grants, and wait for what others load, in as many rounds as that takes."""
    local, tags = core.local, searches[0].call.tags
    if core.alone:
        scope = local.invent(tags, core.draw, read=True)
        return await _load(io, core, [each.job(scope, None, each.old) for each in searches], loader)
    core.upkeep.start()
    due = local.now() + searches[0].call.policy.wait_us / SECOND_US
    found: Outcomes = {}
    jobs: list[Job] = []
    left = list(searches)
    try:
        while left or jobs:
            turn = _Round(jobs)
            await _ask(io, core, left, due, turn)
            found |= turn.found
            _load_behind(io, core, turn.behind, jobs, loader)
            left = turn.again + turn.busy
            if turn.again:
                continue
            heard = [listens(core, search) for search in turn.busy]
            if jobs:
                loaded, jobs = jobs, []
                found |= await _load(io, core, loaded, loader)
            elif turn.busy and all(heard):
                await _listen(io, core, turn, due)
    finally:
        await _let_go(io, core, jobs)
        for search in searches:
            hang_up(core, search)
    return found


async def _let_go(io: CacheIO, core: Core, jobs: Sequence[Job]) -> None:
    """Give back what was granted and will not be loaded."""
    for job in jobs:
        core.upkeep.let_go(job.lease or b"")
    if jobs:
        await give_back(io, core, jobs)


async def _listen(io: CacheIO, core: Core, turn: _Round, due: float) -> None:
    """Wait until all is told of, a lease is over, or it is `due`."""
    left = int((due - core.local.now()) * SECOND_US)
    bells = [search.bell for search in turn.busy if search.bell is not None]
    await io.listen(bells, min(max(min(turn.wait_us), _LEAST_WAIT_US), left))
    for search in turn.busy:
        hang_up(core, search)
        listens(core, search)


def _load_behind(
    io: CacheIO, core: Core, behind: list[Job], jobs: list[Job], loader: Loader
) -> None:
    """Have loaded behind what serves stale meanwhile; among `jobs`, where there is no room."""
    if not behind:
        return
    for job in behind:
        core.local.board(job.call.key)  # the same ticket once more: it outlives this flight

    async def load() -> None:
        try:
            await _load(io, core, behind, loader)
        finally:
            land()

    def land() -> None:
        for job in behind:
            core.local.land(job.call.key, job.ticket)

    if not io.spawn(load):
        land()
        jobs += behind


async def _ask(io: CacheIO, core: Core, left: Sequence[Search], due: float, turn: _Round) -> None:
    """Read or lease in one batch, and sort what is answered."""
    local, tags = core.local, left[0].call.tags
    # Of what an invalidation waits for, the second tier may still have the old.
    asked = [each for each in left if each.refusals < TRIES and core.upkeep.trusts(each.call.key)]
    scope = await scope_of(io, core, tags) if asked else None
    if scope is None:
        asked, scope = [], local.invent(tags, core.draw, read=False)
    trusted = set(asked)
    turn.jobs += [each.job(scope, None, each.old) for each in left if each not in trusted]
    began = local.now()
    operations = [asking(core, search, scope) for search in asked]
    outcomes = await carried(io, operations) if operations else []
    for outcome in outcomes:
        if isinstance(outcome, Error):
            missed(core, outcome)
    answers = [outcome.value for outcome in outcomes if not isinstance(outcome, Error)]
    if answers and not core.looks.pays_for_many:
        core.looks.note(sum(answer.outcome == HIT for answer in answers), len(answers))
    scopes = await scopes_of(io, core, answers)
    may_wait = local.now() < due and io.may_wait()
    for search, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, Error):
            turn.jobs.append(search.job(scope, None, search.old))
            continue
        answer = outcome.value
        of_entry = scopes.get(answer.tags) if answer.entry is not None else None
        record = None if of_entry is None else core.thawed(search.call, answer, began, of_entry)
        _sort(core, search, (scope, answer, record), turn, may_wait=may_wait)


def _sort(
    core: Core,
    search: Search,
    found: tuple[Scope, Answer, Record | None],
    turn: _Round,
    *,
    may_wait: bool,
) -> None:
    scope, answer, record = found
    call = search.call
    if answer.outcome == HIT:
        there = hit(core, search, answer, record)
        if there is None:
            turn.again.append(search)
        else:
            turn.found[call.key] = there
        return
    stale = stale_of(core, search, record)
    serves = stale is not None and revalidates(core, call, stale)
    if stale is not None and serves:
        turn.found[call.key] = Found(stale, "revalidating")
    if answer.outcome == LEASED:
        job = search.job(scope, search.token, stale)
        hold(core, job)
        (turn.behind if serves else turn.jobs).append(job)
    elif not serves and may_wait:
        turn.busy.append(search)
        turn.wait_us.append(answer.busy_us)
    elif not serves:
        # Whoever holds the lease hangs, or cannot go on while we wait: load, and store nothing.
        turn.jobs.append(search.job(scope, b"", stale))


async def _load(io: CacheIO, core: Core, jobs: Sequence[Job], loader: Loader) -> Outcomes:
    """Call the loader once for all."""
    keys = [job.call.key for job in jobs]
    return await run(io, core, jobs, partial(loader, list(keys)), partial(_mapping, keys))


def _mapping(keys: Sequence[str], brought: Any) -> dict[str, Any]:
    """Return what was asked for of what a loader has brought."""
    if not isinstance(brought, Mapping):
        raise InvalidArgument("loader", "must return a mapping", cast("object", brought))
    values = cast("Mapping[str, Any]", brought)
    return {key: values[key] for key in keys if key in values}


_LEAST_WAIT_US = 50_000
"""A lease that ends sooner is waited for this long, so that many which end one after another do not mean as many rounds."""
