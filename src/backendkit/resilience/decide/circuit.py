"""The circuit: six modes, and the two questions that move it, `acquire` and `report`.

    CLOSED ── share of failed or slow calls reached ──> OPEN
    OPEN ── its time is over, at the next acquire ──> HALF_OPEN, with permits for N trials under a lease
    HALF_OPEN ── share reached, or the lease ended with permits out ──> OPEN, for longer
    HALF_OPEN ── every trial told, or health is certain ──> CLOSED
    FORCED_OPEN, DISABLED, METRICS_ONLY: set by hand and left by hand

Each move mints a generation; what was admitted in an earlier one changes nothing. There is no timer: whoever asks
brings the time, and at most one move happens per question.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from backendkit.resilience.decide.windows import (
    FAILED,
    IGNORED,
    OK,
    CountWindow,
    Window,
    empty_window,
)
from backendkit.resilience.policy import DAY_US, PPM, Rules

Mode: TypeAlias = Literal["closed", "open", "half-open", "forced-open", "disabled", "metrics-only"]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
MOVES: Final[tuple[tuple[Mode, Mode, str], ...]] = (
    ("closed", "open", "share of failed or slow calls reached"),
    ("open", "half-open", "its time is over, at the next call"),
    ("half-open", "open", "share reached, or lease over with trials out"),
    ("half-open", "closed", "every trial told, or health is certain"),
)
"""From, to and why: all moves that no hand makes. By hand, each mode leads to each, itself included."""

CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED, METRICS_ONLY = MODES


class Grant(NamedTuple):
    """The answer to `acquire`.

    Attributes:
        granted: whether the call may run.
        generation: what to report with.
        retry_after_us: on a rejection, when to ask again at the latest; None: unknown.
    """

    granted: bool
    generation: int
    retry_after_us: int | None = None


class Circuit:
    """The state of one circuit; only the functions of this module change it.

    Attributes:
        mode: one of `MODES`.
        generation: grows with every move.
        window: what is judged: of a half-open circuit, its trials.
        until_us: the end of the opening, or of the lease.
        openings: how many in a row.
        lapses: how many leases in a row ended with permits out.
        out: permits granted and not reported.
        opened_us: when it last opened; 0: never.
        tripped: calls and failures in the window that opened it last.
        strained: whether it would be open by its window, but only measures or was not let.
    """

    __slots__ = (
        "generation", "lapses", "mode", "opened_us", "openings", "out", "strained", "tripped",
        "until_us", "window",
    )  # fmt: skip

    def __init__(self, rules: Rules, now: int, mode: Mode = "closed") -> None:
        self.mode: Mode = "closed"
        self.generation = 0
        self.window: Window = empty_window(rules, now)
        self.until_us = self.openings = self.lapses = self.out = self.opened_us = 0
        self.tripped: tuple[int, int] = (0, 0)
        self.strained = False
        move(self, rules, mode, now)


def acquire(circuit: Circuit, rules: Rules, now: int, jitter: int = 0) -> Grant:
    """Ask for a permit.

    Args:
        circuit: whose.
        rules: of the circuit.
        now: the time, in microseconds.
        jitter: thousandths to take off an opening, should this question cause one.
    """
    mode = circuit.mode
    if mode == "forced-open":
        return Grant(granted=False, generation=circuit.generation)
    if mode == "open":
        if now < circuit.until_us:
            return _rejected(circuit, now)
        move(circuit, rules, "half-open", now)
    elif mode != "half-open":
        return Grant(granted=True, generation=circuit.generation)
    elif now >= circuit.until_us and _lapsed(circuit, rules, now, jitter):
        return _rejected(circuit, now)
    if circuit.out + circuit.window.total >= rules.trials:
        return _rejected(circuit, now)
    circuit.out += 1
    return Grant(granted=True, generation=circuit.generation)


def report(
    circuit: Circuit,
    rules: Rules,
    generation: int,
    bits: int,
    now: int,
    *,
    jitter: int = 0,
    retry_after_us: int = 0,
    may_open: bool = True,
) -> None:
    """Tell what came of a call.

    Args:
        circuit: whose.
        rules: of the circuit.
        generation: what the permit was granted with.
        bits: OK, FAILED, SLOW, both, or IGNORED.
        now: the time, in microseconds.
        jitter: thousandths to take off an opening, should this cause one.
        retry_after_us: how long a failed dependency asked to be left alone; 0: it did not.
        may_open: whether a closed circuit may open now.
    """
    if generation != circuit.generation:
        return
    asked = retry_after_us if bits & FAILED else 0
    if circuit.mode == "half-open":
        _report_trial(circuit, rules, bits, now, jitter=jitter, asked=asked)
    elif not bits & IGNORED and circuit.mode in {"closed", "metrics-only"}:
        circuit.window.add(bits, now)
        circuit.strained = _reached(circuit.window, rules)
        if circuit.strained and circuit.mode == "closed" and may_open:
            move(circuit, rules, "open", now, jitter=jitter, retry_after_us=asked)


def move(
    circuit: Circuit,
    rules: Rules,
    mode: Mode,
    now: int,
    *,
    jitter: int = 0,
    retry_after_us: int = 0,
) -> None:
    """Enter a mode, by a verdict or by hand: a new generation, an empty window, no permits out."""
    window = circuit.window
    if mode == "open":
        circuit.tripped = (window.total, window.failed)
        # Opening an open circuit again starts its time anew; it is the same opening.
        circuit.openings += circuit.mode != "open" or not circuit.openings
        circuit.opened_us = now
        lasts = opening_us(rules, circuit.openings, jitter)
        circuit.until_us = now + max(lasts, min(retry_after_us, rules.most_us))
    elif mode == "half-open":
        circuit.until_us = now + lease_us(rules, circuit.lapses)
    elif mode == "forced-open":
        circuit.tripped, circuit.opened_us = (window.total, window.failed), now
    if mode in {"closed", "disabled", "metrics-only"}:
        circuit.openings = circuit.lapses = 0
    trials = mode == "half-open"
    circuit.window = CountWindow(rules.trials) if trials else empty_window(rules, now)
    circuit.out = 0
    circuit.strained = False
    circuit.mode = mode
    circuit.generation = max(circuit.generation + 1, now)


def adopt(circuit: Circuit, rules: Rules, now: int) -> None:
    """Go on under other rules; a count window keeps its youngest calls."""
    window = circuit.window
    if circuit.mode == "half-open":
        # Other trials than those that were granted would be judged: begin again.
        move(circuit, rules, "half-open", now)
    elif isinstance(window, CountWindow) and rules.calls:
        circuit.window = window.resized(rules.calls)
    else:
        circuit.window = empty_window(rules, now)


def opening_us(rules: Rules, openings: int, jitter: int) -> int:
    """Return how long the k-th opening in a row lasts."""
    lasts = rules.open_us
    for _ in range(openings - 1):
        if lasts >= rules.most_us or rules.growth == 1:
            break
        lasts *= rules.growth
    lasts = min(lasts, rules.most_us)
    return max(1, lasts - lasts * jitter // 1000)


def lease_us(rules: Rules, lapses: int) -> int:
    """Return how long the trials have, after so many leases in a row that ended with permits out."""
    lasts = rules.lease_us
    for _ in range(lapses):
        if lasts >= DAY_US:
            break
        lasts *= 2
    return min(lasts, DAY_US)


def _report_trial(
    circuit: Circuit, rules: Rules, bits: int, now: int, *, jitter: int, asked: int
) -> None:
    if not circuit.out or (now >= circuit.until_us and _lapsed(circuit, rules, now, jitter)):
        return
    circuit.out -= 1
    if bits & IGNORED:
        if not rules.ignored_pass:
            return
        bits = OK
    circuit.window.add(bits, now)
    healthy = _judge_trials(circuit.window, rules)
    if healthy is False:
        move(circuit, rules, "open", now, jitter=jitter, retry_after_us=asked)
    elif healthy:
        move(circuit, rules, "closed", now)


def _lapsed(circuit: Circuit, rules: Rules, now: int, jitter: int) -> bool:
    """At the end of a lease: open again if permits are out, else go on under a new one."""
    if not circuit.out:
        circuit.until_us = now + lease_us(rules, circuit.lapses)
        return False
    circuit.lapses += 1
    move(circuit, rules, "open", now, jitter=jitter)
    return True


def _reached(window: Window, rules: Rules) -> bool:
    calls = window.total
    return calls >= rules.minimum and (
        window.failed * PPM >= rules.failed_ppm * calls
        or (rules.slow_after_us is not None and window.slow * PPM >= rules.slow_ppm * calls)
    )


def _judge_trials(window: Window, rules: Rules) -> bool | None:
    """Return whether the trials were healthy, or None where that is not certain yet."""
    size, rest = rules.trials, rules.trials - window.total
    failed_most = rules.trial_failed_ppm * size
    # What cannot be slow does not keep the verdict waiting.
    slow_most = rules.slow_ppm * size if rules.slow_after_us is not None else size * PPM + 1
    if window.failed * PPM >= failed_most or window.slow * PPM >= slow_most:
        return False
    certain = (window.failed + rest) * PPM < failed_most and (window.slow + rest) * PPM < slow_most
    return True if certain or not rest else None


def _rejected(circuit: Circuit, now: int) -> Grant:
    return Grant(
        granted=False,
        generation=circuit.generation,
        retry_after_us=max(circuit.until_us - now, 0),
    )
