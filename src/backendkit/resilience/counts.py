"""Breakers as others see them: numbers for curves, a check for readiness, a page for operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from typing import Any

from backendkit.core.metrics import Family, Sample
from backendkit.resilience.decide.circuit import MODES
from backendkit.resilience.face import CircuitBreaker
from backendkit.resilience.registry import CircuitRegistry, added

SHUT = frozenset({"open", "forced-open"})
"""The modes in which calls are rejected."""


def families(registry: CircuitRegistry) -> list[Family]:
    """Return the numbers of breakers, by name: how many are in each mode, and outcomes so far, of this process.

    Hosts are counted together: whoever meets hosts without end would make series without end.
    """
    modes: list[Sample] = []
    calls: list[Sample] = []
    for name, (breakers, gone) in registry.by_name().items():
        found = Counter(breaker.current_state for breaker in breakers)
        modes += [Sample({"circuit": name, "state": mode}, found[mode]) for mode in MODES]
        totals = reduce(added, (breaker.totals for breaker in breakers), gone)
        calls += [
            Sample({"circuit": name, "outcome": outcome}, count)
            for outcome, count in totals._asdict().items()
        ]
    return [
        Family("backendkit_circuit_state", "gauge", "Circuits of a name in a mode.", modes),
        Family(
            "backendkit_circuit_calls",
            "counter",
            "Calls of a name's circuits in this process; slow ones also succeeded or failed.",
            calls,
        ),
    ]


def check(*breakers: CircuitBreaker) -> Callable[[], bool]:
    """Return a check for `Health.add`: it fails while one of these is open.

    Only for what no request can do without: an instance that is not ready gets no requests, and all of them are when their
    common dependency is.
    """

    def closed() -> bool:
        return not any(breaker.current_state in SHUT for breaker in breakers)

    return closed


def described(breaker: CircuitBreaker) -> dict[str, Any]:
    """Return what an operator wants to know, as JSON has it. No message of a failure: secrets may stand in it."""
    calls, failed, slow = breaker.window
    last = breaker.last_failure
    return {
        "name": breaker.name,
        "state": breaker.current_state,
        "window": {"calls": calls, "failed": failed, "slow": slow},
        "totals": breaker.totals._asdict(),
        "lastFailure": None if last is None else {"type": last.type, "at": last.at_us // 1000},
    }
