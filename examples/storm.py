"""An upstream fails for twenty seconds: what reaches it meanwhile, with bare retries, with a budget, with a breaker.

    python examples/storm.py [FILE.svg]

Fifty calls a second, each of up to four attempts, on a clock that is moved by hand: a minute takes no time, and each run is alike.
"""

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.resilience import Budget, CircuitBreaker, CircuitOpen, Pipeline, Policy, Retry
from backendkit.resilience.backoffs import full_jitter

SECONDS = 60
CALLS = 50
"""Calls a second."""
FAILS = range(10, 30)
"""The seconds in which the upstream fails."""


@dataclass
class Upstream:
    """What is called; it fails, and recovers, by the clock.

    Attributes:
        clock: tells the second.
        reached: how many calls reached it, by second.
    """

    clock: ManualClock
    reached: list[int] = field(default_factory=lambda: [0] * SECONDS)

    def __call__(self) -> str:
        """Answer, or fail."""
        second = self.clock.mono_us() // SECOND_US
        self.reached[second] += 1
        if second in FAILS:
            raise OSError("no answer")
        return "paid"


def bare(clock: ManualClock) -> Policy:
    """Return four attempts, whatever happens."""
    return Retry(on=(OSError,), attempts=4, backoff=full_jitter(0, cap=0), clock=clock)


def budgeted(clock: ManualClock) -> Policy:
    """Return four attempts, as long as there are not more repetitions than a fifth of the calls."""
    budget = Budget(0.2, reserve=10, per_second=1, clock=clock)
    backoff = full_jitter(0, cap=0)
    return Retry(on=(OSError,), attempts=4, backoff=backoff, budget=budget, clock=clock)


def broken(clock: ManualClock) -> Policy:
    """Return the same behind a breaker, which lets three calls through every five seconds."""
    chance = random.Random(7).random  # noqa: S311 - it spreads openings, and keeps no secret
    breaker = CircuitBreaker(
        "payments", window=100, open_for=5, open_growth=1, trials=3, clock=clock, chance=chance
    )
    return Pipeline(budgeted(clock), breaker)


def run(make: Callable[[ManualClock], Policy]) -> list[int]:
    """Return how many calls reached the upstream in each second."""
    clock = ManualClock()
    upstream, policy = Upstream(clock), make(clock)
    for _ in range(SECONDS * CALLS):
        with suppress(OSError, CircuitOpen):  # the caller's own trouble
            policy.call(upstream)
        clock.advance(SECOND_US // CALLS)
    return upstream.reached


RUNS = {"bare retries": bare, "retries out of a budget": budgeted, "budget and breaker": broken}


def draw(runs: dict[str, list[int]], path: Path) -> None:
    """Draw calls a second over time."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - who only wants numbers needs none

    figure = Figure(figsize=(8, 3.6), layout="tight")
    axes = figure.subplots()
    axes.axvspan(FAILS.start, FAILS.stop, color="0.92", label="the upstream fails")
    for name, reached in runs.items():
        axes.step(range(SECONDS), reached, where="post", label=name)
    axes.set(
        xlabel="second", ylabel="calls that reach it, a second", xlim=(0, SECONDS), ylim=(0, 220)
    )
    axes.legend(loc="upper right")
    figure.savefig(path, format="svg", metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Print what came of it; draw it where a file is named."""
    runs = {name: run(make) for name, make in RUNS.items()}
    for name, reached in runs.items():
        inside = sum(reached[second] for second in FAILS)
        print(
            f"{name:<24} {inside:>5} calls reached the failing upstream, {max(reached):>3} a second at most"
        )
    if arguments:
        draw(runs, Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
