"""Events, kept and asked about."""

from dataclasses import dataclass

import pytest

from backendkit.core.events import Event, Hooks
from backendkit.testing import RecordedEvents


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """One kind."""

    name: str


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """Another."""

    name: str


@pytest.fixture
def hooks() -> Hooks:
    """An emitter's hooks."""
    return Hooks()


def test_events_are_kept_in_order(hooks: Hooks) -> None:
    """All of them, from several emitters."""
    other = Hooks()
    events = RecordedEvents(hooks)
    events.watch(other)
    hooks.emit(Opened("a"))
    other.emit(Closed("a"))
    assert events.kinds() == [Opened, Closed]
    assert list(events) == [Opened("a"), Closed("a")]
    assert len(events) == 2


def test_only_those_asked_for(hooks: Hooks) -> None:
    """By class."""
    events = RecordedEvents(hooks, Closed)
    hooks.emit(Opened("a"))
    hooks.emit(Closed("a"))
    assert events.kinds() == [Closed]


def test_one_returns_the_only_one(hooks: Hooks) -> None:
    """Of a class, with these values."""
    events = RecordedEvents(hooks)
    for name in ("a", "b"):
        hooks.emit(Opened(name))
    assert events.one(Opened, name="b") == Opened("b")
    assert events.of(Opened) == [Opened("a"), Opened("b")]
    with pytest.raises(
        AssertionError, match=r"expected one Opened\(\), found 2 in:\n  Opened\(name='a'\)"
    ):
        events.one(Opened)
    with pytest.raises(AssertionError, match=r"found 0"):
        events.one(Opened, nam="b")


def test_none_fails_where_there_is_one(hooks: Hooks) -> None:
    """And says what there is."""
    events = RecordedEvents(hooks)
    events.none()
    hooks.emit(Opened("a"))
    events.none(Closed)
    events.none(Opened, name="b")
    with pytest.raises(AssertionError, match="expected no Opened"):
        events.none(Opened)
    with pytest.raises(AssertionError, match="Opened"):
        events.none()
    events.clear()
    events.none()
    assert repr(events) == "RecordedEvents([])"


def test_it_can_stop(hooks: Hooks) -> None:
    """What was kept stays."""
    events = RecordedEvents(hooks)
    hooks.emit(Opened("a"))
    events.stop()
    hooks.emit(Opened("b"))
    assert list(events) == [Opened("a")]
    assert not hooks
