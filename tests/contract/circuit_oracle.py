"""The rules of the circuit once more: lists, fractions, no cleverness. Whatever decides is held against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction

from hypothesis import strategies as st

from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW
from backendkit.resilience.policy import PPM, BreakerPolicy, Rules


@dataclass
class Oracle:
    """The rules once more: lists, fractions, no cleverness."""

    rules: Rules
    now: int
    mode: str = "closed"
    calls: list[tuple[int, int]] = field(default_factory=list)
    trials: list[int] = field(default_factory=list)
    out: int = 0
    openings: int = 0
    lapses: int = 0
    until: int = 0

    def acquire(self) -> tuple[bool, int | None]:
        """Return whether a call may run, and when to ask again."""
        if self.mode in {"closed", "disabled", "metrics-only"}:
            return True, None
        if self.mode == "forced-open":
            return False, None
        if self.mode == "open" and self.now >= self.until:
            self.enter("half-open")
        self.lapse()
        if self.mode == "half-open" and self.out + len(self.trials) < self.rules.trials:
            self.out += 1
            return True, None
        return False, self.until - self.now

    def report(self, bits: int, retry_after: int) -> None:
        """Tell what came of a call of this generation."""
        if self.mode == "half-open":
            self.report_trial(bits, retry_after)
        elif bits != IGNORED and self.mode in {"closed", "metrics-only"}:
            self.calls.append((self.now, bits))
            window = self.window()
            few = len(window) < self.rules.minimum
            if self.mode == "closed" and not few and self.bad(window, len(window)):
                self.enter("open", retry_after if bits & FAILED else 0)

    def report_trial(self, bits: int, retry_after: int) -> None:
        """Tell what came of a trial."""
        self.lapse()
        if self.mode != "half-open":
            return
        self.out -= 1
        if bits == IGNORED:
            return
        self.trials.append(bits)
        size = self.rules.trials
        rest = size - len(self.trials)
        if self.bad(self.trials, size):
            self.enter("open", retry_after if bits & FAILED else 0)
        elif not rest or not any(
            self.bad([*self.trials, *[worst] * rest], size)
            for worst in (FAILED, SLOW if self.rules.slow_after_us else OK)
        ):
            self.enter("closed")

    def lapse(self) -> None:
        """End a lease that is over."""
        if self.mode == "half-open" and self.now >= self.until:
            if self.out:
                self.lapses += 1
                self.enter("open")
            else:
                self.until = self.now + self.rules.lease_us * 2**self.lapses

    def enter(self, mode: str, retry_after: int = 0) -> None:
        """Change the mode."""
        if mode == "open":
            self.openings += self.mode != "open" or self.openings == 0
            lasts = self.rules.open_us * self.rules.growth ** (self.openings - 1)
            self.until = self.now + min(max(lasts, retry_after), self.rules.most_us)
        if mode == "half-open":
            self.until = self.now + self.rules.lease_us * 2**self.lapses
        if mode in {"closed", "disabled", "metrics-only"}:
            self.openings = self.lapses = 0
        self.mode, self.calls, self.trials, self.out = mode, [], [], 0

    def window(self) -> list[int]:
        """Return the outcomes that count now."""
        if self.mode == "half-open":
            return self.trials
        if self.rules.calls:
            return [bits for _, bits in self.calls[-self.rules.calls :]]
        newest = self.now // self.rules.slice_us
        return [b for at, b in self.calls if at // self.rules.slice_us > newest - 10]

    def bad(self, outcomes: list[int], size: int) -> bool:
        """Tell whether a share of `size` is reached."""
        failed = Fraction(sum(bits & 1 for bits in outcomes), size)
        slow = Fraction(sum(bits >> 1 & 1 for bits in outcomes), size)
        watched = self.rules.slow_after_us is not None
        return failed >= Fraction(self.rules.failed_ppm, PPM) or (
            watched and slow >= Fraction(self.rules.slow_ppm, PPM)
        )


policies = st.builds(
    BreakerPolicy,
    window=st.one_of(
        st.integers(3, 8), st.sampled_from([timedelta(seconds=10), timedelta(seconds=25)])
    ),
    minimum_calls=st.integers(1, 3),
    failure_rate=st.sampled_from([0.1, 0.3, 1 / 3, 0.5, 0.8, 1]),
    slow_after=st.sampled_from([None, 1]),
    slow_rate=st.sampled_from([0.3, 0.8, 1]),
    open_for=st.sampled_from([1, 5]),
    open_growth=st.integers(1, 3),
    open_most=st.sampled_from([5, 40]),
    jitter=st.just(0),
    trials=st.integers(1, 4),
    lease=st.sampled_from([2, 7]),
)
