"""A load's fence in the caller's own hand: `cache.lease(key)`, and `cache.set(key, value, lease=lease)`.

A plain `set` stores what it is given, though it may have been read before an invalidation. Under a lease that was taken
before the reading it is stored only if nothing has removed the key since: the same token, scripts and tickets as a load's.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from backendkit.cache.asks import carried, late_scope, missed, scope_of
from backendkit.cache.core import Brought, Call, Core
from backendkit.cache.decide import tier
from backendkit.cache.decide.tier import LEASED
from backendkit.cache.io import CacheIO
from backendkit.cache.names import DROP
from backendkit.cache.record import Ticket
from backendkit.cache.scope import Scope
from backendkit.core.errors import InvalidArgument
from backendkit.core.outcome import Error


class Lease:
    """The right to store one value, until the key is removed, set, or loaded by somebody else.

    `Cache.lease` takes it. It is renewed for as long as this object lives and is neither used nor ended; what loads the
    key meanwhile waits, in every process. As a context manager it ends with its block.

    Attributes:
        key: whose.
        granted: False: somebody else loads the key, or the second tier could not be asked: nothing will be stored.
    """

    __slots__ = ("began", "core", "granted", "held", "key", "scope", "ticket", "token")

    def __init__(self, core: Core, key: str, ticket: Ticket) -> None:
        self.key = key
        self.granted = False
        self.core = core
        self.ticket = ticket
        self.held = True
        self.token = b""
        self.scope: Scope | None = None
        self.began = core.local.now()

    def end(self) -> None:
        """Use it no more. Who waits for the key goes on within `Coherence.lease`."""
        held, self.held = self.held, False
        if held:
            self.core.upkeep.let_go(self.token)
            self.core.local.land(self.key, self.ticket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def __del__(self) -> None:
        # May run while this very thread holds the lock that landing takes.
        if self.held:
            self.core.upkeep.let_go(self.token)
            self.core.lost.append((self.key, self.ticket))

    def __repr__(self) -> str:
        return f"Lease(granted={self.granted})"


async def take(io: CacheIO, core: Core, key: str) -> Lease:
    """Take a lease, before the source is read; see `Cache.lease`."""
    local = core.local
    with suppress(IndexError):  # of several threads, one has the last
        while True:
            local.land(*core.lost.popleft())
    lease = Lease(core, key, local.board(key))
    try:
        if core.alone:
            lease.scope = local.invent((), core.draw, read=True)
            lease.granted = True
        else:
            await _ask(io, core, lease)
    except BaseException:
        lease.end()
        raise
    return lease


async def _ask(io: CacheIO, core: Core, lease: Lease) -> None:
    core.upkeep.start()
    scope = await scope_of(io, core, ())
    if scope is None:
        return
    keys, lease_us = core.names.keys(lease.key), core.coherence.lease_us
    token, other, nobody = core.draw(), core.draw(), core.draw()
    # For a namespace that is nobody's the script sees no entry, so that the lease is granted over a fresh one. Whoever asks
    # after it marks it as waited for: then storing is told to all, who may have the older value in their first tier.
    answers = await io.run_many(
        [
            tier.read_or_lease(keys, token, lease_us, nobody),
            tier.read_or_lease(keys, other, lease_us, nobody),
        ]
    )
    granted, marked = answers
    if isinstance(granted, Error):
        missed(core, granted)
    elif isinstance(marked, Error):
        missed(core, marked)  # nobody would be told of what is stored
    elif granted.value.outcome == LEASED:
        core.upkeep.hold(token, keys)
        lease.token, lease.scope, lease.granted = token, scope, True


async def put(io: CacheIO, core: Core, call: Call, value: Any, lease: Lease) -> bool:
    """Store a value if its lease still stands, and end that; see `Cache.set`."""
    if lease.core is not core or lease.key != call.key:
        raise InvalidArgument("lease", "must have been taken for this key of this cache", lease.key)
    try:
        stored = await _put(io, core, call, value, lease)
    except BaseException:
        core.local.drop(call.key)  # nobody knows which of the two is there
        raise
    finally:
        lease.end()
    if not stored:
        core.counts.add("refused")
    return stored


async def _put(io: CacheIO, core: Core, call: Call, value: Any, lease: Lease) -> bool:
    scope, ticket = lease.scope, lease.ticket
    if scope is not None and call.tags:
        scope = await late_scope(io, core, scope, call.tags)
    if scope is None or not lease.held or not scope.alive:
        return False
    local, key = core.local, call.key
    brought = Brought(value, core.life(call, value, None), 0, lease.began)
    packed = core.packed(call, brought, scope, strict=True) if core.wire is not None else None
    record = core.record(call, brought, scope, packed, strict=True)
    if core.wire is None:
        return local.settle(key, ticket, record)
    keys, post = core.names.keys(key), core.names.post(DROP, key)
    tail = packed.tail if packed else b""
    try:
        (outcome,) = await carried(io, [tier.store(keys, lease.token, brought.life, tail, post)])
        at = outcome.unwrap()
    except BaseException:
        core.names.give_up(post[1])
        raise
    if at:
        record.named(at)
        local.replace(key, ticket, record)
        local.ring(key)
    return bool(at)
