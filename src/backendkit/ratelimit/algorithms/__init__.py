"""The algorithms, one file each: the rule in Lua, the same rule in Python, and what a limit may set about it."""

from __future__ import annotations

from typing import TypeAlias

from backendkit.ratelimit.algorithms.concurrency import Concurrency
from backendkit.ratelimit.algorithms.fixed_window import FixedWindow
from backendkit.ratelimit.algorithms.gcra import GCRA
from backendkit.ratelimit.algorithms.kept import Rules
from backendkit.ratelimit.algorithms.sliding_buckets import SlidingBuckets
from backendkit.ratelimit.algorithms.sliding_log import SlidingLog

Algorithm: TypeAlias = SlidingLog | SlidingBuckets | GCRA | FixedWindow | Concurrency
"""What a limit counts by."""

ALGORITHMS: tuple[type[Rules], ...] = (
    SlidingLog,
    SlidingBuckets,
    GCRA,
    FixedWindow,
    Concurrency,
)
"""All of them; a script names one by its place here."""

__all__ = [
    "ALGORITHMS",
    "GCRA",
    "Algorithm",
    "Concurrency",
    "FixedWindow",
    "Rules",
    "SlidingBuckets",
    "SlidingLog",
]
