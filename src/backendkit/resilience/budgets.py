"""How many repetitions a service may afford: a token bucket that calls fill and repetitions empty.

Retries multiply load exactly when there is too much of it. A budget bounds them by a share of the calls (Finagle's
RetryBudget: 20 % and a reserve), however many attempts each single call would be allowed.
"""

from __future__ import annotations

import threading

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.fork import hold_during_fork
from backendkit.resilience.policy import PPM
from backendkit.resilience.policy import share as in_ppm


class Budget:
    """Lets at most `share` of the calls be repeated, plus a reserve. Share one between retries and hedges.

    Over any stretch of time, repetitions <= share * calls + reserve + per_second * seconds. Safe to use from any thread.

    Args:
        share: of the calls, above 0 and at most 1.
        reserve: repetitions that are there from the start, 0..1,000,000.
        per_second: repetitions that each second brings while there are fewer than `reserve`, 0..1,000,000: a service
            that is seldom called may repeat, too.
        most: how many may be saved up, 1..1,000,000; None: ten times the reserve, at least 100.
        clock: None: the machine's.

    Attributes:
        calls: how many have been made. Whoever calls adds one; it needs no lock, for one that is lost only makes the
            budget smaller.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self,
        share: float = 0.2,
        *,
        reserve: int = 10,
        per_second: float = 1.0,
        most: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._share = in_ppm("share", share)
        self._reserve = checks.whole("reserve", reserve, most=1_000_000) * PPM
        self._per_second = _rate("per_second", per_second)
        usual = max(100, 10 * reserve)
        bound = usual if most is None else checks.whole("most", most, least=1, most=1_000_000)
        self._most = max(bound * PPM, self._reserve)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._lock = threading.Lock()
        self._tokens = self._reserve
        self._seen_calls = 0
        self._seen_us = self._clock.mono_us()
        self.calls = 0
        self.spent = 0
        self.refused = 0
        hold_during_fork(self)

    @property
    def fork_lock(self) -> threading.Lock:
        """The lock within which tokens change."""
        return self._lock

    @property
    def left(self) -> float:
        """Repetitions that it could pay for now."""
        with self._lock:
            self._catch_up()
            return self._tokens / PPM

    def take(self) -> bool:
        """Pay for one repetition, if there is enough."""
        with self._lock:
            self._catch_up()
            if self._tokens < PPM:
                self.refused += 1
                return False
            self._tokens -= PPM
            self.spent += 1
            return True

    def _catch_up(self) -> None:
        calls, now = self.calls, self._clock.mono_us()
        if self._tokens < self._reserve:
            brought = (now - self._seen_us) * self._per_second // SECOND_US
            self._tokens = min(self._tokens + brought, self._reserve)
        self._tokens = min(self._tokens + (calls - self._seen_calls) * self._share, self._most)
        self._seen_calls, self._seen_us = calls, now


class Unlimited:
    """The budget of whoever has none.

    Attributes:
        calls: as a budget's.
    """

    calls = 0

    def take(self) -> bool:
        """Pay."""
        return True


def _rate(argument: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= PPM:
        raise InvalidArgument(argument, "must be in 0..1,000,000", value)
    return round(value * PPM)
