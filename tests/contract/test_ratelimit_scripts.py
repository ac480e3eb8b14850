"""Every algorithm: oracle, fold and Lua agree on random histories, on every store in every colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.core.operation import Operation, Reply
from backendkit.ratelimit.algorithms import ALGORITHMS, Rules
from backendkit.ratelimit.decide import giving, taking
from backendkit.stores import MemoryStore
from tests.contract import oracle
from tests.contract.oracle import Model
from tests.ground.stores import Bench, Driver

MODELS: dict[str, type[Model]] = {
    "log": oracle.Log,
    "buckets": oracle.Buckets,
    "gcra": oracle.Gcra,
    "fixed": oracle.Fixed,
    "seats": oracle.Seats,
}
BY_KIND = {rules.kind: rules for rules in ALGORITHMS}

WINDOW = 7_000_000  # not a multiple of the buckets: their widths differ


@dataclass(frozen=True)
class Move:
    """One step of a history."""

    step_us: int
    verb: str
    cap: int
    least: int
    most: int
    token: int
    span: int
    which: int


HALF, QUARTER, THIRD = WINDOW // 2, WINDOW // 4, WINDOW // 3
steps_us = st.one_of(
    # Quarters and halves add up to a window, so that many an entry is exactly as old, or by one unit off.
    st.sampled_from([0, 0, 1, QUARTER, QUARTER, HALF, HALF, HALF - 1, HALF + 1]),
    st.sampled_from([WINDOW - 1, WINDOW, WINDOW + 1, THIRD, THIRD + 1, 2 * THIRD + 1]),
    st.sampled_from([500_000, 3 * WINDOW, -1, -50_000_000, 3_600_000_000]),
    st.integers(0, HALF),
)
moves = st.builds(
    Move,
    steps_us,
    st.sampled_from(
        ["hit", "hit", "hit", "hit", "grant", "look", "hold", "settle", "give", "twice"]
    ),
    st.sampled_from([3, 3, 3, 1, 5, 40]),
    st.integers(0, 4),
    st.integers(1, 30),
    st.integers(1, 3),
    st.sampled_from([1, HALF, HALF, WINDOW, 5_000_000]),
    st.integers(0, 5),
)
histories = st.lists(moves, min_size=1, max_size=40)


@st.composite
def steady_histories(draw: st.DrawFn) -> list[Move]:
    """A limit that hardly ever changes, small steps: rings of stamps fill, turn over, grow and shrink."""
    cap = draw(st.sampled_from([1, 2, 3, 5, 17, 40]))
    steps = st.sampled_from([0, 1, QUARTER - 1, QUARTER, QUARTER + 1, HALF, WINDOW - 1, WINDOW])
    verbs = st.sampled_from(["hit", "hit", "hit", "grant", "look", "give", "twice"])
    caps = st.sampled_from([cap] * 12 + [cap + 2, max(1, cap - 1), 3 * cap])
    costs, grants = st.integers(0, 3), st.sampled_from([1, 2, cap, 2 * cap])
    one = st.builds(
        Move, steps, verbs, caps, costs, grants, st.just(1), st.just(1), st.integers(0, 3)
    )
    return draw(st.lists(one, min_size=5, max_size=60))


@st.composite
def tentative_histories(draw: st.DrawFn) -> list[Move]:
    """Reservations of three owners that come, are settled or run out, between units that count and rings with room."""
    cap = draw(st.sampled_from([5, 17, 17, 40]))
    steps = st.sampled_from([0, 0, 1, QUARTER, HALF - 1, HALF, WINDOW])
    verbs = st.sampled_from(["hold", "hold", "hold", "settle", "hit", "hit", "look", "give"])
    spans = st.sampled_from([1, QUARTER, HALF, WINDOW])
    owners, receipts = st.integers(1, 3), st.integers(0, 2)
    costs = st.integers(1, 3)
    one = st.builds(Move, steps, verbs, st.just(cap), costs, costs, owners, spans, receipts)
    return draw(st.lists(one, min_size=8, max_size=40))


class Player:
    """Plays moves on anything that runs operations; remembers receipts."""

    def __init__(self, rules: type[Rules], extra: int, key: bytes) -> None:
        self.rules, self.extra, self.key = rules, extra, key
        self.receipts: list[tuple[int, int]] = [(0, 1)]
        self.count = 100

    def operation(self, move: Move) -> Operation[Reply]:
        """Build what a move asks."""
        shape = (1, move.cap, WINDOW, self.extra)
        if move.verb in ("give", "twice"):
            receipt = self.receipts[-1 - move.which % len(self.receipts)]
            return self._op(giving((self.rules,)), (move.token, *shape, *receipt))
        least, most, mode, token = move.least, move.least, 1, 0
        if self.rules.kind == "seats":
            self.count += 1
            token = self.count
        if move.verb == "grant":
            least, most = 1, move.most
        elif move.verb == "look":
            mode = 0
        elif move.verb == "hold":
            mode, token = 2, move.token
        elif move.verb == "settle":
            token = move.token
        return self._op(taking((self.rules,)), (least, most, mode, token, move.span, *shape))

    def _op(self, script: Any, args: Sequence[int]) -> Operation[Reply]:
        return Operation(script, (self.key,), args, lambda reply: reply)

    def learn(self, move: Move, reply: Reply) -> None:
        """Keep the receipt of an admission."""
        if (
            len(reply) > 1
            and reply[0]
            and reply[1]
            and reply[6]
            and move.verb not in ("look", "hold")
        ):
            self.receipts.append((int(reply[6]), int(reply[1])))


def ask(model: Model, now: int, operation: Operation[Reply]) -> list[int]:
    """What the oracle replies to an operation."""
    args: Any = operation.args
    if len(args) == 7:
        return model.give(now, args[5], args[6], args[0])
    least, most, mode, token, span, _, cap, *_ = args
    return model.take(now, cap, least, most, mode, token, span)


@pytest.fixture
def single(bench: Bench) -> Iterator[Driver]:
    """One Redis, whose replies come soon."""
    with bench.driver("single", "sync") as opened:
        yield opened


def extra_of(kind: str) -> int:
    """Buckets, or the rate."""
    return {"buckets": 3, "gcra": 3}.get(kind, 0)


@pytest.mark.parametrize("kind", MODELS)
@settings(max_examples=300, deadline=None)
@given(history=st.one_of(steady_histories(), histories, tentative_histories()))
def test_the_fold_decides_as_the_oracle(kind: str, history: list[Move]) -> None:
    """Decision, remaining units and all waits are exact to the microsecond, while limits change and clocks step."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    player = Player(BY_KIND[kind], extra_of(kind), b"k")
    model = MODELS[kind](WINDOW, extra_of(kind))
    for move in history:
        clock.step_wall(move.step_us)
        operation = player.operation(move)
        reply = store.run(operation)
        assert reply == ask(model, clock.wall_us(), operation), (move, operation.args)
        player.learn(move, reply)


