"""Histories that are played in full: a read stopped at each of its steps, something happening there, and all going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from backendkit.cache import writes
from tests.unit.cache.machine import Doing, Fleet

ALL = 1_000
STEPS = 12
"""A read that loads stops no more often than this."""

Scenario = Callable[[Fleet], None]


def scenarios() -> Iterator[Scenario]:
    """Yield all of them."""
    for happening in HAPPENINGS:
        for filled in (False, True):
            for stop in range(STEPS):
                yield partial(interrupted, happening=happening, filled=filled, stop=stop)
    yield an_answer_that_comes_late
    yield a_lost_connection
    yield silence
    yield a_refusal


def interrupted(
    fleet: Fleet, *, happening: Callable[[Fleet], None], filled: bool, stop: int
) -> None:
    """Stop a read of the first process after some steps, let something happen, and ask again, everywhere."""
    if filled:
        ask(fleet, 1)
    fleet.get(0, "a", fails=False)
    reading = list(fleet.doing)
    for _ in range(stop):
        step(fleet, reading)
    happening(fleet)
    look(fleet)
    for process in (0, 1):
        fleet.get(process, "a", fails=False)
    look(fleet)
    finish(fleet)
    for process in (0, 1, 2):
        ask(fleet, process)
    fleet.deliver(0, ALL)
    ask(fleet, 0)


def own_invalidation(fleet: Fleet) -> None:
    """The reader's own process removes the key."""
    fleet.invalidate(0, "a")
    finish_last(fleet)


def heard_invalidation(fleet: Fleet) -> None:
    """Another process removes it, and the reader's hears of it."""
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.deliver(0, ALL)


def own_tag(fleet: Fleet) -> None:
    """The reader's own process removes a tag."""
    fleet.invalidate_tag(0, "t")
    finish_last(fleet)


def heard_tag(fleet: Fleet) -> None:
    """Another process removes a tag, and the reader's hears of it."""
    fleet.invalidate_tag(1, "t")
    finish_last(fleet)
    fleet.deliver(0, ALL)


def own_clear(fleet: Fleet) -> None:
    """The reader's own process removes all."""
    fleet.clear(0)
    finish_last(fleet)


def unheard_tag(fleet: Fleet) -> None:
    """Another process removes a tag; the reader's does not hear of it, and time passes."""
    fleet.invalidate_tag(1, "t")
    finish_last(fleet)
    fleet.pass_time(2_000)


def heard_clear(fleet: Fleet) -> None:
    """Another process removes all, and the reader's hears of it."""
    fleet.clear(1)
    finish_last(fleet)
    fleet.deliver(0, ALL)


def unheard(fleet: Fleet) -> None:
    """Another process removes it; the reader's does not hear of it, and time passes."""
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.pass_time(2_000)


HAPPENINGS = (
    own_invalidation, heard_invalidation, own_tag, heard_tag, unheard_tag, own_clear, heard_clear, unheard,
)  # fmt: skip


def an_answer_that_comes_late(fleet: Fleet) -> None:
    """A heartbeat sent before an invalidation and answered after it proves nothing about the time between."""
    fleet.clock.advance(100_000)
    ask(fleet, 0)
    fleet.beat(0)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.clock.advance(1_900_000)
    fleet.deliver(0, 1)
    fleet.clock.advance(200_000)
    ask(fleet, 0)


def a_lost_connection(fleet: Fleet) -> None:
    """What was said while nobody listened is made up for before anything is trusted again."""
    ask(fleet, 0)
    fleet.lose_line(0)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.pass_time(2_000)
    for _ in range(3):
        fleet.beat(0)
    fleet.deliver(0, ALL)
    ask(fleet, 0)


def silence(fleet: Fleet) -> None:
    """Whoever hears nothing trusts nothing, however long."""
    ask(fleet, 0)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    for _ in range(3):
        fleet.pass_time(1_000)
        ask(fleet, 0)


def a_refusal(fleet: Fleet) -> None:
    """What the second tier refuses is not in the first, although nobody has told this process why."""
    fleet.get(0, "a", fails=False)
    reading = fleet.doing[0]
    while not reading.process.loading["a"]:
        step(fleet, [reading])
    fleet.invalidate(1, "a")
    finish(fleet)
    assert writes.fresh(reading.process.cache._core, "a") is None, "M3: refused, and kept"


# How


def ask(fleet: Fleet, process: int) -> None:
    """Ask for the key, to the end."""
    fleet.get(process, "a", fails=False)
    finish(fleet)
    look(fleet)


def finish_last(fleet: Fleet) -> None:
    """Let what began last go on to its end."""
    if fleet.doing:
        doing = fleet.doing[-1]
        for _ in range(40):
            step(fleet, [doing])


def finish(fleet: Fleet) -> None:
    """Let all go on to their ends."""
    for _ in range(200):
        for doing in list(fleet.doing):
            step(fleet, [doing])
            look(fleet)
    assert not fleet.doing


def step(fleet: Fleet, doings: list[Doing]) -> None:
    """Let those go on that still do."""
    for doing in doings:
        if doing in fleet.doing:
            fleet._step(doing)


def look(fleet: Fleet) -> None:
    """Check what must hold at any time."""
    fleet.nothing_old_is_in_the_first_tier()
    fleet.nothing_old_is_in_the_second_tier()
