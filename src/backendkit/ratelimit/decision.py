"""What a limiter says of a request: read off the store's reply when asked, so that a hit itself costs little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from backendkit.core.clock import SECOND_US
from backendkit.ratelimit.decide import FIELDS
from backendkit.ratelimit.policy import Limit

Source: TypeAlias = Literal[
    "store", "remembered", "lease", "tentative", "penalty", "local", "open", "closed", "disabled"
]
"""Who decided.

`store`; `remembered`: this process remembers a denial; `lease`: permits taken in advance; `tentative`: a denial owed
to reservations under way on a Cluster; `penalty`: a penalty box; `local`, `open`, `closed`: the store failed, and
that is the policy; `disabled`: the limiter is switched off.
"""


class LimitView(NamedTuple):
    """One limit after a request. Times are seconds.

    Attributes:
        limit: the limit.
        allowed: whether it has room for the request.
        remaining: units that would be admitted now.
        retry_after: how long until the same request fits, if nothing else happens; 0: now; None: never.
        reset_after: least time until `remaining` is all of it.
        next_after: least time until more remains.
    """

    limit: Limit
    allowed: bool
    remaining: int
    retry_after: float | None
    reset_after: float
    next_after: float


class Receipt(NamedTuple):
    """What `cancel` needs to take back exactly the units of one decision.

    Attributes:
        units: how many, on each limit.
        keys: where.
        limits: the limits, in the order of `keys`.
        marks: time, bucket or owner of the units, per limit.
    """

    units: int
    keys: tuple[bytes, ...]
    limits: tuple[Limit, ...]
    marks: tuple[int, ...]


class Decision:
    """Whether a request is admitted, and all that its response should say. Times are seconds.

    Where several limits were asked, a denial shows the one with the longest wait, an admission the one with the
    fewest units left.

    Attributes:
        allowed: whether it is admitted.
        granted: how many units were; 0 for a denial.
        source: who decided.
        receipt: for `cancel`; None where nothing was counted, and after it was given back.
    """

    __slots__ = (
        "_elapsed_us",
        "_keys",
        "_limits",
        "_numbers",
        "allowed",
        "granted",
        "receipt_used",
        "source",
    )

    def __init__(
        self,
        *,
        allowed: bool,
        limits: tuple[Limit, ...],
        numbers: Sequence[int],
        granted: int = 0,
        keys: tuple[bytes, ...] = (),
        source: Source = "store",
        elapsed_us: int = 0,
    ) -> None:
        self.allowed = allowed
        self.granted = granted
        self.source: Source = source
        self.receipt_used = False
        self._limits = limits
        self._numbers = numbers
        self._keys = keys
        self._elapsed_us = elapsed_us

    @property
    def numbers(self) -> Sequence[int]:
        """The store's reply, as `decide` describes it; not for users."""
        return self._numbers

    @property
    def receipt(self) -> Receipt | None:
        """What `cancel` gives back; None where nothing was counted, or it was given back."""
        if self.receipt_used or not self._keys or not self.granted:
            return None
        marks = tuple(self._numbers[6 + FIELDS * n] for n in range(len(self._limits)))
        return Receipt(self.granted, self._keys, self._limits, marks)

    def spend_receipt(self) -> Receipt | None:
        """Return the receipt and keep none, so that units are given back once."""
        receipt = self.receipt
        self.receipt_used = True
        return receipt

    @property
    def views(self) -> list[LimitView]:
        """Every limit that was asked, in order."""
        return [self._view(place) for place in range(len(self._limits))]

    @property
    def by_limit(self) -> Mapping[str, LimitView]:
        """Every limit that was asked, by its name."""
        return {view.limit.name: view for view in self.views}

    @property
    def shown(self) -> LimitView:
        """The limit that the response should show first."""
        if len(self._limits) == 1:
            return self._view(0)
        if self.allowed:
            return min(self.views, key=_by_remaining)
        return max(self.views, key=_by_wait)

    @property
    def limit(self) -> Limit:
        """The limit shown."""
        return self.shown.limit

    @property
    def remaining(self) -> int:
        """Units that the limit shown would admit now."""
        return self.shown.remaining

    @property
    def retry_after(self) -> float | None:
        """How long until the same request would be admitted, if nothing else happens; 0: now; None: never."""
        waits = [view.retry_after for view in self.views]
        return None if None in waits else max(wait for wait in waits if wait is not None)

    @property
    def reset_after(self) -> float:
        """Least time until all of the limit shown remains."""
        return self.shown.reset_after

    @property
    def next_after(self) -> float:
        """Least time until more of the limit shown remains."""
        return self.shown.next_after

    def __repr__(self) -> str:
        word = "allowed" if self.allowed else "denied"
        return f"<Decision {word} by {self.source}: {', '.join(map(_told, self.views))}>"

    def _view(self, place: int) -> LimitView:
        limit = self._limits[place]
        at = 2 + FIELDS * place
        used, retry, reset, more = self._numbers[at : at + 4]
        past = self._elapsed_us
        return LimitView(
            limit,
            retry == 0,
            max(0, limit.quota - used),
            None if retry < 0 else max(0, retry - past) / SECOND_US,
            max(0, reset - past) / SECOND_US,
            max(0, more - past) / SECOND_US,
        )


def _by_remaining(view: LimitView) -> int:
    return view.remaining


def _by_wait(view: LimitView) -> float:
    return float("inf") if view.retry_after is None else view.retry_after


def _told(view: LimitView) -> str:
    return f"{view.limit.name} {view.remaining}/{view.limit.quota}"
