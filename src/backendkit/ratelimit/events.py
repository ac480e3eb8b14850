"""What a limiter tells its hooks: denials, and the changes of its state. Labels have few values; subjects are not among them."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core.events import Event


@dataclass(frozen=True, slots=True)
class LimitDenied(Event):
    """A request was denied, or would have been: `shadow`.

    Attributes:
        limiter: the limiter's name.
        limit: the limit's name.
        source: who decided, see `Decision.source`.
        retry_after: seconds; None: never.
        shadow: whether it was let through all the same.
    """

    limiter: str
    limit: str
    source: str
    retry_after: float | None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class SubjectBlocked(Event):
    """A penalty box has closed, or is closed, for `seconds` more."""

    limiter: str
    limit: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StoreLost(Event):
    """The store has failed; from now on failure policies decide. `reason` names no secret."""

    limiter: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFound(Event):
    """The store decides again, after failures."""

    limiter: str
