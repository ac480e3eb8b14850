"""What a breaker is told: options as users say them, and the whole numbers that decisions are made of.

Shares are parts per million and compared as integers, `failed * 10**6 >= share * calls`: floats are off by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument

PPM = 1_000_000
"""Parts per million: the unit of shares."""

DAY_US = 86_400_000_000
"""The longest that anything here lasts."""

SLICES = 10
"""A time window is made of so many slices, the current one included."""

LARGEST_WINDOW = 100_000
"""Calls that a count window may hold; one byte each."""


class BreakerOptions(TypedDict, total=False):
    """The options of `BreakerPolicy`, as keyword arguments."""

    window: int | timedelta
    failure_rate: float
    minimum_calls: int
    slow_after: Duration | None
    slow_rate: float
    open_for: Duration
    open_growth: int
    open_most: Duration
    jitter: float
    trials: int
    trial_failure_rate: float | None
    lease: Duration
    ignored_trials_pass: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, for how long, and how it finds its way back.

    Attributes:
        window: what is judged: so many last calls (1..100,000), or a `timedelta` of 1 ms to a day.
        failure_rate: the share of failed calls, above 0 and at most 1, at which it opens.
        minimum_calls: no verdict on fewer calls; at most `window` where that counts calls.
        slow_after: a call that lasts this long is slow; None: none is.
        slow_rate: the share of slow calls, above 0 and at most 1, at which it opens.
        open_for: how long the first opening lasts.
        open_growth: each opening in a row lasts this many times longer, 1..10.
        open_most: no opening lasts longer, whatever a Retry-After says.
        jitter: an opening is shortened by a random share of up to this much, 0..1, so that not all processes come
            back at once.
        trials: how many calls are let through to find out whether the dependency has recovered, 1..10,000.
        trial_failure_rate: the share of the trials that may not fail; None: as `failure_rate`.
        lease: how long trials may take together. A lease that ends while a trial is out is a failure, and the next
            one lasts twice as long.
        ignored_trials_pass: whether a trial with an ignored outcome counts as a success. If it does not, a
            dependency of which every trial is ignored stays half-open.
    """

    window: int | timedelta = 100
    failure_rate: float = 0.5
    minimum_calls: int = 10
    slow_after: Duration | None = None
    slow_rate: float = 1.0
    open_for: Duration = 30.0
    open_growth: int = 2
    open_most: Duration = 600.0
    jitter: float = 0.1
    trials: int = 3
    trial_failure_rate: float | None = None
    lease: Duration = 30.0
    ignored_trials_pass: bool = False

    def rules(self) -> Rules:
        """Return the same in whole numbers.

        Raises:
            InvalidArgument: naming the option, its rule and the value.
        """
        calls, slice_us = _window(self.window)
        minimum = checks.whole("minimum_calls", self.minimum_calls, least=1)
        if calls and minimum > calls:
            raise InvalidArgument(
                "minimum_calls",
                f"must be at most window ({calls})",
                minimum,
                "pass a smaller minimum_calls",
            )
        failed = share("failure_rate", self.failure_rate)
        trial = self.trial_failure_rate
        open_us = checks.duration_us("open_for", self.open_for, most_us=DAY_US)
        slow = self.slow_after
        return Rules(
            calls=calls,
            slice_us=slice_us,
            minimum=minimum,
            failed_ppm=failed,
            slow_after_us=None if slow is None else checks.duration_us("slow_after", slow),
            slow_ppm=share("slow_rate", self.slow_rate),
            open_us=open_us,
            growth=checks.whole("open_growth", self.open_growth, least=1, most=10),
            # An opening that is longer than the usual bound was meant.
            most_us=max(open_us, checks.duration_us("open_most", self.open_most, most_us=DAY_US)),
            jitter=_permille("jitter", self.jitter),
            trials=checks.whole("trials", self.trials, least=1, most=10_000),
            trial_failed_ppm=failed if trial is None else share("trial_failure_rate", trial),
            lease_us=checks.duration_us("lease", self.lease, most_us=DAY_US),
            ignored_pass=bool(self.ignored_trials_pass),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy in whole numbers: microseconds, parts per million, calls.

    Attributes:
        calls: the size of a count window; 0: it is a time window.
        slice_us: the width of a time window's slice; 0: it is a count window.
        minimum: calls before a verdict.
        failed_ppm: the share of failures that opens.
        slow_after_us: from here on a call is slow; None: never.
        slow_ppm: the share of slow calls that opens.
        open_us: the first opening.
        growth: the factor of the next.
        most_us: the longest.
        jitter: at most so many thousandths are taken off an opening.
        trials: permits of a half-open circuit.
        trial_failed_ppm: the share of failures that opens again.
        lease_us: the first lease of the trials.
        ignored_pass: whether an ignored trial is a success.
    """

    calls: int
    slice_us: int
    minimum: int
    failed_ppm: int
    slow_after_us: int | None
    slow_ppm: int
    open_us: int
    growth: int
    most_us: int
    jitter: int
    trials: int
    trial_failed_ppm: int
    lease_us: int
    ignored_pass: bool


def share(argument: str, value: object) -> int:
    """Return a share above 0 and at most 1 in parts per million, at least one of them."""
    return max(1, round(_number(argument, value, "must be above 0 and at most 1", above=0.0) * PPM))


def _permille(argument: str, value: object) -> int:
    return round(_number(argument, value, "must be in 0..1", above=-math.ulp(0.0)) * 1000)


def _number(argument: str, value: object, rule: str, *, above: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= 1:
        raise InvalidArgument(argument, rule, value)
    return float(value)


def _window(window: int | timedelta) -> tuple[int, int]:
    """Return calls and slice width; one of them is 0."""
    if isinstance(window, timedelta):
        whole_us = checks.duration_us("window", window, least_us=1000, most_us=DAY_US)
        return 0, whole_us // SLICES
    return checks.whole("window", window, least=1, most=LARGEST_WINDOW), 0
