"""Checks: what passes comes back, what does not is named with rule and value."""

import math
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core import checks
from backendkit.core.checks import LARGEST_INT
from backendkit.core.errors import InvalidArgument


@given(value=st.integers(), least=st.integers(-5, 5), most=st.integers(-5, 5))
def test_a_whole_number_passes_within_its_bounds(value: int, least: int, most: int) -> None:
    """Both bounds belong to it."""
    if least <= value <= most:
        assert checks.whole("n", value, least=least, most=most) == value
    else:
        with pytest.raises(InvalidArgument) as caught:
            checks.whole("n", value, least=least, most=most)
        assert str(caught.value) == f"n must be in {least}..{most}, got {value}"
        assert (caught.value.argument, caught.value.value) == ("n", value)


def test_a_whole_number_goes_up_to_what_lua_holds() -> None:
    """By default: from zero."""
    assert checks.whole("n", LARGEST_INT) == 2**53 - 1
    assert checks.whole("n", 0) == 0
    for value in (LARGEST_INT + 1, -1):
        with pytest.raises(InvalidArgument, match=r"must be in 0\.\.9007199254740991"):
            checks.whole("n", value)


@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, b"1", Fraction(1)], ids=repr)
def test_what_only_looks_like_a_number_is_none(value: Any) -> None:
    """Bool is an int by an accident of history."""
    with pytest.raises(InvalidArgument, match="n must be a whole number, got "):
        checks.whole("n", value)


@given(st.integers(1, LARGEST_INT))
def test_a_timedelta_is_taken_to_the_microsecond(us: int) -> None:
    """Without a detour by float, which would lose some."""
    assert checks.duration_us("t", timedelta(microseconds=us)) == us


@given(st.floats(1e-6, 1e6))
def test_seconds_become_the_nearest_microsecond(seconds: float) -> None:
    """To half of one."""
    us = checks.duration_us("t", seconds)
    assert abs(Fraction(seconds) * 1_000_000 - us) <= Fraction(501, 1000)


@pytest.mark.parametrize(("value", "us"), [(1, 1_000_000), (0.000001, 1), (0.1 + 0.2, 300_000)])
def test_seconds_may_be_whole(value: float, us: int) -> None:
    """Or a float with its usual dust."""
    assert checks.duration_us("t", value) == us


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 1e308, -1e308, 0, -1, 0.0, -0.5, 1e-7, timedelta(0), timedelta.max, timedelta.min]
)  # fmt: skip
def test_a_duration_out_of_bounds_is_named(value: Any) -> None:
    """However far out: no overflow on the way."""
    with pytest.raises(InvalidArgument, match=r"^t must be in 1e-06\.\.9\.0072e\+09 seconds, got "):
        checks.duration_us("t", value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, True, "1", None, b"", 1j], ids=repr
)
def test_what_is_no_duration_is_named(value: Any) -> None:
    """Neither text nor what a division by zero leaves."""
    with pytest.raises(InvalidArgument, match=r"^t must be a timedelta or finite seconds, got "):
        checks.duration_us("t", value)


def test_bounds_of_a_duration_are_its_callers() -> None:
    """Both belong to it, in seconds in the message."""
    bounds = {"least_us": 1_000, "most_us": 2_000_000}
    assert checks.duration_us("t", 0.001, **bounds) == 1_000
    assert checks.duration_us("t", 2, **bounds) == 2_000_000
    for value in (0.000999, 2.000001):
        with pytest.raises(InvalidArgument, match=r"^t must be in 0\.001\.\.2 seconds"):
            checks.duration_us("t", value, **bounds)


def test_a_duration_may_have_to_be_a_multiple() -> None:
    """Of what the caller can keep."""
    assert checks.duration_us("t", 1.5, step_us=500_000) == 1_500_000
    with pytest.raises(InvalidArgument, match=r"^t must be a multiple of 0\.5 seconds, got 1\.2"):
        checks.duration_us("t", 1.2, step_us=500_000)


@pytest.mark.parametrize("value", ["a", "x" * 128, "a b~!"])
def test_a_name_passes(value: str) -> None:
    """Printable ASCII of some length."""
    assert checks.name("who", value) == value


@pytest.mark.parametrize("value", [None, 1, b"a", "é", "a\n", "\0", "\x7f", "a\u200b"], ids=ascii)
def test_what_is_no_printable_text_is_no_name(value: Any) -> None:
    """It would travel into keys, headers and logs."""
    with pytest.raises(InvalidArgument, match=r"^who must be printable ASCII text, got "):
        checks.name("who", value)


@pytest.mark.parametrize("value", ["", "x" * 129, "x" * 1_000])
def test_a_name_has_some_length_and_not_too_much(value: str) -> None:
    """The message shows no more of it than 200 characters."""
    with pytest.raises(
        InvalidArgument, match=r"^who must be 1\.\.128 characters long, got "
    ) as caught:
        checks.name("who", value)
    assert len(str(caught.value)) < 260
