"""Scores on Flask."""

from flask import Blueprint, Response

import backendkit.flask
from examples.accounts.domain.scoring import Scoring
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import scores as wire
from examples.accounts.wire.users import UserPath


def scores_blueprint(scoring: Scoring) -> Blueprint:
    """Return the routes of scores."""
    blueprint = Blueprint("scores", __name__)

    @blueprint.get(wire.PATH.replace("{user_id}", "<user_id>"))
    def show(user_id: str) -> Response:
        """Return a user's score."""
        wanted = backendkit.flask.path(UserPath)
        return respond(wire.shown(scoring.score(wanted.user_id)))

    return blueprint
