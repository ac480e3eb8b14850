"""Replaying requests through a limiter, in their own time: who would have been limited, when, and how much."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from backendkit.cli.access_log import Entry
from backendkit.core.clock import ManualClock
from backendkit.ratelimit import Limit, RateLimiter
from backendkit.stores import MemoryStore

BINS = 120
"""Bars of the plot."""


@dataclass(slots=True)
class Client:
    """One subject's lot.

    Attributes:
        requests: how many it made.
        denied: how many of them would have been denied.
        first_us: when the first of those came; 0: none did.
    """

    requests: int = 0
    denied: int = 0
    first_us: int = 0


@dataclass(slots=True)
class Outcome:
    """What a simulation found.

    Attributes:
        clients: by subject.
        begin_us: the first request.
        end_us: the last.
        admitted_by_bin: per slice of the time between.
        denied_by_bin: the same.
        denied_by_limit: by the limit's name.
    """

    clients: dict[str, Client] = field(default_factory=dict[str, Client])
    begin_us: int = 0
    end_us: int = 0
    admitted_by_bin: list[int] = field(default_factory=lambda: [0] * BINS)
    denied_by_bin: list[int] = field(default_factory=lambda: [0] * BINS)
    denied_by_limit: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(client.requests for client in self.clients.values())

    @property
    def denied(self) -> int:
        """Those that would have been denied."""
        return sum(client.denied for client in self.clients.values())

    @property
    def limited(self) -> list[tuple[str, Client]]:
        """Who would have been limited, the most limited first."""
        found = [(name, client) for name, client in self.clients.items() if client.denied]
        return sorted(found, key=lambda each: (-each[1].denied, each[0]))


def simulate(
    entries: Iterable[Entry],
    limits: tuple[Limit, ...],
    key: Callable[[Entry], str],
    progress: Callable[[int, int], None],
) -> Outcome:
    """Play requests in the order of their times; the limiter's clock shows each one's time.

    Args:
        entries: in any order.
        limits: what to try.
        key: whom a request counts for.
        progress: told how many of how many are done.
    """
    ordered = sorted(entries, key=lambda entry: entry.at_us)
    outcome = Outcome()
    if not ordered:
        return outcome
    outcome.begin_us, outcome.end_us = ordered[0].at_us, ordered[-1].at_us
    clock = ManualClock(wall_us=outcome.begin_us)
    store = MemoryStore(clock=clock, max_entries=10**9, max_bytes=1 << 40)
    limiter = RateLimiter(store, limits, deny_cache_max=0)
    span = max(1, outcome.end_us - outcome.begin_us)
    for done, entry in enumerate(ordered, 1):
        clock.advance(entry.at_us - clock.wall_us())
        subject = key(entry)
        decision = limiter.hit(subject)
        client = outcome.clients.setdefault(subject, Client())
        client.requests += 1
        place = min(BINS - 1, (entry.at_us - outcome.begin_us) * BINS // span)
        if decision.allowed:
            outcome.admitted_by_bin[place] += 1
        else:
            outcome.denied_by_bin[place] += 1
            client.denied += 1
            client.first_us = client.first_us or entry.at_us
            name = decision.limit.name
            outcome.denied_by_limit[name] = outcome.denied_by_limit.get(name, 0) + 1
        progress(done, len(ordered))
    return outcome
