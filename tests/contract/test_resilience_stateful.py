"""Circuits that processes share, held against the oracle step by step: every store, both colours, one process and three."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backendkit.core.clock import ManualClock
from backendkit.resilience import shared
from backendkit.resilience.decide.circuit import MODES, Grant
from backendkit.resilience.decide.shared import NOTHING, Questions
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW
from backendkit.resilience.machine import Moved
from backendkit.resilience.policy import BreakerPolicy
from backendkit.resilience.shared import SharedMachine
from tests.contract.circuit_oracle import Oracle, policies
from tests.ground.stores import Driver, LoopThread

SECOND = 1_000_000


class Fleet:
    """Machines of one circuit, as of several processes, in one colour."""

    def __init__(
        self, driver: Driver, clock: ManualClock, loop: LoopThread, *, processes: int
    ) -> None:
        self.driver = driver
        self.clock = clock
        self.loop = loop
        self.processes = processes
        self.machines: list[SharedMachine] = []
        self.moves: list[list[Moved]] = []

    def begin(self, policy: BreakerPolicy) -> None:
        """Make them anew, of a circuit that nobody knows."""
        self.driver.begin_anew()
        self.moves = [[] for _ in range(self.processes)]
        self.machines = [
            SharedMachine(
                policy.rules(),
                name="pay",
                store=self.driver.store,
                namespace=self.driver.key("n").hex(),
                coalesce_us=0,
                clock=self.clock,
                chance=lambda: 0.0,
                moves=moves,
                drain=lambda: None,
            )
            for moves in self.moves
        ]

    def ask(self, which: int) -> Grant:
        """Have one process ask for a permit."""
        machine = self.machines[which % self.processes]
        if self.driver.colour == "sync":
            return machine.acquire()
        return self.loop.run(machine.acquire_async())

    def tell(self, which: int, generation: int, bits: int, retry_after_us: int) -> SharedMachine:
        """Have one process tell an outcome."""
        machine = self.machines[which % self.processes]
        if self.driver.colour == "sync":
            machine.report(generation, bits, retry_after_us)
            machine.tell()
        else:
            self.loop.run(_told(machine, generation, bits, retry_after_us))
        return machine


async def _told(machine: SharedMachine, generation: int, bits: int, retry_after_us: int) -> None:
    machine.report(generation, bits, retry_after_us)
    machine.tell_soon()
    while tasks := list(machine._tasks):
        await asyncio.wait(tasks)


class SharedCircuits(RuleBasedStateMachine):
    """Random histories of questions, late answers, time and orders, by any of the processes, and on the oracle."""

    fleet: Fleet

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        """Make all."""
        fleet = self.fleet
        fleet.begin(policy)
        self.generation = 0
        self.held: list[tuple[int, int]] = []
        self.oracle = Oracle(policy.rules(), fleet.clock.wall_us())
        self.ask(0)
        self.first = self.generation

    @rule(which=st.integers(0, 2))
    def ask(self, which: int) -> None:
        """The answers agree, retry_after included."""
        grant = self.fleet.ask(which)
        assert (grant.granted, grant.retry_after_us) == self.oracle.acquire()
        self.look()
        assert grant.generation == self.generation
        if grant.granted:
            self.held.append((which, grant.generation))

    @precondition(lambda self: self.held)
    @rule(
        which=st.integers(0, 100),
        bits=st.sampled_from([OK, OK, FAILED, FAILED, SLOW, FAILED | SLOW, IGNORED]),
        retry_after=st.sampled_from([0, 0, 20 * SECOND]),
    )
    def tell(self, which: int, bits: int, retry_after: int) -> None:
        """Of an old generation, nothing changes; else the one that told it knows the window."""
        process, generation = self.held.pop(which % len(self.held))
        mode = self.oracle.mode
        current = generation == self.generation
        if current:
            self.oracle.report(bits, retry_after)
        machine = self.fleet.tell(process, generation, bits, retry_after)
        if current and bits != IGNORED and mode in {"closed", "half-open", "metrics-only"}:
            window = self.oracle.window()
            failed, slow = sum(b & 1 for b in window), sum(b >> 1 & 1 for b in window)
            assert machine.window() == (len(window), failed, slow)

    @rule(halves=st.one_of(st.sampled_from([1, 2, 4, 5, 10, 14, 60]), st.integers(1, 120)))
    def wait(self, halves: int) -> None:
        """Let time pass."""
        self.fleet.clock.advance(halves * SECOND // 2)
        self.oracle.now += halves * SECOND // 2

    @rule(which=st.integers(0, 2), mode=st.sampled_from(MODES))
    def order(self, which: int, mode: str) -> None:
        """Set a mode by hand."""
        machine = self.fleet.machines[which % self.fleet.processes]
        machine.force(mode)  # type: ignore[arg-type] # one of MODES
        self.oracle.enter(mode)

    @invariant()
    def look(self) -> None:
        """Who knows most knows the oracle's mode; permits are as many; each move is told once as one's own."""
        machines = self.fleet.machines
        if not machines or not hasattr(self, "oracle"):
            return
        newest = max(machines, key=lambda machine: machine.generation)
        self.generation = newest.generation
        assert newest.mode == self.oracle.mode
        assert not any(machine.alone for machine in machines)

    def teardown(self) -> None:
        """Moves follow each other in every process, and each has one cause."""
        own, heard = list[int](), set[int]()
        for moves in self.fleet.moves:
            changes = [moved for moved in moves if not moved.strained]
            assert all(one.new == other.old for one, other in pairwise(changes))
            assert all(one.generation <= other.generation for one, other in pairwise(changes))
            own += [moved.generation for moved in changes if not moved.observed]
            heard |= {moved.generation for moved in changes if moved.observed}
        assert len(own) == len(set(own))
        assert heard <= {*own, self.first, 0}


@pytest.mark.parametrize("processes", [1, 3])
def test_what_processes_share_decides_as_the_oracle(
    driver: Driver,
    clock: ManualClock,
    loop_thread: LoopThread,
    processes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """State, counts and waits are equal after every step; what several know is not a second old here, but fresh."""
    if processes > 1:
        monkeypatch.setattr(shared, "LOOK_US", 0)

    class Circuits(SharedCircuits):
        fleet = Fleet(driver, clock, loop_thread, processes=processes)

    examples = 60 if driver.kind == "memory" else 12
    run_state_machine_as_test(
        Circuits,
        settings=settings(max_examples=examples, stateful_step_count=40, deadline=None),
    )


@pytest.mark.parametrize("first", [0, 3, 9])
def test_a_time_window_holds_exactly_its_ten_slices(
    driver: Driver, clock: ManualClock, first: int
) -> None:
    """Whatever lies between two calls: less than the window, its whole width, or several turns of the ring."""
    slice_us = SECOND
    policy = BreakerPolicy(
        window=timedelta(seconds=10), minimum_calls=1, failure_rate=1, slow_after=1
    )
    clock.step_wall(-(clock.wall_us() % (10 * slice_us)) + first * slice_us)
    for gap in range(1, 32):
        questions = Questions(driver.key(f"t{gap}"), policy.rules())
        seen = driver.run(questions.force(NOTHING, "metrics-only", jitter=0)).seen
        log: list[tuple[int, int]] = []
        steps = [(FAILED, 1), (SLOW, 1), (OK, gap), (FAILED | SLOW, 0), (OK, 0)]
        for bits, slices in steps:
            at = clock.wall_us() // slice_us
            log.append((at, bits))
            last = [b for when, b in log if when > at - 10]
            answer = driver.run(questions.report(NOTHING, seen.generation, bits))
            failed, slow = sum(b & 1 for b in last), sum(b >> 1 for b in last)
            assert answer.window == (len(last), failed, slow), gap
            clock.step_wall(slices * slice_us)
