"""Histories that are played in full: a read stopped at each of its steps, something happening there, and all going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from backendkit.cache import writes
from backendkit.cache.decide import tier
from backendkit.core.operation import Operation
from tests.unit.cache.machine import Doing, Fleet
from tests.unit.cache.world import WorldStore

ALL = 1_000
STEPS = 13
"""A read that loads stops no more often than this."""

Scenario = Callable[[Fleet], None]


def scenarios(every: int = 1) -> Iterator[Scenario]:
    """Yield all of them; of the places where something may happen only each `every`th."""
    for happening in HAPPENINGS:
        for way, states in WAYS:
            for filled in states:
                for stop in range(0, STEPS, every):
                    yield partial(
                        interrupted, happening=happening, way=way, filled=filled, stop=stop
                    )
    yield an_answer_that_comes_late
    yield a_lost_connection
    yield silence
    yield a_refusal
    yield from (
        lost_in_silence, a_version_read_early, given_up_and_carried_out, expired_and_failing,
        invalidated_while_failing, unheard_while_failing, another_server, read_amid_a_replay, all_are_told,
        no_longer_than_the_second_tier, replayed_before_others_listen,
        another_lease, one_load_in_the_fleet, queued, forked,
    )  # fmt: skip


def one_key(fleet: Fleet) -> None:
    """Ask for one."""
    fleet.get(0, "a")


def both_keys(fleet: Fleet) -> None:
    """Ask for both in one call."""
    fleet.get_all(0, ["a", "b"])


def what_is_there(fleet: Fleet) -> None:
    """Ask for what is there."""
    fleet.look(0, ["a"])


def a_new_value(fleet: Fleet) -> None:
    """Store one."""
    fleet.set(0, ["a"])


WAYS = (
    (one_key, ("nothing", "fresh", "stale", "early")),
    (both_keys, ("nothing", "fresh")),
    (what_is_there, ("fresh",)),
    (a_new_value, ("nothing",)),
)


def interrupted(
    fleet: Fleet, *, happening: Scenario, way: Scenario, filled: str, stop: int
) -> None:
    """Stop what the first process does after some steps, let something happen, and ask again, everywhere.

    `filled`: what the second tier has; "early": and the first, so late that reading it refreshes it behind.
    """
    if filled == "early":
        almost_over(fleet)
    elif filled != "nothing":
        ask(fleet, 1)
        fleet.get(1, "b")
        finish(fleet)
    if filled == "stale":
        fleet.pass_time(5_000)
    way(fleet)
    reading = list(fleet.doing)
    assert reading or filled != "early", "nothing is refreshed"
    for _ in range(stop):
        step(fleet, reading)
    happening(fleet)
    look(fleet)
    for process in (0, 1):
        fleet.get(process, "a")
    look(fleet)
    finish(fleet)
    for process in (0, 1, 2):
        ask(fleet, process)
    fleet.deliver(0, ALL)
    ask(fleet, 0)


def almost_over(fleet: Fleet) -> None:
    """Have the first process keep what took long to load, and let it come near its end."""
    fleet.get(0, "a")
    reading = list(fleet.doing)
    while not fleet.processes[0].running["a"]:
        step(fleet, reading)
    fleet.pass_time(300, renewing=True)
    finish(fleet)
    wait(fleet, 4)


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


def own_expiry(fleet: Fleet) -> None:
    """The reader's own process expires it."""
    fleet.expire(0, "a")
    finish_last(fleet)


def heard_expiry(fleet: Fleet) -> None:
    """Another process expires it, and the reader's hears of it."""
    fleet.expire(1, "a")
    finish_last(fleet)
    fleet.deliver(0, ALL)


def own_set(fleet: Fleet) -> None:
    """The reader's own process stores another value."""
    fleet.set(0, ["a"])
    finish_last(fleet)


def heard_set(fleet: Fleet) -> None:
    """Another process stores another value, and the reader's hears of it."""
    fleet.set(1, ["a"])
    finish_last(fleet)
    fleet.deliver(0, ALL)


def lost_version(fleet: Fleet) -> None:
    """The server loses the namespace's version while somebody removes all."""
    fleet.clear(1)
    finish_last(fleet)
    fleet.evict_version(0)
    fleet.evict_version(2)
    fleet.deliver(0, ALL)


