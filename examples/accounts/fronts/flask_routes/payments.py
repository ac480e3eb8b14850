"""Payments on Flask."""

from flask import Blueprint, Response

import backendkit.flask
from examples.accounts.domain.ports import Payments
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import payments as wire


def payments_blueprint(payments: Payments) -> Blueprint:
    """Return the routes of payments."""
    blueprint = Blueprint("payments", __name__)

    @blueprint.get(wire.PATH.replace("{payment}", "<payment>"))
    def show(payment: str) -> Response:
        """Return how a payment stands."""
        wanted = backendkit.flask.path(wire.PaymentPath)
        return respond(wire.shown(payments.status(wanted.payment)))

    return blueprint
