"""The threads behind callers that block: all caches of a Redis store share them, and no more than so many run."""

from __future__ import annotations

import threading

from backendkit.cache.behind import MOST_THREADS
from backendkit.cache.codecs import JsonCodec
from backendkit.cache.face import Cache
from backendkit.stores import MemoryStore, connect
from tests.ground.single import Single
from tests.ground.waiting import eventually


def test_caches_of_a_store_share_their_threads(redis_single: Single) -> None:
    """What one has running behind its callers leaves no room for another's, until it ends."""
    stores = [connect(redis_single.url, timeout=2) for _ in range(2)]
    one, two = (Cache(stores[0], namespace=name, codec=JsonCodec()) for name in "ab")
    other = Cache(stores[1], namespace="a", codec=JsonCodec())
    gate = threading.Event()
    for _ in range(MOST_THREADS):
        assert one._io._behind.run(gate.wait)
    assert not two._io._behind.run(gate.wait)
    assert other._io._behind.run(gate.wait)
    gate.set()
    eventually(lambda: two._io._behind.run(gate.wait), "there is room again")
    for cache in (one, two, other):
        cache.close()
    for store in stores:
        store.close()


def test_caches_of_one_tier_have_each_their_own() -> None:
    """There is no thread of the store's that they could share."""
    store = MemoryStore()
    assert Cache(store)._io._behind is not Cache(store)._io._behind
