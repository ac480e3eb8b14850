"""What a bare import costs: modules beyond Python's own, and time, in fresh interpreters."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import NamedTuple

ROUNDS = 15

PROGRAM = """
import sys, time
before, start = set(sys.modules), time.perf_counter()
import {name}
print(len(set(sys.modules) - before), (time.perf_counter() - start) * 1000)
"""

PEERS = ("backendkit", "pydantic", "fastapi", "flask")


class Cost(NamedTuple):
    """One import in one fresh interpreter."""

    modules: int
    ms: float


def measure(name: str) -> Cost:
    """Import a package in a fresh interpreter."""
    command = [sys.executable, "-I", "-c", PROGRAM.format(name=name)]
    modules, ms = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return Cost(int(modules), float(ms))


def main() -> None:
    """Print the median over rounds in which all peers take turns."""
    rounds = [[measure(name) for name in PEERS] for _ in range(ROUNDS)]
    print("| import | modules | ms |\n|---|---|---|")
    for name, costs in zip(PEERS, zip(*rounds, strict=True), strict=True):
        ms = statistics.median(cost.ms for cost in costs)
        print(f"| {name} | {costs[0].modules} | {ms:.1f} |")