@pytest.mark.parametrize("kind", MODELS)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.one_of(steady_histories(), histories, tentative_histories()))
def test_lua_decides_as_the_oracle(single: Driver, kind: str, history: list[Move]) -> None:
    """Many more histories than all stores could play."""
    single.begin_anew()
    player = Player(BY_KIND[kind], extra_of(kind), single.key("k"))
    model = MODELS[kind](WINDOW, extra_of(kind))
    for move in history:
        single.clock.step_wall(move.step_us)
        operation = player.operation(move)
        reply = single.run(operation)
        assert reply == ask(model, single.clock.wall_us(), operation), (move, operation.args)
        player.learn(move, reply)


@pytest.mark.parametrize("kind", MODELS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories)
def test_lua_decides_as_the_fold(
    drivers: list[Driver], clock: ManualClock, kind: str, history: list[Move]
) -> None:
    """The memory default behaves as the fleet will."""
    players = []
    for driver in drivers:
        driver.begin_anew()
        players.append(Player(BY_KIND[kind], extra_of(kind), driver.key("k")))
    for move in history:
        clock.step_wall(move.step_us)
        replies = []
        for driver, player in zip(drivers, players, strict=True):
            reply = driver.run(player.operation(move))
            player.learn(move, reply)
            replies.append(reply)
        for driver, reply in zip(drivers, replies, strict=True):
            assert reply == replies[0], (driver, move)


