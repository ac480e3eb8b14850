"""Breakers as others see them: numbers for curves, a check for readiness, a page for operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from backendkit.core.metrics import Family, Sample
from backendkit.resilience.face import CircuitBreaker

SHUT = frozenset({"open", "forced-open"})
"""The modes in which calls are rejected."""


def families(breakers: Iterable[CircuitBreaker]) -> list[Family]:
    """Return the numbers of breakers: their mode, and outcomes so far, of this process."""
    modes: list[Sample] = []
    calls: list[Sample] = []
    for breaker in breakers:
        modes.append(Sample({"circuit": breaker.name, "state": breaker.current_state}, 1))
        for outcome, count in breaker.totals._asdict().items():
            calls.append(Sample({"circuit": breaker.name, "outcome": outcome}, count))
    return [
        Family("backendkit_circuit_state", "gauge", "1 for the mode that a circuit is in.", modes),
        Family(
            "backendkit_circuit_calls",
            "counter",
            "Calls of a circuit in this process; slow ones also succeeded or failed.",
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