HAPPENINGS = (
    own_expiry, heard_expiry, own_set, heard_set, lost_version,
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
    fleet.get(0, "a")
    reading = fleet.doing[0]
    while not reading.process.running["a"]:
        step(fleet, [reading])
    fleet.invalidate(1, "a")
    finish(fleet)
    assert writes.fresh(reading.process.cache._core, "a") is None, "M3: refused, and kept"


def lost_in_silence(fleet: Fleet) -> None:
    """One message of a connection that lives is lost: nothing but the entry's own life bounds what it leaves behind."""
    ask(fleet, 0)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.drop(0)
    for _ in range(6):
        fleet.pass_time(1_000, renewing=True)
        fleet.beat(0)
        fleet.deliver(0, ALL)
        ask(fleet, 0)
    record = writes.fresh(fleet.processes[0].cache._core, "a")
    assert record is None or fleet.history.began(record.give()) > fleet.history.removals[0].began


def a_version_read_early(fleet: Fleet) -> None:
    """What is read under a version counts no longer than the version, while nobody tells of changes."""
    ask(fleet, 1)
    fleet.processes[0].upkeep.channel.close("lost")
    fleet.look(0, ["a"])
    finish(fleet)
    fleet.processes[0].cache._local.l1.drop("a")
    fleet.pass_time(50)
    fleet.clear(1)
    finish(fleet)
    fleet.pass_time(1_700)
    fleet.look(0, ["a"])
    finish(fleet)
    fleet.pass_time(1_000)
    fleet.look(0, ["a"])
    finish(fleet)


def given_up_and_carried_out(fleet: Fleet) -> None:
    """A removal that its sender has given up runs after all: it is news to its sender, too."""
    ask(fleet, 1)
    fleet.slow_down(0, slow=True)
    fleet.invalidate(0, "a")
    finish_last(fleet)
    fleet.slow_down(0, slow=False)
    ask(fleet, 0)
    fleet.arrive(0)
    fleet.deliver(0, ALL)
    ask(fleet, 0)
    for _ in range(3):
        fleet.pass_time(1_000, renewing=True)
        fleet.beat(0)
        fleet.deliver(0, ALL)
        ask(fleet, 0)


def expired_and_failing(fleet: Fleet) -> None:
    """What is expired serves those whose loader fails; what is invalidated serves nobody, whoever had it."""
    ask(fleet, 0)
    fleet.expire(1, "a")
    finish_last(fleet)
    fleet.deliver(0, ALL)
    fleet.get(0, "a", "fails")
    finish(fleet)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.deliver(0, ALL)
    fleet.get(0, "a", "fails")
    finish(fleet)
    ask(fleet, 0)


def invalidated_while_failing(fleet: Fleet) -> None:
    """A load that fails falls back on nothing that was removed while it ran: by its key, by a tag, with all."""
    removals: list[Callable[[], object]] = [
        lambda: fleet.invalidate(1, "a"),
        lambda: fleet.invalidate_tag(1, "t"),
        lambda: fleet.clear(1),
    ]
    for remove in removals:
        for stop in range(STEPS):
            ask(fleet, 0)
            fleet.expire(0, "a")
            finish_last(fleet)
            fleet.get(0, "a", "fails")
            reading = list(fleet.doing)
            for _ in range(stop):
                step(fleet, reading)
            remove()
            finish_last(fleet)
            fleet.deliver(0, ALL)
            fleet.get(0, "a", "fails")
            finish(fleet)
            fleet.pass_time(1_000)


def unheard_while_failing(fleet: Fleet) -> None:
    """Where blindness forbids it, nothing stale serves that may have been invalidated unheard."""
    ask(fleet, 0)
    fleet.pass_time(1_000)
    fleet.lose_line(0, half_open=True)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.cut(0, cut=True)
    for _ in range(6):
        fleet.pass_time(1_000)
        fleet.get(0, "a", "fails")
        finish(fleet)


def another_server(fleet: Fleet) -> None:
    """It has missed the last removals: whoever made them repeats them, and everybody hears."""
    removals: list[Callable[[], object]] = [
        lambda: fleet.invalidate(1, "a"),
        lambda: fleet.clear(1),
        lambda: fleet.invalidate_tag(1, "t"),
        lambda: fleet.expire(1, "a"),
    ]
    for remove in removals:
        ask(fleet, 0)
        fleet.replicate()
        remove()
        finish_last(fleet)
        fleet.fail_over(silent=False)
        fleet.beat(0)
        fleet.beat(0)
        fleet.deliver(0, ALL)
        ask(fleet, 0)
        fleet.deliver(1, ALL)
        fleet.beat(1)
        fleet.deliver(0, ALL)
        for process in (0, 1):
            fleet.look(process, ["a"])
            finish(fleet)
            ask(fleet, process)
        for process in (0, 1, 2):
            fleet.beat(process)
            fleet.beat(process)
            fleet.deliver(process, ALL)


def read_amid_a_replay(fleet: Fleet) -> None:
    """What its maker reads of another server just before it repeats the removal it does not keep."""
    ask(fleet, 0)
    fleet.replicate()
    fleet.invalidate(0, "a")
    finish_last(fleet)
    fleet.fail_over(silent=False)
    sent = fleet.world.sends

    def amid(store: WorldStore, operation: Operation[Any]) -> None:
        sent(store, operation)
        if operation.script is tier.INVALIDATE:
            fleet.world.sends = sent
            fleet.get(0, "a")
            finish(fleet)

    fleet.world.sends = amid
    fleet.beat(0)
    fleet.beat(0)
    assert fleet.world.sends is sent
    ask(fleet, 0)


def all_are_told(fleet: Fleet) -> None:
    """Whatever removes something says so: else the channel would vouch for what is old."""
    removals: list[Callable[[], object]] = [
        lambda: fleet.invalidate(1, "a"),
        lambda: fleet.clear(1),
        lambda: fleet.invalidate_tag(1, "t"),
        lambda: fleet.expire(1, "a"),
        lambda: fleet.set(1, ["a"]),
    ]
    for remove in removals:
        ask(fleet, 0)
        remove()
        finish_last(fleet)
        wait(fleet, 3)
        ask(fleet, 0)


def no_longer_than_the_second_tier(fleet: Fleet) -> None:
    """What is read late lives for what is left of its time."""
    ask(fleet, 1)
    wait(fleet, 3)
    ask(fleet, 0)
    wait(fleet, 2)
    ask(fleet, 0)


def wait(fleet: Fleet, seconds: int) -> None:
    """Let time pass while all is well."""
    for _ in range(seconds):
        fleet.pass_time(1_000, renewing=True)
        for process in (0, 1, 2):
            fleet.beat(process)
            fleet.deliver(process, ALL)


def replayed_before_others_listen(fleet: Fleet) -> None:
    """What its maker reads between the change of servers and the replay it does not keep."""
    ask(fleet, 0)
    fleet.replicate()
    fleet.invalidate(0, "a")
    finish_last(fleet)
    fleet.fail_over(silent=False)
    ask(fleet, 0)
    fleet.beat(0)
    fleet.beat(0)
    ask(fleet, 0)


def another_lease(fleet: Fleet) -> None:
    """A holder whose lease has passed to another neither stores nor prolongs it."""
    fleet.get(0, "a")
    first = fleet.doing[0]
    while not first.process.running["a"]:
        step(fleet, [first])
    fleet.pass_time(1_100)
    fleet.get(1, "a")
    second = fleet.doing[-1]
    while not second.process.running["a"]:
        step(fleet, [second])
    fleet.mend(0)
    fleet.invalidate(2, "a")
    finish_last(fleet)
    for doing in (first, second):
        for _ in range(40):
            step(fleet, [doing])
            look(fleet)
    finish(fleet)


def one_load_in_the_fleet(fleet: Fleet) -> None:
    """However long it takes, as long as its lease is renewed."""
    fleet.get(0, "a")
    first = fleet.doing[0]
    while not first.process.running["a"]:
        step(fleet, [first])
    for _ in range(8):
        fleet.get(1, "a")
        fleet.get(2, "a")
        for doing in list(fleet.doing):
            if doing is not first:
                for _ in range(4):
                    step(fleet, [doing])
        fleet.pass_time(300, renewing=True)
    finish(fleet)


def queued(fleet: Fleet) -> None:
    """Until it has landed its maker does not believe the second tier; then nobody has it."""
    removals: list[Callable[[], object]] = [
        lambda: fleet.invalidate(0, "a"),
        lambda: fleet.invalidate_tag(0, "t"),
        lambda: fleet.clear(0),
        partial(too_many, fleet),
    ]
    for remove in removals:
        ask(fleet, 1)
        ask(fleet, 0)
        fleet.cut(0, cut=True)
        remove()
        finish_last(fleet)
        ask(fleet, 0)
        fleet.cut(0, cut=False)
        fleet.pass_time(2_000)
        fleet.look(0, ["a"])
        finish(fleet)
        fleet.get_all(0, ["a", "b"])
        finish(fleet)
        ask(fleet, 0)
        fleet.mend(0)
        for process in (0, 1):
            fleet.deliver(process, ALL)
            ask(fleet, process)


def too_many(fleet: Fleet) -> None:
    """Remove more than the queue has room for."""
    for key in "ab":
        fleet.expire(0, key)
        finish_last(fleet)
        fleet.invalidate(0, key)
        finish_last(fleet)


def forked(fleet: Fleet) -> None:
    """A child has nothing of its parent's first tier, and shares no flight with it."""
    ask(fleet, 0)
    fleet.get(0, "b")
    for _ in range(3):
        step(fleet, fleet.doing)
    fleet.invalidate(1, "a")
    finish_last(fleet)
    fleet.fork(0)
    ask(fleet, 0)
    fleet.get(0, "b")
    fleet.pass_time(1_100)
    finish(fleet)


# How


def ask(fleet: Fleet, process: int) -> None:
    """Ask for the key, to the end."""
    fleet.get(process, "a")
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
    fleet.all_holds()
