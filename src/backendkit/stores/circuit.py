"""What the guard knows of a server that is down, when it takes it for one, and how it finds out that it is back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.events import Event
from backendkit.core.operation import Change, Item, Operation, Reply, Script, State


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When the guard opens and how it probes; durations are a `timedelta` or seconds.

    Attributes:
        timeouts: reply timeouts that open the guard, from 1.
        within: the time in which they must come, from 1 ms.
        first_probe: how long after opening to probe first, from 1 ms; also how often the prober looks around.
        longest_probe: what the time between probes doubles up to, from `first_probe`.
    """

    timeouts: int = 2
    within: Duration = 1.0
    first_probe: Duration = 0.05
    longest_probe: Duration = 1.0

    def __post_init__(self) -> None:
        checks.whole("timeouts", self.timeouts, least=1)
        checks.duration_us("within", self.within, least_us=1_000)
        first_us = checks.duration_us("first_probe", self.first_probe, least_us=1_000)
        checks.duration_us("longest_probe", self.longest_probe, least_us=first_us)


@dataclass(frozen=True, slots=True)
class StoreDown(Event):
    """The guard has opened: operations on `route` are answered without asking it. `reason` names no secret."""

    route: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreUp(Event):
    """The guard has closed: `route` answers again, after `down_us` microseconds."""

    route: str
    down_us: int


@dataclass(slots=True)
class Circuit:
    """What is down: since when, how to probe it, and when next."""

    route: str
    reason: str
    probe: Operation[None]
    opened_us: int
    probe_us: int
    pause_us: int


def probe_of(operation: Operation[object]) -> Operation[None]:
    """Return an operation without effect that runs where `operation` does."""
    return Operation(PROBE, operation.keys[:1], (), _nothing)


def _fold_probe(states: Sequence[State], now: int, args: Sequence[Item]) -> Change:
    return Change((), [1])


def _nothing(reply: Reply) -> None:
    return None


PROBE = Script("store.probe", lua="return {1}", fold=_fold_probe)
"""Reads and writes nothing: whether the server of a key runs scripts at all."""
