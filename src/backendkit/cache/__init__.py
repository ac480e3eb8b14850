"""A cache of two tiers: no stale value after an invalidation, one load per fleet, no caller ever hurt.

    cache = Cache(store, namespace="shop", codec=JsonCodec())
    user = cache.get_or_load("user:42", load_user, ttl=300, tags=["users"])
    user = await cache.aio.get_or_load("user:42", aload_user, ttl=300)
    cache.invalidate("user:42")

The first tier is this process's memory, the second is Redis; with a memory store there is the first alone, with the
same meaning. What holds is written down as eight statements, M1 to M8, on the page "The cache" of the documentation.
"""

from __future__ import annotations

from backendkit.cache.codecs import Codec, JsonCodec, MsgpackCodec, PickleCodec, TypedCodec
from backendkit.cache.counters import AsyncCounters, Count, Counters
from backendkit.cache.errors import Corrupt, LoadTimeout, NestedLoad, NotEncodable
from backendkit.cache.events import (
    ChannelLost,
    ChannelUp,
    FenceRefused,
    LeasesEvicted,
    Loaded,
    LoadFailed,
    NotStored,
    NotWritten,
    Replayed,
    StaleServed,
    UpkeepFailed,
)
from backendkit.cache.face import Cache
from backendkit.cache.face_async import AsyncCache
from backendkit.cache.fence import Lease
from backendkit.cache.key_template import KeyTemplate
from backendkit.cache.l1 import L1, Entry
from backendkit.cache.loading import MISSING, NOT_MODIFIED, Load, loading
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.cache.seal import SealKeys
from backendkit.cache.stats import CacheStats
from backendkit.cache.wire import Wire, wire_of
from backendkit.cache.write_behind import AsyncWriteBehind, WriteBehind

__all__ = [
    "L1",
    "MISSING",
    "NOT_MODIFIED",
    "AsyncCache",
    "AsyncCounters",
    "AsyncWriteBehind",
    "Cache",
    "CachePolicy",
    "CacheStats",
    "ChannelLost",
    "ChannelUp",
    "Codec",
    "Coherence",
    "Corrupt",
    "Count",
    "Counters",
    "Entry",
    "FenceRefused",
    "JsonCodec",
    "KeyTemplate",
    "Lease",
    "LeasesEvicted",
    "Load",
    "LoadFailed",
    "LoadTimeout",
    "Loaded",
    "MsgpackCodec",
    "NestedLoad",
    "NotEncodable",
    "NotStored",
    "NotWritten",
    "PickleCodec",
    "Replayed",
    "SealKeys",
    "StaleServed",
    "TypedCodec",
    "UpkeepFailed",
    "Wire",
    "WriteBehind",
    "loading",
    "wire_of",
]
