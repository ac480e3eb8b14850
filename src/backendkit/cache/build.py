"""Puts the parts of a cache together, whichever face was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypedDict

from backendkit.cache.codecs import Codec
from backendkit.cache.core import Core
from backendkit.cache.l1 import L1
from backendkit.cache.local import Local
from backendkit.cache.names import Names
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.cache.stats import Counts
from backendkit.cache.upkeep import IDLE, upkeep_of
from backendkit.cache.wire import Wire, wire_of
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.look import gathering
from backendkit.core.store import Store
from backendkit.stores.guarded import Guarded
from backendkit.stores.memory import MemoryStore


class CacheOptions(TypedDict, total=False):
    """What a cache takes beside its store; see `Cache`."""

    namespace: str
    l1: L1 | None
    codec: Codec | Wire | None
    policy: CachePolicy | None
    coherence: Coherence | None
    hooks: Hooks | None
    chance: Callable[[], float] | None


def core_of(store: Store, options: CacheOptions) -> Core:
    """Return the parts of a cache; see `Cache`."""
    alone = isinstance(store.store if isinstance(store, Guarded) else store, MemoryStore)
    codec = options.get("codec")
    if codec is None and not alone:
        raise InvalidArgument("codec", "is needed for a second tier", None, "codec=JsonCodec()")
    coherence = options.get("coherence") or Coherence()
    staleness = float("inf") if alone else coherence.staleness_us / SECOND_US
    # Not `or`, here and below: an empty first tier is false, and so are hooks without a listener.
    l1, hooks = options.get("l1"), options.get("hooks")
    tier = L1(clock=store.clock) if l1 is None else l1
    core = Core(
        local=Local(tier, Flights(), store.clock, staleness),
        names=Names(options.get("namespace", "bk")),
        wire=None if alone or codec is None else wire_of(codec),
        policy=options.get("policy") or CachePolicy(),
        coherence=coherence,
        hooks=Hooks() if hooks is None else hooks,
        counts=Counts(),
        upkeep=IDLE,
        alone=alone,
        chance=options.get("chance") or _chance,
        together=gathering(store),
    )
    if not alone:
        tier.trusted_until = 0.0  # until a heartbeat has come back
        core.upkeep = upkeep_of(core, store)
    return core


def _chance() -> float:
    return int.from_bytes(os.urandom(6), "big") / 2**48
