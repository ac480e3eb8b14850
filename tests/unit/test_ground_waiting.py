"""Polling: what counts as "not yet", and what a failure says."""

import pytest

from tests.ground.waiting import NeverCame, eventually


def test_the_first_truthy_value_is_returned() -> None:
    """Falsy values and the errors that mean "not yet" are polled over."""
    seen: list[object] = [
        0,
        None,
        ConnectionRefusedError(),
        KeyError("x"),
        AssertionError(),
        "here",
    ]

    def check() -> object:
        value = seen.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    assert eventually(check, "it is here", every=0) == "here"


def test_other_errors_are_raised_at_once() -> None:
    """A mistake in the check is not a reason to wait."""
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 / 0, "never")


def test_giving_up_says_what_was_awaited_and_what_was_seen() -> None:
    """The message holds the claim, the last look and the detail."""
    with pytest.raises(NeverCame, match=r"not within 0 s: it is here; last seen: 0\nthe log"):
        eventually(lambda: 0, "it is here", within=0, detail=lambda: "the log")


def test_there_is_a_last_look_after_the_deadline() -> None:
    """A starved process still gets its chance."""
    looks = iter([True])
    assert eventually(lambda: next(looks), "looked once", within=0)
