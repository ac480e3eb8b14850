"""Circuit breakers for operators: a blueprint to register where only they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, current_app
from pydantic import BaseModel

from backendkit.flask.reading import body
from backendkit.http import breakers
from backendkit.resilience import CircuitRegistry


class Order(BaseModel):
    """What a circuit shall do.

    Attributes:
        mode: one of the six.
    """

    mode: str


def breakers_blueprint(
    registry: CircuitRegistry, *, guard: Callable[[], object], prefix: str = "/circuits"
) -> Blueprint:
    """Return views to list (`GET`), set (`PUT /name` with `{"mode": ...}`) and reset (`DELETE /name`) circuits.

    Args:
        registry: whose circuits, like `kit.breakers`.
        guard: called before each view, as a function of `before_request`; raises, or returns an answer, unless whoever asks is an
            operator. Only None lets pass.
        prefix: where the views are.
    """
    blueprint = Blueprint("backendkit_circuits", __name__, url_prefix=prefix)

    @blueprint.before_request
    def guarded() -> Any:
        return current_app.ensure_sync(guard)()

    @blueprint.get("")
    def list_circuits() -> dict[str, Any]:
        return breakers.listed(registry)

    @blueprint.put("/<path:name>")
    def force_circuit(name: str) -> dict[str, Any]:
        return breakers.forced(registry, name, body(Order).mode)

    @blueprint.delete("/<path:name>")
    def reset_circuit(name: str) -> dict[str, Any]:
        return breakers.reset(registry, name)

    return blueprint