def test_what_has_drained_is_not_given_back_again(driver: Driver) -> None:
    """GCRA: of two units one has drained when both are given back; a later one stays counted."""
    rules = BY_KIND["gcra"]
    shape = (1, 3, WINDOW, 3)

    def take(units: int) -> Reply:
        args = (units, units, 1, 0, 0, *shape)
        return driver.run(Operation(taking((rules,)), (driver.key("k"),), args, _same))

    first = take(2)
    driver.clock.step_wall(-(-WINDOW // 3))
    assert take(1)[2] == 2
    give = Operation(giving((rules,)), (driver.key("k"),), (0, *shape, first[6], 2), _same)
    assert driver.run(give) == [2]
    assert take(0)[2] == 1


@pytest.mark.parametrize("kind", ["log", "buckets"])
def test_what_is_given_back_twice_is_nobody_elses(driver: Driver, kind: str) -> None:
    """Of two that came at one time the larger is given back twice: neither the other nor a later one is touched."""
    rules = BY_KIND[kind]
    shape = (1, 9, WINDOW, extra_of(kind))

    def take(units: int) -> Reply:
        args = (units, units, 1, 0, 0, *shape)
        return driver.run(Operation(taking((rules,)), (driver.key("k"),), args, _same))

    large = take(2)
    take(1)
    driver.clock.step_wall(HALF)
    take(3)
    give = Operation(giving((rules,)), (driver.key("k"),), (0, *shape, large[6], 2), _same)
    assert driver.run(give) == [2]
    assert driver.run(give) == [0]
    assert take(0)[2] == 4


def _same(reply: Reply) -> Reply:
    return reply


BOX = (3, WINDOW, 2 * WINDOW, 5 * WINDOW)
"""Three denials within a window block for two, at most for five."""
NO_BOX = (0, 0, 0, 0)

knocks = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, HALF, WINDOW - 1, WINDOW, 2 * WINDOW, 5 * WINDOW, -HALF]),
        st.sampled_from([1, 1, 1, 0, 3]),  # modes: take, look, note
        st.sampled_from([1, 1, 2, 9]),
    ),
    min_size=5,
    max_size=60,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=knocks)
def test_penalty_boxes_close_alike_in_both_spellings(
    single: Driver, history: list[tuple[int, int, int]]
) -> None:
    """Beside a limit without a box, and with several limits in one script; waits and marks to the unit."""
    single.begin_anew()
    memory = MemoryStore(clock=single.clock)
    kinds = (BY_KIND["log"], BY_KIND["fixed"])
    shapes = (1, 1, WINDOW, 0, *BOX, 2, 2, WINDOW, 0, *NO_BOX, 1, 2, HALF, 0, *BOX)
    tag = single.key("k")
    keys = (tag, tag + b"2", tag + b"3", tag + b"box1", tag + b"box3")
    for step, mode, cost in history:
        single.clock.step_wall(step)
        args = (cost, cost, mode, 0, 0, *shapes)
        operation = Operation(taking(kinds, boxed=True), keys, args, _same)
        assert single.run(operation) == memory.run(operation)


def test_a_penalty_box_by_its_definition(single: Driver) -> None:
    """The third denial within the time closes it, for twice as long each time, up to the longest; then all is forgiven."""
    rules = BY_KIND["log"]
    keys = (single.key("k"), single.key("k") + b"box")
    clock = single.clock

    def hit() -> tuple[int, int, int]:
        args = (1, 1, 1, 0, 0, 1, 1, WINDOW, 0, *BOX)
        reply = single.run(Operation(taking((rules,), boxed=True), keys, args, _same))
        return int(reply[0]), int(reply[3]), int(reply[7])

    def closes_for() -> int:
        assert hit() == (1, 0, 0)
        assert [hit()[2] for _ in range(2)] == [0, 0]
        allowed, waits, mark = hit()
        assert (allowed, mark) == (0, 2)
        clock.step_wall(waits - 1)
        assert hit() == (0, 1, 2)
        clock.step_wall(1)
        return waits

    assert [closes_for() for _ in range(4)] == [2 * WINDOW, 4 * WINDOW, 5 * WINDOW, 5 * WINDOW]
    clock.step_wall(5 * WINDOW)
    assert closes_for() == 2 * WINDOW
    clock.step_wall(5 * WINDOW)
    assert hit()[0] == 1
    assert [hit()[2], hit()[2]] == [0, 0]
    clock.step_wall(WINDOW)  # the first denials are too long ago
    assert hit()[0] == 1
    assert [hit()[2], hit()[2]] == [0, 0]
    assert hit()[2] == 2
