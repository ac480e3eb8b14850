"""When an entry is refreshed, and how long it lives: pure arithmetic on chance that is handed in."""

from __future__ import annotations

from math import log

LONGEST_EARLY = 16
"""In units of the load's time: before that, an early refresh would come once in ten million reads."""


def jittered(us: int, share: float, chance: float) -> int:
    """Return a time to live shortened by up to `share` of itself, against mass expiry; `chance` is in 0..1."""
    return us - int(us * share * chance)


def early_from(fresh_ns: int, cost_ns: int, beta: float) -> int:
    """Return from when on an early refresh is possible at all."""
    return fresh_ns - int(cost_ns * beta * LONGEST_EARLY)


def refreshes_early(now_ns: int, fresh_ns: int, cost_ns: int, beta: float, chance: float) -> bool:
    """Whether this read refreshes before expiry.

    XFetch: `now - cost * beta * ln(chance) >= expiry`. Source: Vattani, Chierichetti, Lowenstein: Optimal
    Probabilistic Cache Stampede Prevention, VLDB 2015.
    """
    if not beta or not cost_ns:
        return False
    return now_ns - cost_ns * beta * log(max(chance, 1e-7)) >= fresh_ns
