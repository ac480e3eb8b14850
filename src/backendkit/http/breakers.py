"""What operators may do to circuit breakers: list them, set a mode, reset. Framework-free; adapters add routes and a guard."""

from __future__ import annotations

from typing import Any

from backendkit.core.errors import InvalidArgument
from backendkit.errors import BadRequest, NotFound
from backendkit.resilience import CircuitBreaker, CircuitRegistry
from backendkit.resilience.counts import described
from backendkit.resilience.standing import mode_of


def listed(registry: CircuitRegistry) -> dict[str, Any]:
    """Return all circuits, by name."""
    circuits = sorted((described(breaker) for breaker in registry), key=lambda it: it["name"])
    return {"circuits": circuits}


def forced(registry: CircuitRegistry, name: str, mode: object) -> dict[str, Any]:
    """Set a circuit's mode by hand, for all processes that share it, and return the circuit.

    Raises:
        NotFound: there is none of this name.
        BadRequest: there is no such mode.
        StoreError: it holds for this process alone, as the store is down.
    """
    breaker = _found(registry, name)
    try:
        wanted = mode_of(mode)
    except InvalidArgument as error:
        raise BadRequest(str(error)) from error
    breaker.state = wanted
    return described(breaker)


def reset(registry: CircuitRegistry, name: str) -> dict[str, Any]:
    """Close a circuit, with an empty window, and return it; raises as `forced`."""
    return forced(registry, name, "closed")


def _found(registry: CircuitRegistry, name: str) -> CircuitBreaker:
    breaker = registry.find(name)
    if breaker is None:
        raise NotFound("no circuit has this name")
    return breaker
