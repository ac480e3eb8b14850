"""What a limit is: how much in what time, counted how, and what happens when the store fails. Validated when built.

Limits are written as objects or as text. `"5/second"`, `"100 per 2 minutes"`, `"1000/1d"` say how much in what
time; several in a group are separated by `;` or `,`: `"200/day;50/hour"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal, TypeAlias, get_args

from backendkit.core import checks
from backendkit.core.checks import LARGEST_INT, Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument
from backendkit.ratelimit.algorithms import (
    GCRA,
    Algorithm,
    Concurrency,
    FixedWindow,
    SlidingBuckets,
    SlidingLog,
)
from backendkit.ratelimit.algorithms.sliding_log import MOST

OnStoreFailure: TypeAlias = Literal["open", "closed", "local"]
"""Admit; refuse with 503; or limit within this process, each node its share."""

LARGEST_AMOUNT = 2**31 - 1
"""Units per window."""
STEP_US = 1_000
"""Windows are whole milliseconds."""
LONGEST_US = 10 * 366 * 86_400 * SECOND_US
"""The longest window: ten years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Who is refused too often is refused for a time that doubles.

    Attributes:
        after: denials, from 1, that the store decided.
        within: the time in which they must come.
        block_for: the first block; each further one is twice as long.
        longest: what blocks grow up to, from `block_for`; whoever stays away for so long begins anew.
    """

    after: int
    block_for: Duration | str
    within: Duration | str = 60
    longest: Duration | str = 3600
    rule: tuple[int, int, int, int] = field(init=False, repr=False)
    """`after`, `within`, `block_for`, `longest`, in microseconds."""

    def __post_init__(self) -> None:
        after = checks.whole("after", self.after, least=1, most=LARGEST_AMOUNT)
        within = _window_us("within", self.within)
        first = _window_us("block_for", self.block_for)
        longest = _window_us("longest", self.longest)
        if longest < first:
            raise InvalidArgument("longest", "must be at least block_for", self.longest)
        object.__setattr__(self, "rule", (after, within, first, longest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A process takes permits in advance and spends them without asking.

    Attributes:
        permits: how many at once, 2..1,000,000. At most `nodes * permits` per subject lie unused.
        ttl: how long they may be spent. Limits count over their window and this time, so that a permit which is spent
            late still counts for a whole window: nothing is ever admitted in excess.
    """

    permits: int
    ttl: Duration = 1.0
    ttl_us: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.whole("permits", self.permits, least=2, most=1_000_000)
        us = checks.duration_us("ttl", self.ttl, least_us=STEP_US, step_us=STEP_US)
        object.__setattr__(self, "ttl_us", us)


