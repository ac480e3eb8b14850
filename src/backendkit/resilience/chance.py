"""Where randomness comes from: the one room of the library that imports `random`, and only to be handed on."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

Chance: TypeAlias = Callable[[], float]
"""Draws a number from 0 up to, but not including, 1."""


def system_chance() -> Chance:
    """Return the operating system's own draws: a generator with a seed would draw alike in every forked worker."""
    return random.SystemRandom().random
