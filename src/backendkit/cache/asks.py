"""What flows ask of the second tier: operations whose failure hurts no reader, and the versions of now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from backendkit.cache.core import Core
from backendkit.cache.decide import versions
from backendkit.cache.decide.tier import Answer
from backendkit.cache.io import CacheIO
from backendkit.cache.scope import Scope
from backendkit.core.errors import StoreError
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome, Value

R = TypeVar("R")


async def ask(io: CacheIO, core: Core, operation: Operation[R]) -> R | None:
    """Carry out an operation; None where the second tier fails, unless that shall be raised."""
    try:
        return await io.run(operation)
    except StoreError:
        core.counts.add("errors")
        if core.coherence.strict:
            raise
        return None


async def ask_many(io: CacheIO, core: Core, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Carry out operations in one batch; None as above."""
    answers: list[Any] = []
    for outcome in await carried(io, operations) if operations else ():
        if isinstance(outcome, Error):
            missed(core, outcome)
            answers.append(None)
        else:
            answers.append(outcome.value)
    return answers


async def carried(io: CacheIO, operations: Sequence[Operation[R]]) -> list[Outcome[R]]:
    """Carry out operations; one alone goes the short way."""
    if len(operations) != 1:
        return await io.run_many(operations)
    try:
        return [Value(await io.run(operations[0]))]
    except StoreError as error:
        return [Error(error)]


def missed(core: Core, outcome: Error) -> None:
    """Count a failure of the second tier, or raise it where it is not that, or shall be seen."""
    if core.coherence.strict or not isinstance(outcome.error, StoreError):
        outcome.unwrap()
    core.counts.add("errors")


async def scope_of(io: CacheIO, core: Core, tags: Sequence[str]) -> Scope | None:
    """Return the versions of now, asking for those that this process does not know; None: nobody answers."""
    local, names = core.local, core.names
    for _ in range(_TRIES):
        known = local.known(tags)
        if known is not None:
            return known
        mark, began = local.mark(), local.now()
        try:
            keys = names.versions(tags)
            tokens = await ask(io, core, versions.look(keys, core.draws(len(keys))))
            if tokens is None:
                return None
            first = (tokens[0], tokens[1])
            scope = local.learn(mark, began, first, dict(zip(tags, tokens[2:], strict=True)))
        finally:
            local.unmark(mark)
        if scope is not None:
            return scope
    return None


async def scopes_of(
    io: CacheIO, core: Core, answers: Iterable[Answer]
) -> dict[tuple[str, ...], Scope | None]:
    """Return the versions of now of what was read, by its tags; all of them are asked for at once."""
    kinds = {answer.tags for answer in answers if answer.entry is not None}
    every = tuple(dict.fromkeys(tag for tags in kinds for tag in tags))
    scope = await scope_of(io, core, every)
    return {tags: None if scope is None else _part(scope, tags) for tags in kinds}


def _part(scope: Scope, tags: tuple[str, ...]) -> Scope:
    """Return the scope of fewer tags: what has them dies with them alone."""
    return Scope(scope.namespace, scope.epoch, {tag: scope.tags[tag] for tag in tags})


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


_TRIES = 3
"""How often versions are read again, because one was replaced meanwhile."""
