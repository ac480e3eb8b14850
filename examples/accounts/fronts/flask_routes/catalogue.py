"""The catalogue on Flask."""

from flask import Blueprint, Response

import backendkit.flask
from examples.accounts.domain.catalogue import Catalogue
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import catalogue as wire


def catalogue_blueprint(catalogue: Catalogue) -> Blueprint:
    """Return the routes of the catalogue."""
    blueprint = Blueprint("catalogue", __name__)

    @blueprint.get(wire.PATH)
    def show() -> Response:
        """Return all plans."""
        return respond(wire.shown(catalogue.all()))

    @blueprint.put(wire.PATH + "/<name>")
    def reprice(name: str) -> Response:
        """Change a price."""
        wanted = backendkit.flask.path(wire.PlanPath)
        body = backendkit.flask.body(wire.Price)
        catalogue.reprice(wanted.name, body.price)
        return respond(wire.repriced())

    @blueprint.get(wire.SEEN)
    def seen() -> Response:
        """Return how the cache fares."""
        return respond(wire.seen(catalogue.seen()))

    return blueprint
