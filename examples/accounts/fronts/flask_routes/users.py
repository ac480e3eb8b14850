"""Users on Flask."""

from flask import Blueprint, Response

import backendkit.flask
from examples.accounts.domain.accounts import Accounts
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import users as wire


def users_blueprint(accounts: Accounts) -> Blueprint:
    """Return the routes of users."""
    blueprint = Blueprint("users", __name__)

    @blueprint.post(wire.PATH)
    def register() -> Response:
        """Register a user."""
        body = backendkit.flask.body(wire.Registration)
        return respond(wire.created(accounts.register(body.email, body.name)))

    @blueprint.get(wire.PATH)
    def page() -> Response:
        """List users in the order of their ids."""
        query = backendkit.flask.query(wire.PageQuery)
        return respond(wire.listed(accounts.page(after=query.after, limit=query.limit), query))

    @blueprint.get(wire.PATH + "/<user_id>")
    def show(user_id: str) -> Response:
        """Return one user."""
        wanted = backendkit.flask.path(wire.UserPath)
        return respond(wire.shown(accounts.get(wanted.user_id)))

    return blueprint
