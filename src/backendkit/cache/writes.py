"""Reading without loading, setting, invalidating: the cache's shorter flows; both faces run them.

What removes something does so in the second tier first, then here, and only then returns: the other way round, a
reader between the two would bring back what is being removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from backendkit.cache.asks import carried, missed, scope_of, scopes_of
from backendkit.cache.core import (
    CLEAR,
    DROP,
    SOFTEN,
    TAGS,
    UNGIVEN,
    Brought,
    Call,
    Core,
    Packed,
)
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.tier import HIT, Answer, Keys, Post
from backendkit.cache.io import CacheIO
from backendkit.cache.loading import MISSING
from backendkit.cache.local import Record, Ticket
from backendkit.cache.scope import Scope
from backendkit.core.errors import StoreError, StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value

R = TypeVar("R")

Making = Callable[[Keys, Post], Operation[bool]]


async def get_many(io: CacheIO, core: Core, calls: Sequence[Call]) -> dict[str, Any]:
    """Return what both tiers have fresh; one batch for all that the first has not."""
    found: dict[str, Any] = {}
    missing: list[Call] = []
    for call in {call.key: call for call in calls}.values():
        record = fresh(core, call.key)
        if record is not None:
            value = core.given(call.key, record)
            if value is not UNGIVEN:
                found[call.key] = value
                continue
        missing.append(call)
    core.counts.add("l1_hits", len(found))
    if missing and not core.alone:
        found |= await _read_many(io, core, missing)
    keys = {call.key for call in calls}
    core.counts.add("misses", len(keys) - len(found))
    return {call.key: found.get(call.key, MISSING) for call in calls}


def fresh(core: Core, key: str) -> Record | None:
    """Return the first tier's record if it serves as it is."""
    record = core.local.l1.peek(key)
    if not isinstance(record, Record):
        return None
    now = core.local.now()
    if now < record.fresh and core.local.trusts(record, now) and core.local.lives(record):
        return record
    return None


async def _read_many(io: CacheIO, core: Core, calls: Sequence[Call]) -> dict[str, Any]:
    core.upkeep.start()
    local = core.local
    trusted = [call for call in calls if core.upkeep.trusts(call.key)]
    tickets = [local.board(call.key) for call in trusted]
    try:
        scope = await scope_of(io, core, ())
        if scope is None:
            return {}
        began = local.now()
        outcomes = await carried(
            io, [tier.read(core.names.keys(call.key), scope.namespace.token) for call in trusted]
        )
        found = await _read(io, core, zip(trusted, tickets, outcomes, strict=True), began)
        core.counts.add("l2_hits", len(found))
        return found
    finally:
        for call, ticket in zip(trusted, tickets, strict=True):
            local.land(call.key, ticket)


async def _read(
    io: CacheIO, core: Core, asked: Iterable[tuple[Call, Ticket, Outcome[Answer]]], began: float
) -> dict[str, Any]:
    """Keep and return the values of what was answered."""
    hits: list[tuple[Call, Ticket, Answer]] = []
    for call, ticket, outcome in asked:
        if isinstance(outcome, Error):
            missed(core, outcome)
        elif outcome.value.outcome == HIT:
            hits.append((call, ticket, outcome.value))
    scopes = await scopes_of(io, core, [answer for _, _, answer in hits])
    found: dict[str, Any] = {}
    for call, ticket, answer in hits:
        scope = scopes[answer.tags]
        record = None if scope is None else core.thawed(call, answer, began, scope)
        if record is not None:
            core.local.fill(call.key, ticket, record)
            value = core.given(call.key, record)
            if value is not UNGIVEN:
                found[call.key] = value
    return found


async def _carried_here(
    io: CacheIO,
    operations: Sequence[Operation[R]],
    keys: Sequence[str],
    core: Core,
    here: Callable[[str], None],
) -> list[Outcome[R]]:
    """Carry out operations; those that are given up may run, or have run, without anybody waiting for them."""
    try:
        outcomes = await carried(io, operations)
    except BaseException:
        for key, operation in zip(keys, operations, strict=True):
            core.names.give_up(_message(operation))
            here(key)
        raise
    for operation, outcome in zip(operations, outcomes, strict=True):
        if isinstance(outcome, Error):
            core.names.give_up(_message(operation))
    return outcomes


def _message(operation: Operation[Any]) -> bytes:
    return operation.args[-1]  # type: ignore[return-value] # of whatever publishes it is the last


