"""One history, all stores and colours: the same replies, and those that the oracle gives."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.core.operation import Reply
from backendkit.core.outcome import Outcome, Value
from tests.contract import reference as ref
from tests.contract.reference import LARGEST, Oracle, Steps
from tests.ground.stores import Driver

# A step: how a driver builds its operation, and what the oracle says to it at a time.
Move = tuple[Callable[[Driver], Steps], Callable[[Oracle, int], Reply]]

names = st.sampled_from(["a", "b"])
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([LARGEST, -LARGEST, LARGEST - 1, 2**31, 2**32, -(2**31) - 1]),
    st.integers(-LARGEST, LARGEST),
)
payloads = st.one_of(
    st.sampled_from(
        [b"", b"\0", b"0", b"-1", b"1e3", b"\r\n", b"$1\r\n", b"\xff\xfe", b"x" * 10_240]
    ),
    st.binary(max_size=12),
)
windows = st.sampled_from([0, 1, 1_000, 1_000_000, 60_000_000, LARGEST])
limits = st.sampled_from([0, 1, 2, 5, LARGEST])
steps_us = st.sampled_from([0, 1, -1, 999, -1_000_000, 1_000_000, 3_600_000_000, -3_600_000_000])


def adding(name: str, number: int) -> Move:
    """Count."""
    return lambda d: ref.add(d.key(f"n-{name}", tag="n"), number), lambda o, _: o.add(name, number)


def moving(source: str, amount: int) -> Move:
    """Transfer from one counter to the other."""
    target = {"a": "b", "b": "a"}[source]
    return (
        lambda d: ref.transfer(
            d.key(f"n-{source}", tag="n"), d.key(f"n-{target}", tag="n"), amount
        ),
        lambda o, _: o.transfer(source, target, amount),
    )


def hitting(name: str, window: int, limit: int) -> Move:
    """Hit a log."""
    return (
        lambda d: ref.hit(d.key(f"l-{name}"), window, limit),
        lambda o, now: o.hit(name, now, window, limit),
    )


def swapping(name: str, expected: bytes | None, wanted: bytes) -> Move:
    """Compare and set."""
    return (
        lambda d: ref.swap(d.key(f"c-{name}"), expected, wanted),
        lambda o, _: o.swap(name, expected, wanted),
    )


def putting(name: str, value: bytes) -> Move:
    """Write a cell."""
    return lambda d: ref.put(d.key(f"c-{name}"), value), lambda o, _: o.put(name, value)


def caching(name: str, value: bytes) -> Move:
    """Write a cell that may be dropped when there is no room, which there is."""
    return lambda d: ref.cache(d.key(f"c-{name}"), value), lambda o, _: o.put(name, value)


def looking(name: str) -> Move:
    """Read a cell."""
    return lambda d: ref.look(d.key(f"c-{name}")), lambda o, _: o.look(name)


def dropping(name: str) -> Move:
    """Delete a cell."""
    return lambda d: ref.drop(d.key(f"c-{name}")), lambda o, _: o.drop(name)


def echoing(token: bytes) -> Move:
    """Have bytes sent back."""
    return lambda d: ref.echo(d.key("e"), token), lambda _, __: [len(token), token, b""]


def asking_the_time() -> Move:
    """Read the clock."""
    return lambda d: ref.time(d.key("t")), lambda _, now: [now]


moves = st.one_of(
    st.builds(adding, names, numbers),
    st.builds(moving, names, numbers),
    st.builds(hitting, names, windows, limits),
    st.builds(hitting, names, windows, limits),
    st.builds(swapping, names, st.none() | payloads, payloads),
    st.builds(swapping, names, st.just(b""), payloads),
    st.builds(putting, names, payloads),
    st.builds(caching, names, payloads),
    st.builds(looking, names),
    st.builds(dropping, names),
    st.builds(echoing, payloads),
    st.builds(asking_the_time),
)
histories = st.lists(st.tuples(steps_us, moves), min_size=1, max_size=20)

# Each example has keys of its own, so that sharing the fixtures' stores between examples does no harm.
on_open_stores = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@on_open_stores
@given(history=histories)
def test_a_history_has_the_same_replies_everywhere(
    drivers: list[Driver], clock: ManualClock, history: list[tuple[int, Move]]
) -> None:
    """Also while the clock steps back and forth, with arguments at their extremes, and with the types that Redis has."""
    oracle = Oracle()
    for driver in drivers:
        driver.begin_anew()
    for step_us, (build, expect) in history:
        clock.step_wall(step_us)
        expected = expect(oracle, clock.wall_us())
        for driver in drivers:
            reply = driver.run(build(driver))
            assert (typed(reply), str(driver)) == (typed(expected), str(driver))


@on_open_stores
@given(batches=st.lists(st.lists(moves, max_size=8), min_size=1, max_size=3))
def test_a_batch_answers_in_order(
    drivers: list[Driver], clock: ManualClock, batches: list[list[Move]]
) -> None:
    """Operations of one batch on different keys have the outcomes that they have one by one."""
    oracle = Oracle()
    for driver in drivers:
        driver.begin_anew()
    for moves_ in batches:
        clock.step_wall(1_000)
        batch = apart(moves_, drivers[0])
        expected = [expect(oracle, clock.wall_us()) for _, expect in batch]
        for driver in drivers:
            outcomes = driver.run_many([build(driver) for build, _ in batch])
            assert [typed(value_of(outcome)) for outcome in outcomes] == [
                typed(reply) for reply in expected
            ]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(st.booleans(), steps_us, moves), min_size=1, max_size=20))
def test_both_faces_see_one_state(
    drivers: list[Driver],
    clock: ManualClock,
    history: list[tuple[bool, int, Move]],
) -> None:
    """What one colour writes the other reads, step by step: a store has two faces, not two states."""
    for driver in drivers:
        if driver.colour == "async":
            driver.begin_anew()
            play_in_both_colours(driver, clock, history)


def play_in_both_colours(
    driver: Driver, clock: ManualClock, history: list[tuple[bool, int, Move]]
) -> None:
    """Play a history on the blocking face of a driver's store where its flag says so, else on the other."""
    oracle = Oracle()
    for blocking, step_us, (build, expect) in history:
        clock.step_wall(step_us)
        face = driver.store if blocking else driver
        assert typed(face.run(build(driver))) == typed(expect(oracle, clock.wall_us()))


@pytest.mark.parametrize(
    "token", [b"", b"\0", b"\0\0a\0", b"\xff" * 70_000, b"*1\r\n$4\r\nPING\r\n"]
)
def test_bytes_return_as_they_went(driver: Driver, token: bytes) -> None:
    """Empty, with NUL, larger than a lane takes for small, or looking like the protocol."""
    assert driver.run(ref.echo(driver.key("e"), token)) == [len(token), token, b""]


def typed(reply: Reply) -> list[tuple[type, object]]:
    """Return a reply with its types: True would equal 1."""
    return [(type(item), item) for item in reply]


def value_of(outcome: Outcome[Reply]) -> Reply:
    """Return what an operation replied."""
    assert isinstance(outcome, Value)
    return outcome.value


def apart(candidates: list[Move], driver: Driver) -> list[Move]:
    """Return the moves whose keys no earlier one has: operations of a batch may not depend on each other."""
    taken: set[bytes] = set()
    kept = []
    for move in candidates:
        keys = set(move[0](driver).keys)
        if not keys & taken:
            kept.append(move)
            taken |= keys
    return kept
