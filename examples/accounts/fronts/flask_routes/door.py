"""Logins on Flask."""

from flask import Blueprint, Response

import backendkit.flask
from examples.accounts.domain.door import Door
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import door as wire


def door_blueprint(door: Door) -> Blueprint:
    """Return the routes of logins."""
    blueprint = Blueprint("door", __name__)

    @blueprint.post(wire.PATH)
    def log_in() -> Response:
        """Let an operator in."""
        body = backendkit.flask.body(wire.Login)
        door.enter(body.name, body.password)
        return respond(wire.welcomed(body))

    return blueprint
