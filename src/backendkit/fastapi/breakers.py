"""Circuit breakers for operators: a router to include where only they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from backendkit.http import breakers
from backendkit.resilience import CircuitRegistry


def breakers_router(
    registry: CircuitRegistry, *, guard: Callable[..., Any], prefix: str = "/circuits"
) -> APIRouter:
    """Return routes to list (`GET`), set (`PUT /name` with `{"mode": ...}`) and reset (`DELETE /name`) circuits.

    Args:
        registry: whose circuits, like `kit.breakers`.
        guard: a dependency that raises unless whoever asks is an operator.
        prefix: where the routes are.
    """
    router = APIRouter(prefix=prefix, dependencies=[Depends(guard)], tags=["circuits"])

    # Not `async`: an order may wait for the store.
    @router.get("")
    def list_circuits() -> dict[str, Any]:
        return breakers.listed(registry)

    @router.put("/{name:path}")
    def force_circuit(name: str, mode: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
        return breakers.forced(registry, name, mode)

    @router.delete("/{name:path}")
    def reset_circuit(name: str) -> dict[str, Any]:
        return breakers.reset(registry, name)

    return router
