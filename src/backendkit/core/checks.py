"""Checks of arguments. Each failure names the argument, the rule and the value, and loses nothing."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument

Duration: TypeAlias = timedelta | float
"""What public functions take for a length of time: a `timedelta`, or seconds."""

LARGEST_INT = 2**53 - 1
"""The largest integer that Lua's doubles hold exactly."""


def whole(argument: str, value: object, *, least: int = 0, most: int = LARGEST_INT) -> int:
    """Return `value` if it is an `int` (no bool) in `least..most`, else raise `InvalidArgument`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument(argument, "must be a whole number", value)
    if not least <= value <= most:
        raise InvalidArgument(argument, f"must be in {least}..{most}", value)
    return value


def duration_us(
    argument: str, value: object, *, least_us: int = 1, most_us: int = LARGEST_INT, step_us: int = 1
) -> int:
    """Return a duration in whole microseconds.

    Args:
        argument: the name to put into the error.
        value: a `timedelta`, or finite seconds as `int` or `float`.
        least_us: the smallest that is accepted.
        most_us: the largest that is accepted.
        step_us: the result must be a multiple of this.

    Raises:
        InvalidArgument: naming argument, rule and value.
    """
    if isinstance(value, timedelta):
        us = value // timedelta(microseconds=1)
    elif isinstance(value, int) and not isinstance(value, bool):
        us = value * SECOND_US
    elif isinstance(value, float) and math.isfinite(value):
        us = round(min(max(value, -_FAR_S), _FAR_S) * SECOND_US)
    else:
        raise InvalidArgument(argument, "must be a timedelta or finite seconds", value)
    if not least_us <= us <= most_us:
        rule = f"must be in {least_us / SECOND_US:g}..{most_us / SECOND_US:g} seconds"
        raise InvalidArgument(argument, rule, value)
    if us % step_us:
        raise InvalidArgument(
            argument, f"must be a multiple of {step_us / SECOND_US:g} seconds", value
        )
    return us


def name(argument: str, value: object, *, most: int = 128) -> str:
    """Return `value` if it is 1..`most` printable ASCII characters, else raise `InvalidArgument`."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise InvalidArgument(argument, "must be printable ASCII text", value)
    if not 1 <= len(value) <= most:
        raise InvalidArgument(argument, f"must be 1..{most} characters long", value)
    return value


_FAR_S = 1e12
"""Seconds beyond any bound; a float that is much larger would overflow on its way to microseconds."""
