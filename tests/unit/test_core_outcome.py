"""Outcomes: a value or an error, as data."""

import gc
import traceback
import weakref

import pytest

from backendkit.core.outcome import Error, Outcome, Value


class Secret(Exception):
    """Holds what must not be shown."""


def test_a_value_unwraps_to_itself() -> None:
    """None and errors are values like any other."""
    for value in (1, None, Secret()):
        outcome: Outcome[object] = Value(value)
        assert outcome.unwrap() is value


def test_an_error_unwraps_by_raising_the_same_object() -> None:
    """With a place in the traceback for each who raises it."""
    error = Secret("x")
    outcome = Error(error)
    for _ in range(2):
        with pytest.raises(Secret) as caught:
            outcome.unwrap()
        assert caught.value is error
    assert any(frame.name == "unwrap" for frame in traceback.extract_tb(error.__traceback__))


def test_a_stop_of_iteration_is_data_as_well() -> None:
    """Which is why outcomes exist."""
    with pytest.raises(StopIteration):
        Error(StopIteration(1)).unwrap()


def test_a_repr_shows_types_only() -> None:
    """A value may be a token, an error may quote one."""
    assert repr(Value("hunter2")) == "Value(str)"
    assert repr(Error(Secret("hunter2"))) == "Error(Secret)"


def test_a_raised_outcome_is_no_cycle() -> None:
    """Its frame lets go of it, so that memory is free without the collector."""

    class Held(Error):
        __slots__ = ("__weakref__",)

    gc.collect()
    gc.disable()
    try:
        outcome = Held(Secret())
        gone = weakref.ref(outcome)
        with pytest.raises(Secret):
            outcome.unwrap()
        del outcome
        assert gone() is None
    finally:
        gc.enable()
