"""The circuit against a slow oracle of its rules, over random histories, and the corners that have bitten others."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.resilience.decide.circuit import (
    MODES,
    MOVES,
    Circuit,
    acquire,
    lease_us,
    opening_us,
)
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW, CountWindow
from backendkit.resilience.machine import Machine, Moved
from backendkit.resilience.policy import BreakerPolicy
from tests.contract.circuit_oracle import Oracle, policies

SECOND = 1_000_000


class CircuitMachine(RuleBasedStateMachine):
    """Random histories of questions, late answers, time and orders, on the machine and on the oracle."""

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        """Make both."""
        self.clock = ManualClock(mono_us=7)
        self.moves: list[Moved] = []
        rules = policy.rules()
        self.machine = Machine(rules, clock=self.clock, chance=lambda: 0.0, moves=self.moves)
        self.oracle = Oracle(rules, 7)
        self.held: list[int] = []
        self.ordered: set[int] = set()

    @rule()
    def ask(self) -> None:
        """The answers agree, retry_after included."""
        grant = self.machine.acquire()
        assert (grant.granted, grant.retry_after_us) == self.oracle.acquire()
        assert grant.generation == self.machine.generation
        if grant.granted:
            self.held.append(grant.generation)

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 100),
        bits=st.sampled_from([OK, OK, FAILED, FAILED, SLOW, FAILED | SLOW, IGNORED]),
        retry_after=st.sampled_from([0, 0, 20 * SECOND]),
    )
    def tell(self, which: int, bits: int, retry_after: int) -> None:
        """Of an old generation, nothing changes."""
        generation = self.held.pop(which % len(self.held))
        if generation == self.machine.generation:
            self.oracle.report(bits, retry_after)
        self.machine.report(generation, bits, retry_after)

    @rule(bits=st.lists(st.sampled_from([OK, OK, OK, FAILED]), min_size=3, max_size=9))
    def tell_many(self, bits: list[int]) -> None:
        """Calls one after the other, by the short way where it is open."""
        for bit in bits:
            generation = self.machine.generation
            if not self.machine.closed:
                return
            self.oracle.report(bit, 0)
            if bit is not OK or not self.machine.ended_well(generation, None):
                self.machine.report(generation, bit)

    @rule(seconds=st.sampled_from([0.5, 1, 2, 2.5, 5, 7, 30]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(int(seconds * SECOND))
        self.oracle.now += int(seconds * SECOND)

    @rule(mode=st.sampled_from(MODES))
    def order(self, mode: str) -> None:
        """Set a mode by hand."""
        self.machine.force(mode)  # type: ignore[arg-type] # one of MODES
        self.ordered.add(self.machine.generation)
        self.oracle.enter(mode)

    @invariant()
    def agree(self) -> None:
        """Mode and counts are the same, permits are never more than there are trials, moves follow each other."""
        if not hasattr(self, "machine"):
            return
        window = self.oracle.window()
        failed, slow = sum(b & 1 for b in window), sum(b >> 1 & 1 for b in window)
        assert self.machine.mode == self.oracle.mode
        assert self.machine.window() == (len(window), failed, slow)
        if self.oracle.mode == "half-open":
            out = self.held.count(self.machine.generation)
            assert out == self.oracle.out <= self.oracle.rules.trials
        changes = [moved for moved in self.moves if not moved.strained]
        generations = [moved.generation for moved in changes]
        assert generations == sorted(set(generations))
        following = pairwise(changes)
        assert all(one.new == other.old for one, other in following)
        own = {(one.old, one.new) for one in changes if one.generation not in self.ordered}
        assert own <= {(old, new) for old, new, _ in MOVES}


CircuitMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCircuitMachine = CircuitMachine.TestCase


def machine_of(policy: BreakerPolicy, clock: ManualClock) -> Machine:
    """Make a machine without chance."""
    return Machine(policy.rules(), clock=clock, chance=lambda: 0.0)


def test_a_hanging_dependency_gets_geometrically_fewer_calls() -> None:
    """Trials that outlast their lease must not let N calls through per lease for ever."""
    clock = ManualClock()
    machine = machine_of(BreakerPolicy(open_for=5, lease=4, open_most=600), clock)
    machine.force("open")
    let_through: Counter[int] = Counter()
    for second in range(4_000):
        clock.advance(SECOND)
        let_through[second // 1_000] += machine.acquire().granted
    assert let_through[0] > let_through[3]
    assert sum(let_through.values()) < 40


def test_a_slow_but_healthy_dependency_closes_in_the_end() -> None:
    """The lease doubles until the trials fit into it."""
    clock = ManualClock()
    machine = machine_of(BreakerPolicy(open_for=1, lease=4, trials=2), clock)
    machine.force("open")
    running: list[tuple[int, int]] = []
    for second in range(400):
        clock.advance(SECOND)
        for done in [call for call in running if call[0] <= second]:
            running.remove(done)
            machine.report(done[1], OK)
        grant = machine.acquire()
        if grant.granted:
            running.append((second + 20, grant.generation))
    assert machine.mode == "closed"


def test_a_lease_without_permits_out_renews_in_the_same_generation() -> None:
    """Nobody is told of a failure that did not happen."""
    clock = ManualClock()
    machine = machine_of(BreakerPolicy(lease=4), clock)
    machine.force("half-open")
    generation = machine.generation
    clock.advance(100 * SECOND)
    assert machine.acquire() == (True, generation, None)
    assert machine.mode == "half-open"


def test_ignored_trials_give_their_permits_back() -> None:
    """The circuit stays half-open, unless told that what is ignored passes."""
    clock = ManualClock()
    for passes, mode in ((False, "half-open"), (True, "closed")):
        machine = machine_of(BreakerPolicy(trials=2, ignored_trials_pass=passes), clock)
        machine.force("half-open")
        for _ in range(5):
            grant = machine.acquire()
            assert grant.granted
            machine.report(grant.generation, IGNORED)
        assert machine.mode == mode


def test_more_answers_than_permits_change_nothing() -> None:
    """A trial that is told twice counts once."""
    machine = machine_of(BreakerPolicy(trials=4, failure_rate=1), ManualClock())
    machine.force("half-open")
    grant = machine.acquire()
    for _ in range(4):
        machine.report(grant.generation, FAILED)
    assert machine.mode == "half-open"


def test_openings_grow_up_to_a_bound_and_jitter_shortens_them() -> None:
    """The k-th lasts min(D * b**(k-1), Dmax), less the drawn share."""
    rules = BreakerPolicy(open_for=2, open_growth=3, open_most=50).rules()
    lasts = [opening_us(rules, k, 0) // SECOND for k in (1, 2, 3, 4, 5, 10_000)]
    assert lasts == [2, 6, 18, 50, 50, 50]
    assert opening_us(rules, 2, 250) == 4_500_000
    assert opening_us(rules, 1, 1000) == 1


def test_leases_double_up_to_a_day() -> None:
    """However often they lapse."""
    rules = BreakerPolicy(lease=30).rules()
    assert [lease_us(rules, k) // SECOND for k in (0, 1, 2, 99)] == [30, 60, 120, 86_400]


def test_a_retry_after_extends_an_opening_at_most_to_its_bound() -> None:
    """A shorter one does not shorten it."""
    for asked, until in ((1, 30), (90, 90), (9_999, 600)):
        clock = ManualClock()
        machine = machine_of(BreakerPolicy(minimum_calls=1, jitter=0), clock)
        machine.report(machine.generation, FAILED, asked * SECOND)
        assert machine.acquire().retry_after_us == until * SECOND


def test_a_circuit_that_only_measures_says_once_that_it_is_strained() -> None:
    """It never rejects."""
    moves: list[Moved] = []
    policy = BreakerPolicy(minimum_calls=2, window=4)
    machine = Machine(policy.rules(), clock=ManualClock(), chance=lambda: 0.0, moves=moves)
    machine.force("metrics-only")
    for bits in (FAILED, FAILED, FAILED, OK, OK, OK, OK, FAILED, FAILED):
        assert machine.acquire().granted
        machine.report(machine.generation, bits)
    assert [moved.strained for moved in moves] == [False, True, True]
    assert moves[1][:2] == ("metrics-only", "metrics-only")
    assert moves[1].calls == moves[1].failed == 2


def test_a_disabled_circuit_records_nothing() -> None:
    """It grants everything."""
    machine = machine_of(BreakerPolicy(minimum_calls=1), ManualClock())
    machine.force("disabled")
    machine.report(machine.generation, FAILED)
    assert machine.acquire().granted
    assert machine.window() == (0, 0, 0)


def test_thirds_are_not_off_by_one() -> None:
    """Shares are compared as integers."""
    machine = machine_of(
        BreakerPolicy(window=3, minimum_calls=3, failure_rate=1 / 3), ManualClock()
    )
    for bits in (OK, OK, FAILED):
        machine.report(machine.generation, bits)
    assert machine.mode == "open"
    assert machine.failure_rate == pytest.approx(1 / 3)


def test_other_rules_keep_the_youngest_calls() -> None:
    """A count window is cut or has room; a time window, or trials, begin anew."""
    clock = ManualClock()
    machine = machine_of(BreakerPolicy(window=4, minimum_calls=4), clock)
    for bits in (FAILED, OK, OK, OK, SLOW, FAILED):
        machine.report(machine.generation, bits)
    assert machine.window() == (4, 1, 1)
    machine.adopt(BreakerPolicy(window=2, minimum_calls=2, failure_rate=1).rules())
    assert machine.window() == (2, 1, 1)
    machine.adopt(BreakerPolicy(window=100).rules())
    assert machine.window() == (2, 1, 1)
    machine.adopt(BreakerPolicy(window=timedelta(minutes=1)).rules())
    assert machine.window() == (0, 0, 0)
    machine.force("half-open")
    generation = machine.acquire().generation
    machine.adopt(BreakerPolicy(trials=1).rules())
    assert machine.mode == "half-open"
    assert machine.generation > generation
    assert CountWindow(3).resized(2).total == 0


def test_jitter_is_drawn_from_what_was_handed_in() -> None:
    """The largest draw takes the whole share off."""
    clock = ManualClock()
    machine = Machine(
        BreakerPolicy(open_for=10, jitter=0.5).rules(), clock=clock, chance=lambda: 0.9999999
    )
    machine.force("open")
    assert machine.acquire().retry_after_us == 5 * SECOND


def test_totals_count_what_the_window_forgot() -> None:
    """Late and ignored outcomes, too."""
    machine = machine_of(BreakerPolicy(minimum_calls=1, failure_rate=0.4), ManualClock())
    late = machine.generation
    for bits in (OK, SLOW, IGNORED, FAILED | SLOW):
        machine.report(late, bits)
    machine.quick += 1
    machine.report(late, FAILED)
    assert not machine.acquire().granted
    assert machine.totals() == (3, 2, 2, 1, 1)


def test_a_generation_is_never_older_than_the_clock() -> None:
    """So that a state that was lost does not meet reports of its former life."""
    rules = BreakerPolicy().rules()
    circuit = Circuit(rules, 5_000)
    assert circuit.generation == 5_000
    assert acquire(circuit, rules, 4_000).generation == 5_000


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"window": 5}, "minimum_calls"),
        ({"window": 0}, "window"),
        ({"window": timedelta(0)}, "window"),
        ({"failure_rate": 0}, "failure_rate"),
        ({"failure_rate": 1.1}, "failure_rate"),
        ({"failure_rate": True}, "failure_rate"),
        ({"slow_rate": float("nan")}, "slow_rate"),
        ({"slow_after": 0}, "slow_after"),
        ({"jitter": -0.1}, "jitter"),
        ({"trials": 0}, "trials"),
        ({"lease": -1}, "lease"),
        ({"trial_failure_rate": 2}, "trial_failure_rate"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    options: dict[str, object], argument: str
) -> None:
    """Where it is made, by name."""
    with pytest.raises(InvalidArgument) as refused:
        BreakerPolicy(**options).rules()  # type: ignore[arg-type] # wrong on purpose
    assert refused.value.argument == argument