@dataclass(frozen=True, slots=True)
class Limit:
    """So much in so much time.

    Args:
        name: printable ASCII, 1..128 characters; part of the key and of headers. Limits that share a name, an
            algorithm and a window share their history, whatever their amounts.
        rate: units, or text like `"5/second"`.
        per: the window, where `rate` is a number: seconds, a `timedelta`, or text like `"1d"`; a whole number of
            milliseconds. For `Concurrency` it is a seat's time to live.
        by: which of several subjects it counts, where `hit` is given more than one; None: the only one.
        algorithm: what it counts by.
        on_store_failure: `"open"` admits; `"closed"` refuses with 503; `"local"` limits in this process, at its share.
        penalty: a penalty box, or None.

    Attributes:
        amount: units.
        window_us: microseconds.
        quota: how many units can be admitted at once: the amount, or the burst of `GCRA`.

    Raises:
        InvalidArgument: a `ValueError` that names argument, rule and value.
    """

    name: str
    rate: int | str
    per: Duration | str | None = field(default=None, kw_only=True)
    by: str | None = field(default=None, kw_only=True)
    algorithm: Algorithm = field(default=SlidingLog(), kw_only=True)
    on_store_failure: OnStoreFailure = field(default="open", kw_only=True)
    penalty: Penalty | None = field(default=None, kw_only=True)
    amount: int = field(init=False, repr=False)
    window_us: int = field(init=False, repr=False)
    quota: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.name("name", self.name)
        if self.by is not None:
            checks.name("by", self.by)
        amount, window_us = _rate(self.rate, self.per)
        object.__setattr__(self, "amount", amount)
        object.__setattr__(self, "window_us", window_us)
        if self.on_store_failure not in get_args(OnStoreFailure):
            rule = "must be 'open', 'closed' or 'local'"
            raise InvalidArgument("on_store_failure", rule, self.on_store_failure)
        if not _is_algorithm(self.algorithm):
            rule = "must be an algorithm object, like SlidingLog()"
            raise InvalidArgument("algorithm", rule, self.algorithm)
        burst = self.algorithm.burst if isinstance(self.algorithm, GCRA) else None
        object.__setattr__(self, "quota", amount if burst is None else burst)
        self._check_fit()

    @property
    def window(self) -> float:
        """The window in seconds."""
        return self.window_us / SECOND_US

    @property
    def extra(self) -> int:
        """What scripts know of the algorithm beside quota and window: buckets, or the rate."""
        match self.algorithm:
            case SlidingBuckets(buckets=buckets):
                return buckets
            case GCRA():
                return self.amount
            case _:
                return 0

    def share(self, nodes: int) -> Limit:
        """Return what one of so many nodes may admit by itself: amounts divided, rounded up."""
        algorithm = self.algorithm
        if isinstance(algorithm, GCRA) and algorithm.burst is not None:
            algorithm = GCRA(burst=-(-algorithm.burst // nodes))
        amount = -(-self.amount // nodes)
        return replace(
            self, rate=amount, per=self.window_us / SECOND_US, algorithm=algorithm, penalty=None
        )

    def _check_fit(self) -> None:
        """Check what concerns algorithm and numbers together."""
        us, extra = self.window_us, self.extra
        match self.algorithm:
            case SlidingLog() if self.amount > MOST:
                fix = "use SlidingBuckets(), whose memory does not grow with the limit."
                raise InvalidArgument(
                    "rate", f"must be at most {MOST} for SlidingLog", self.rate, fix
                )
            case SlidingBuckets() if extra > us or us * extra > LARGEST_INT:
                rule = "must divide the window into parts of at least 1 us, and buckets * window fit 2**53 us"
                raise InvalidArgument("buckets", rule, extra)
            case GCRA() if self.quota * us > LARGEST_INT:
                rule = "must be such that burst * window is below 2**53 us"
                raise InvalidArgument(
                    "burst", rule, self.quota, "say the same rate over a shorter window."
                )
            case SlidingLog() | SlidingBuckets() | GCRA() | FixedWindow() | Concurrency():
                pass


def parse(text: str, *, name: str = "limit") -> tuple[Limit, ...]:
    """Return the limits of a group like `"200/day;50/hour"`, named after their windows: `200-per-day` is `limit-1d`.

    Args:
        text: limits, separated by `;` or `,`.
        name: what their names begin with.

    Raises:
        InvalidArgument: it cannot be read, or two have the same window.
    """
    if not _is_text(text):
        raise InvalidArgument("limits", "must be text like '200/day;50/hour'", text)
    parts = [part.strip() for part in re.split("[;,]", text) if part.strip()]
    if not parts:
        raise InvalidArgument("limits", "must have at least one limit, like '5/minute'", text)
    return tuple(Limit(f"{name}-{_label(_rate(part, None)[1])}", part) for part in parts)


def several(limits: Limit | str | Iterable[Limit | str]) -> tuple[Limit, ...]:
    """Return limits given as one, as a group in text, or as a mixture of both.

    Raises:
        InvalidArgument: there is none, or two have the same name.
    """
    given = [limits] if isinstance(limits, Limit | str) else list(limits)
    found: list[Limit] = []
    for each in given:
        found += [each] if isinstance(each, Limit) else parse(each)
    if not found:
        raise InvalidArgument("limits", "must have at least one limit", limits)
    names = [limit.name for limit in found]
    for name in names:
        if names.count(name) > 1:
            fix = (
                "give each a name of its own; a group in text must not have the same window twice."
            )
            raise InvalidArgument("limits", "must have different names", name, fix)
    return tuple(found)


def _is_algorithm(value: object) -> bool:
    return isinstance(value, Algorithm)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _rate(rate: object, per: object) -> tuple[int, int]:
    if not isinstance(rate, str):
        amount = checks.whole("rate", rate, least=1, most=LARGEST_AMOUNT)
        if per is None:
            raise InvalidArgument("per", "must say the window where rate is a number", per)
        return amount, _window_us("per", per)
    if per is not None:
        raise InvalidArgument("per", "must be left out where rate is text", per)
    found = _RATE.fullmatch(rate.strip())
    if found is None:
        raise InvalidArgument("rate", "must be like '5/second' or '100 per 2 minutes'", rate)
    amount = checks.whole("rate", int(found[1]), least=1, most=LARGEST_AMOUNT)
    return amount, _window_us("rate", found[2])


def _window_us(argument: str, value: object) -> int:
    if isinstance(value, str):
        found = _SPAN.fullmatch(value.strip())
        unit = _UNITS.get(found[2].lower()) if found else None
        if found is None or unit is None:
            raise InvalidArgument(
                argument, "must end in a time like 'minute', '90s' or '1d'", value
            )
        value = timedelta(microseconds=int(found[1] or 1) * unit) if len(found[1]) < 12 else -1.0
    return checks.duration_us(
        argument, value, least_us=STEP_US, most_us=LONGEST_US, step_us=STEP_US
    )


def _label(window_us: int) -> str:
    for letter, unit in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if window_us % (unit * SECOND_US) == 0:
            return f"{window_us // (unit * SECOND_US)}{letter}"
    return f"{window_us // STEP_US}ms"


_RATE = re.compile(r"(\d{1,18})\s*(?:/|\bper\b)\s*(.+)", re.IGNORECASE)
_SPAN = re.compile(r"(\d*)\s*([a-zA-Z]+)")
_UNITS = {
    name: us
    for us, names in (
        (1_000, "ms millisecond milliseconds"),
        (SECOND_US, "s sec secs second seconds"),
        (60 * SECOND_US, "m min mins minute minutes"),
        (3_600 * SECOND_US, "h hour hours"),
        (86_400 * SECOND_US, "d day days"),
        (7 * 86_400 * SECOND_US, "w week weeks"),
    )
    for name in names.split()
}
