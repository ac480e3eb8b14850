"""What can become of an operation on its way to a store and back.

| fault | runs | the caller gets |
|---|---|---|
| `NOT_SENT` | no | `NotSent`: proven that nothing ran |
| `UNAVAILABLE` | no | `StoreUnavailable`: no server could be reached |
| `FULL` | no | `StoreFull` |
| `LOST_BEFORE` | no | `OutcomeUnknown` |
| `LOST_AFTER` | yes | `OutcomeUnknown`, the very same, which is the point |
| `TIMEOUT_BEFORE` | no | `ReplyTimeout` |
| `TIMEOUT_AFTER` | yes | `ReplyTimeout` |
| `delayed(seconds)` | yes | its reply, later by the store's clock |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from backendkit.core.checks import Duration, duration_us
from backendkit.core.errors import (
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreFull,
    StoreUnavailable,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a faulty store does with one operation.

    Attributes:
        runs: whether the change is made.
        error: makes what is raised, after the change; None: the reply is returned.
        delay_us: microseconds by the store's clock that pass before anything happens.
    """

    runs: bool = True
    error: Callable[[str], Exception] | None = None
    delay_us: int = 0

    def after(self, seconds: Duration) -> Fault:
        """Return the same fault, that much later: a timeout takes its time."""
        return replace(self, delay_us=duration_us("seconds", seconds, least_us=0))


def delayed(seconds: Duration) -> Fault:
    """Return a fault that only takes time, by the store's clock."""
    return Fault().after(seconds)


NOT_SENT = Fault(runs=False, error=NotSent)
UNAVAILABLE = Fault(runs=False, error=StoreUnavailable)
FULL = Fault(runs=False, error=StoreFull)
LOST_BEFORE = Fault(runs=False, error=OutcomeUnknown)
LOST_AFTER = Fault(runs=True, error=OutcomeUnknown)
TIMEOUT_BEFORE = Fault(runs=False, error=ReplyTimeout)
TIMEOUT_AFTER = Fault(runs=True, error=ReplyTimeout)
