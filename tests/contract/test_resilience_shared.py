"""The shared circuit: oracle, fold and Lua agree on random histories, on every store in every colour."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.core.operation import Operation
from backendkit.resilience.decide.circuit import MODES
from backendkit.resilience.decide.shared import NOTHING, Answer, Questions, Seen
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW
from backendkit.resilience.policy import BreakerPolicy
from backendkit.stores import MemoryStore
from tests.contract.circuit_oracle import Oracle, policies
from tests.ground.stores import Driver

SECOND = 1_000_000
START = 1_790_000_000_000_000


@dataclass(frozen=True)
class Move:
    """One step of a history."""

    verb: str
    which: int = 0
    bits: int = OK
    retry_after: int = 0
    jitter: int = 0
    successes: int = 0
    may_open: bool = True
    step_us: int = 0
    mode: int = 0


times = st.sampled_from(
    [SECOND // 2, SECOND, 2 * SECOND, 2_500_000, 5 * SECOND, 7 * SECOND, 19 * SECOND, 30 * SECOND]
)
outcomes = st.sampled_from([OK, OK, FAILED, FAILED, SLOW, FAILED | SLOW, IGNORED])
asks = st.builds(Move, st.just("ask"), jitter=st.sampled_from([0, 0, 250]))
tells = st.builds(
    Move,
    st.just("tell"),
    which=st.integers(0, 9),
    bits=outcomes,
    retry_after=st.sampled_from([0, 0, 20 * SECOND]),
)
batches = st.builds(
    Move,
    st.just("tell"),
    which=st.integers(0, 9),
    bits=outcomes,
    jitter=st.sampled_from([0, 999]),
    successes=st.sampled_from([0, 1, 2, 7, 50]),
    may_open=st.booleans(),
)
waits = st.builds(Move, st.just("wait"), step_us=times)
orders = st.builds(Move, st.just("order"), mode=st.integers(0, len(MODES) - 1))
# What only the two spellings are compared by: clocks that step, batches, refusals, a store that has forgotten.
steps = st.builds(
    Move, st.just("wait"), step_us=st.sampled_from([-1, -50 * SECOND, 3_600 * SECOND])
)
losses = st.builds(Move, st.just("lose"))

plain = st.lists(st.one_of(asks, asks, tells, tells, waits, orders), min_size=1, max_size=60)
# Calls, one after the other: what fills windows and decides trials, which moves drawn singly hardly ever do.
calls = st.lists(
    st.builds(
        Move,
        st.just("tell"),
        which=st.just(-1),
        bits=outcomes,
        jitter=st.sampled_from([0, 999]),
        may_open=st.sampled_from([True, True, False]),
    ),
    min_size=1,
    max_size=6,
).map(lambda told: [move for tell in told for move in (Move("ask"), tell)])
shocks = st.one_of(steps, losses, orders)
wild = st.lists(
    st.one_of(
        calls,
        calls,
        calls,
        st.one_of(asks, tells, batches).map(lambda move: [move]),
        waits.map(lambda move: [move]),
        shocks.map(lambda move: [move]),
    ),
    min_size=2,
    max_size=20,
).map(lambda parts: [move for part in parts for move in part])


class Player:
    """Plays moves, and remembers permits and what was last seen."""

    def __init__(self, key: bytes, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.questions = Questions(key, policy.rules())
        self.held: list[int] = []
        self.seen: Seen = NOTHING

    def operation(self, move: Move) -> Operation[Answer] | None:
        """Build what a move asks, if it asks."""
        if move.verb == "ask":
            return self.questions.acquire(self.seen, jitter=move.jitter)
        if move.verb == "order":
            return self.questions.force(self.seen, MODES[move.mode], jitter=move.jitter)
        if move.verb != "tell" or not self.held:
            return None
        generation = self.held.pop(move.which % len(self.held))
        return self.questions.report(
            self.seen,
            generation,
            move.bits,
            successes=move.successes,
            retry_after_us=move.retry_after,
            jitter=move.jitter,
            may_open=move.may_open,
        )

    def learn(self, move: Move, answer: Answer) -> None:
        """Keep a permit, and what was seen."""
        self.seen = answer.seen
        if move.verb == "ask" and answer.granted:
            self.held.append(answer.seen.generation)


@settings(max_examples=400, deadline=None)
@given(history=plain, policy=policies)
def test_the_fold_decides_as_the_oracle(history: list[Move], policy: BreakerPolicy) -> None:
    """State, counts and waits are equal after every step, over all modes, both windows, late answers and orders."""
    clock = ManualClock(wall_us=START)
    store, oracle = MemoryStore(clock=clock), Oracle(policy.rules(), START)
    player = Player(b"k", policy)
    for move in history:
        clock.step_wall(move.step_us)
        oracle.now += move.step_us
        operation = player.operation(move)
        if operation is None:
            continue
        answer = store.run(operation)
        if move.verb == "ask":
            grant = answer.grant()
            assert (grant.granted, grant.retry_after_us) == oracle.acquire()
        elif move.verb == "order":
            oracle.enter(MODES[move.mode])
        elif operation.args[20] == player.seen.generation:
            oracle.report(move.bits, move.retry_after)
        player.learn(move, answer)
        assert answer.seen.mode == oracle.mode
        if move.verb == "tell":
            told(answer, oracle)


def told(answer: Answer, oracle: Oracle) -> None:
    """Compare the windows; between reports, slices that are over are still counted."""
    window = oracle.window()
    if (
        oracle.rules.calls
        or answer.seen.mode == "half-open"
        or (window and oracle.calls[-1][0] == oracle.now)
    ):
        assert answer.window == (
            len(window),
            sum(b & 1 for b in window),
            sum(b >> 1 & 1 for b in window),
        )


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=wild, policy=policies, narrow=st.booleans())
def test_lua_decides_as_the_fold(
    drivers: list[Driver],
    clock: ManualClock,
    history: list[Move],
    policy: BreakerPolicy,
    narrow: bool,
) -> None:
    """The memory store behaves as the fleet will, also while clocks step and stores forget."""
    players = {}
    for driver in drivers:
        driver.begin_anew()
        players[driver] = Player(driver.key("k"), policy)
    for move in history:
        clock.step_wall(move.step_us)
        answers = [played(driver, players[driver], move, narrow=narrow) for driver in drivers]
        for driver, answer in zip(drivers, answers, strict=True):
            assert answer == answers[0], (driver, move)


def played(driver: Driver, player: Player, move: Move, *, narrow: bool) -> Answer | None:
    """Play one move; `narrow` is an asker that knows nothing."""
    if move.verb == "lose":
        driver.begin_anew()
        player.questions = Questions(driver.key("k"), player.policy.rules())
    if narrow:
        player.seen = NOTHING
    operation = player.operation(move)
    if operation is None:
        return None
    answer = driver.run(operation)
    player.learn(move, answer)
    return answer


@pytest.mark.parametrize("calls", [1, 3, 100, 1000])
def test_a_count_window_holds_exactly_the_last_calls(driver: Driver, calls: int) -> None:
    """Over several turns of the ring, told one by one and in batches."""
    policy = BreakerPolicy(window=calls, minimum_calls=1, failure_rate=1, slow_after=1)
    questions = Questions(driver.key("w"), policy.rules())
    driver.run(questions.force(NOTHING, "metrics-only", jitter=0))
    generation = driver.run(questions.acquire(NOTHING, jitter=0)).seen.generation
    log: list[int] = []
    for n in range(23):
        bits, oks = (FAILED, SLOW, OK, FAILED | SLOW)[n % 4], (0, 1, calls // 2, calls)[n * 7 % 4]
        operation = questions.report(NOTHING, generation, bits, successes=oks)
        log += [OK] * oks + [bits]
        last = log[-calls:]
        assert driver.run(operation).window == (
            len(last),
            sum(b & 1 for b in last),
            sum(b >> 1 for b in last),
        )
