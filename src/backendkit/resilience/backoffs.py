"""How long a retry pauses. What is made here is a wait of tenacity's, and any of tenacity's will do in its place."""

from __future__ import annotations

from tenacity import RetryCallState
from tenacity.wait import wait_base

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.resilience.chance import Chance, system_chance


class FullJitter(wait_base):
    """Draws a pause between nothing and a bound that grows with each attempt; see `full_jitter`."""

    def __init__(self, base_us: int, cap_us: int, growth: int, chance: Chance) -> None:
        self._base_us = base_us
        self._cap_us = cap_us
        self._growth = growth
        self._chance = chance

    def bound_us(self, attempt: int) -> int:
        """Return the longest pause after the n-th attempt, in microseconds."""
        bound = self._base_us
        for _ in range(attempt - 1):
            if bound >= self._cap_us or self._growth == 1:
                break
            bound *= self._growth
        return min(bound, self._cap_us)

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the pause after the attempt that just failed, in seconds."""
        return self._chance() * self.bound_us(retry_state.attempt_number) / SECOND_US


def full_jitter(
    base: Duration = 0.1, *, cap: Duration = 5.0, growth: int = 2, chance: Chance | None = None
) -> FullJitter:
    """Return pauses drawn evenly from `0 .. min(cap, base * growth**(attempt - 1))`.

    Clients that failed together come back apart, and with fewer calls than under any other jitter ("Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015).

    Args:
        base: the bound of the first pause.
        cap: no pause is longer.
        growth: the factor from one bound to the next, 1..10.
        chance: draws from 0 up to 1, `random.Random(7).random` for one that repeats itself; None: the operating system.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """
    return FullJitter(
        checks.duration_us("base", base, least_us=0),
        checks.duration_us("cap", cap, least_us=0),
        checks.whole("growth", growth, least=1, most=10),
        chance or system_chance(),
    )
