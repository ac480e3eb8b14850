"""Reading without loading, setting, invalidating: the cache's shorter flows; both faces run them.

What removes something does so in the second tier first, then here, and only then returns: the other way round, a
reader between the two would bring back what is being removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from backendkit.cache.asks import carried, scope_of
from backendkit.cache.core import Brought, Call, Core, Packed
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.tier import Keys, Post
from backendkit.cache.io import CacheIO
from backendkit.cache.names import CLEAR, DROP, SOFTEN, TAGS
from backendkit.cache.record import Record
from backendkit.cache.scope import Scope
from backendkit.core.errors import NotReplicated, StoreError, StoreUnavailable
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value

R = TypeVar("R")

Making = Callable[[Keys, Post], Operation[bool]]


def fresh(core: Core, key: str) -> Record | None:
    """Return the first tier's record if it serves as it is."""
    record = core.local.l1.peek(key)
    if not isinstance(record, Record):
        return None
    now = core.local.now()
    if now < record.fresh and core.local.trusts(record, now) and core.local.lives(record):
        return record
    return None


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
            record.named(outcome.value)
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
    about = [call.key for call in calls]
    outcomes = await _carried_here(io, operations, about, core, core.local.drop)
    for operation, outcome in zip(operations, outcomes, strict=True):
        if not isinstance(outcome, Error):
            # Lost by a failover, it is not set again, for others may have set another since: what it replaced is removed.
            entry, lease = operation.keys
            post = core.names.channel, _message(operation)
            core.upkeep.note(tier.invalidate((entry, lease), post))
    return outcomes


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
    operations = [_copied(core, make(names.keys(key), names.post(kind, key))) for key in keys]
    outcomes = await _carried_here(io, operations, keys, core, here)
    failures: list[Error] = []
    for key, operation, outcome in zip(keys, operations, outcomes, strict=True):
        if isinstance(outcome, Error) and not _queued(core, key, operation, outcome.error):
            failures.append(outcome)
        elif not isinstance(outcome, Error):
            core.upkeep.note(operation)
        here(key)
    if failures:
        failures[0].unwrap()


def _queued(core: Core, key: str, operation: Operation[Any], error: BaseException) -> bool:
    """Keep a removal that has failed for later, where that is wished; tell whether."""
    if isinstance(error, NotReplicated):
        core.upkeep.note(operation)  # it has run, and a failover now may lose it
        return False
    if core.coherence.on_unreachable != "queue" or not isinstance(error, StoreError):
        return False
    core.upkeep.queue([key], operation)
    return True


def _copied(core: Core, operation: Operation[bool]) -> Operation[bool]:
    """Have a removal wait for replicas, where that is wished."""
    operation.copies = core.coherence.copies
    return operation


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
        await io.run(_copied(core, operation))
        core.upkeep.note(operation)
    except NotReplicated:
        core.upkeep.note(operation)
        raise
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
