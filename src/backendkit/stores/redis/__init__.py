"""The Redis store: single server, Sentinel and Cluster, synchronous and asynchronous.

It owns its hot path: operations are packed once into bytes and travel over connections of its own, leased for
callers that block and pipelined for callers that await. redis-py makes the connections, authenticates, encrypts
and parses. Only this folder and `connect` import it.
"""

from __future__ import annotations

from backendkit.stores.redis.address import Address
from backendkit.stores.redis.aio import AsyncRedisStore
from backendkit.stores.redis.cluster import Cluster
from backendkit.stores.redis.dial import Dial, Tls
from backendkit.stores.redis.sentinel import SentinelMaster
from backendkit.stores.redis.store import RedisStore
from backendkit.stores.redis.topology import Single, Topology

__all__ = [
    "Address",
    "AsyncRedisStore",
    "Cluster",
    "Dial",
    "RedisStore",
    "SentinelMaster",
    "Single",
    "Tls",
    "Topology",
]
