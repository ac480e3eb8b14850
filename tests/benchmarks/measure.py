"""Measuring: rivals in turn, round by round, so that a machine whose speed drifts slows all of them alike.

Wall time and the CPU time of this process are told apart. What counts is the median over the rounds, and for a
comparison the median of the ratios within each round.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

from tests.ground.lifeline import tied


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call of something costs, in microseconds."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Duel:
    """Medians of two rivals, and of the ratios ours / theirs of each round."""

    ours: Cost
    theirs: Cost
    wall_ratio: float
    cpu_ratio: float


@dataclass(frozen=True, slots=True)
class Raced:
    """Medians of one rival in a race, and of the ratios of its CPU time to the first one's of each round."""

    cost: Cost
    ratio: float


def cost_of(work: Callable[[int], None], calls: int) -> Cost:
    """Return what each of `calls` calls costs; `work(n)` makes n of them. No collection interrupts it."""
    gc.collect()
    gc.disable()
    try:
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        work(calls)
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
    finally:
        gc.enable()
    return Cost(wall / calls / 1000, cpu / calls / 1000)


def median_cost(work: Callable[[int], None], calls: int, *, rounds: int = 9) -> Cost:
    """Return the medians over several rounds, after one that warms up."""
    work(max(calls // 10, 1))
    return _middle([cost_of(work, calls) for _ in range(rounds)])


def duel(
    ours: Callable[[int], None], theirs: Callable[[int], None], calls: int, *, rounds: int = 9
) -> Duel:
    """Measure two rivals in turn, after a round of each that warms up."""
    for work in (ours, theirs):
        work(max(calls // 10, 1))
    pairs = [(cost_of(ours, calls), cost_of(theirs, calls)) for _ in range(rounds)]
    return Duel(
        ours=_middle([mine for mine, _ in pairs]),
        theirs=_middle([other for _, other in pairs]),
        wall_ratio=median(mine.wall / other.wall for mine, other in pairs),
        cpu_ratio=median(mine.cpu / other.cpu for mine, other in pairs),
    )


def race(
    rivals: Mapping[str, Callable[[int], None]], calls: int, *, rounds: int = 15
) -> dict[str, Raced]:
    """Measure several rivals in turn; the first one is what the others are compared with."""
    for work in rivals.values():
        work(max(calls // 4, 1))
    found = [{name: cost_of(work, calls) for name, work in rivals.items()} for _ in range(rounds)]
    first = next(iter(rivals))
    return {
        name: Raced(
            _middle([one[name] for one in found]),
            median(one[name].cpu / one[first].cpu for one in found),
        )
        for name in rivals
    }


@contextmanager
def awake() -> Iterator[None]:
    """Keep the cores from falling asleep, for all rivals alike.

    Waking a core costs up to 40 us, which is more than all else in a round trip, and falls on whoever waits longest. One
    process per core turns in a circle and gives way to everybody: the scheduler takes its core for idle.
    """
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    turning = [
        subprocess.Popen(tied(sys.executable, "-c", spin)) for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in turning:
            process.kill()
            process.wait()


def bare_trip(port: int, payload: bytes, replies: int) -> Callable[[int], None]:
    """Return the floor of a round trip: a socket that sends these bytes and reads so many replies, by hiredis alone."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader: Any = import_module("hiredis").Reader()
    buffer = bytearray(65_536)
    send, receive, feed, gets = connection.sendall, connection.recv_into, reader.feed, reader.gets

    def work(calls: int) -> None:
        for _ in range(calls):
            send(payload)
            for _ in range(replies):
                while gets() is False:
                    feed(buffer, 0, receive(buffer))

    return work


def _middle(costs: list[Cost]) -> Cost:
    return Cost(median(cost.wall for cost in costs), median(cost.cpu for cost in costs))
