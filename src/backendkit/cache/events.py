"""What the cache tells. No value is in it."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core.events import Event


@dataclass(frozen=True, slots=True)
class Loaded(Event):
    """A loader has returned after `took_us` microseconds; `stored` tells whether others will find the value."""

    key: str
    took_us: int
    stored: bool


@dataclass(frozen=True, slots=True)
class LoadFailed(Event):
    """A loader has raised; `stale_served` tells whether callers got what was stale instead."""

    key: str
    error: str
    stale_served: bool


@dataclass(frozen=True, slots=True)
class StaleServed(Event):
    """A caller got what was stale, each is told of; `reason` is `error`, `timeout` or `revalidating`."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class FenceRefused(Event):
    """A loaded value was not stored: it was invalidated meanwhile, or its lease has ended."""

    key: str


@dataclass(frozen=True, slots=True)
class NotStored(Event):
    """A value could not be encoded, or a stored one not be read; callers got theirs all the same."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class NotWritten(Event):
    """Values of a `WriteBehind` did not reach their source; `handed_over` tells whether `dead_letter` took them."""

    keys: tuple[str, ...]
    error: str
    handed_over: bool


@dataclass(frozen=True, slots=True)
class ChannelUp(Event):
    """This process hears of invalidations (again); its first tier was emptied."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeasesEvicted(Event):
    """A server is set to drop first what expires soonest: leases, of all keys. Loads are then repeated when it is full.

    To fix it: `CONFIG SET maxmemory-policy allkeys-lru`, or another but `volatile-ttl`.
    """

    server: str
    policy: str


@dataclass(frozen=True, slots=True)
class ChannelLost(Event):
    """This process hears no invalidations, or never did: its first tier counts for `max_l1_staleness` only. Told once."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replayed(Event):
    """Another server answers than before: `count` recent invalidations of this process were repeated there."""

    count: int


@dataclass(frozen=True, slots=True)
class UpkeepFailed(Event):
    """The thread that keeps the cache in step met an error that nobody foresaw; it goes on, and trusts nothing it may have missed."""

    error: str
