"""Settings of the cache: what the kit's `cache` is made of."""

from __future__ import annotations

from pydantic import Field

from backendkit.settings.groups import Group


class CacheSettings(Group):
    """How much of the cache this process keeps, and for how long."""

    namespace: str = Field(
        default="bk",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Separates caches that share a server: 1..64 letters, digits, `.`, `_`, `-`.",
    )
    max_items: int = Field(
        default=10_000,
        ge=1,
        le=100_000_000,
        description="Entries in this process's memory, 1..100,000,000.",
    )
    max_bytes: int = Field(
        default=64 << 20,
        ge=1024,
        le=2**40,
        description="Bytes that they take, about, 1024..2**40.",
    )
    ttl: float = Field(
        default=60,
        ge=0.001,
        le=7_776_000,
        description="Seconds that an entry is fresh where no call says otherwise, 0.001..7776000.",
    )
    max_stale: float = Field(
        default=0,
        ge=0,
        le=7_776_000,
        description="Seconds after that in which it may still serve while its source is down, 0..7776000.",
    )
    max_l1_staleness: float = Field(
        default=2,
        ge=0.05,
        le=3600,
        description="Seconds after an invalidation in which another process may serve what it has, "
        "whatever happens to the network, 0.05..3600.",
    )
