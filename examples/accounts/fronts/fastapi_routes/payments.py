"""Payments on FastAPI."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from backendkit.errors import UpstreamError, UpstreamTimeout
from backendkit.fastapi import raises
from backendkit.resilience import CircuitOpen
from examples.accounts.domain.ports import Payments
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import payments as wire


def payments_router(payments: Payments) -> APIRouter:
    """Return the routes of payments."""
    router = APIRouter(tags=["payments"])

    @router.get(
        wire.PATH,
        response_model=wire.PaymentView,
        responses=raises(CircuitOpen, UpstreamError, UpstreamTimeout),
    )
    def show(payment: Annotated[wire.Payment, Path()]) -> Response:
        """Return how a payment stands."""
        return respond(wire.shown(payments.status(payment)))

    return router