async def set_many(io: CacheIO, core: Core, values: Sequence[tuple[Call, Any]]) -> None:
    """Store values in both tiers, whatever is there; one batch.

    Raises:
        NotEncodable: the codec cannot keep a value; nothing was stored.
        StoreError: the second tier does not have them all; the first has none of those.
    """
    local = core.local
    tickets = [local.board(call.key) for call, _ in values]
    failures: list[Error] = []
    try:
        scopes = [await _scope(io, core, call.tags) for call, _ in values]
        began = local.now()
        brought = [Brought(v, core.life(call, v, None), 0, began) for call, v in values]
        calls = [call for call, _ in values]
        packed = [
            core.packed(call, each, scope, strict=True) if core.wire is not None else None
            for call, each, scope in zip(calls, brought, scopes, strict=True)
        ]
        records = [
            core.record(*each, strict=True)
            for each in zip(calls, brought, scopes, packed, strict=True)
        ]
        outcomes = await _put_many(io, core, calls, brought, packed)
        for call, ticket, record, outcome in zip(calls, tickets, records, outcomes, strict=True):
            if isinstance(outcome, Error):
                local.drop(call.key)
                failures.append(outcome)
                continue
            record.at = outcome.value
            local.replace(call.key, ticket, record)
    finally:
        for (call, _), ticket in zip(values, tickets, strict=True):
            local.land(call.key, ticket)
    if failures:
        failures[0].unwrap()


async def _put_many(
    io: CacheIO, core: Core, calls: list[Call], brought: list[Brought], packed: list[Packed | None]
) -> list[Outcome[int]]:
    if core.wire is None:
        return [Value(0)] * len(calls)
    core.upkeep.start()
    names = core.names
    operations: list[Operation[int]] = []
    for call, each, made in zip(calls, brought, packed, strict=True):
        keys, post = names.keys(call.key), names.post(DROP, call.key)
        operations.append(tier.put(keys, each.life, made.tail if made else b"", post))
    return await _carried_here(io, operations, [call.key for call in calls], core, core.local.drop)


async def invalidate(io: CacheIO, core: Core, keys: Sequence[str]) -> None:
    """Remove entries from both tiers; see `Cache.invalidate`."""
    await _remove(io, core, keys, (DROP, tier.invalidate, core.local.drop))


async def expire(io: CacheIO, core: Core, keys: Sequence[str]) -> None:
    """Make entries stale in both tiers; see `Cache.expire`."""
    await _remove(io, core, keys, (SOFTEN, tier.expire, core.local.soften))


async def _remove(
    io: CacheIO, core: Core, keys: Sequence[str], how: tuple[bytes, Making, Callable[[str], None]]
) -> None:
    kind, make, here = how
    if core.alone:
        for key in keys:
            here(key)
        return
    core.upkeep.start()
    names = core.names
    operations = [make(names.keys(key), names.post(kind, key)) for key in keys]
    outcomes = await _carried_here(io, operations, keys, core, here)
    failures: list[Error] = []
    for key, operation, outcome in zip(keys, operations, outcomes, strict=True):
        if not isinstance(outcome, Error):
            core.upkeep.note(operation)
        elif core.coherence.on_unreachable == "queue" and isinstance(outcome.error, StoreError):
            core.upkeep.queue([key], operation)
        else:
            failures.append(outcome)
        here(key)
    if failures:
        failures[0].unwrap()


async def invalidate_tags(io: CacheIO, core: Core, tags: tuple[str, ...]) -> None:
    """Replace the versions of tags; see `Cache.invalidate_tags`."""
    keys = core.names.versions(tags)[1:]
    operation = versions.bump(
        keys, [core.draw() for _ in keys], core.names.post(TAGS, "\0".join(tags))
    )
    await _bump(io, core, operation, lambda: core.local.kill(tags))


async def clear(io: CacheIO, core: Core) -> None:
    """Replace the namespace's version; see `Cache.clear`."""
    keys = core.names.versions(())[:1]
    operation = versions.bump(keys, [core.draw()], core.names.post(CLEAR, ""))
    await _bump(io, core, operation, core.local.clear)


async def _bump(
    io: CacheIO, core: Core, operation: Operation[bool], here: Callable[[], None]
) -> None:
    if core.alone:
        here()
        return
    core.upkeep.start()
    try:
        await io.run(operation)
        core.upkeep.note(operation)
    except BaseException as error:
        core.names.give_up(_message(operation))
        if not isinstance(error, StoreError) or core.coherence.on_unreachable != "queue":
            raise
        core.upkeep.queue([], operation)
    finally:
        here()


async def _scope(io: CacheIO, core: Core, tags: Iterable[str]) -> Scope:
    wanted = tuple(tags)
    if core.alone:
        return core.local.invent(wanted, core.draw, read=True)
    scope = await scope_of(io, core, wanted)
    if scope is None:
        raise StoreUnavailable("the versions of the namespace could not be read")
    return scope
