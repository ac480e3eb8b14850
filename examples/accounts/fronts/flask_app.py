"""The service on Flask: `gunicorn 'examples.accounts.fronts.flask_app:create_app()'`."""

from flask import Flask

import backendkit.flask
from backendkit.flask import WsgiCache
from backendkit.flask.sessions import jwks_blueprint, session_blueprint
from backendkit.http import CacheRule
from backendkit.logging import configure_logging
from examples.accounts.composition import Services
from examples.accounts.fronts.flask_routes.catalogue import catalogue_blueprint
from examples.accounts.fronts.flask_routes.door import door_blueprint
from examples.accounts.fronts.flask_routes.logins import logins_blueprint
from examples.accounts.fronts.flask_routes.payments import payments_blueprint
from examples.accounts.fronts.flask_routes.scores import scores_blueprint
from examples.accounts.fronts.flask_routes.users import users_blueprint


def create_app(services: Services | None = None) -> Flask:
    """Build the application.

    Args:
        services: what it is made of; None builds it from the environment, for as long as the process lives.
    """
    if services is None:
        configure_logging(server_access=False)  # the kit writes better ones
    parts = services or Services.from_env()
    app = Flask("accounts")
    cached = WsgiCache(app.wsgi_app, CacheRule())  # tags and 304, nothing stored
    app.wsgi_app = cached  # type: ignore[method-assign,assignment]  # as Flask's manual puts middleware around it
    backendkit.flask.install(app, parts.kit)
    for rule in (parts.limits.everything, parts.limits.writes):
        backendkit.flask.limit_app(app, rule)
    app.register_blueprint(users_blueprint(parts.accounts))
    app.register_blueprint(payments_blueprint(parts.payments))
    app.register_blueprint(scores_blueprint(parts.scoring))
    app.register_blueprint(catalogue_blueprint(parts.catalogue))
    app.register_blueprint(session_blueprint(parts.tokens, parts.logins.authenticate))
    app.register_blueprint(jwks_blueprint(parts.tokens.keys))
    app.register_blueprint(logins_blueprint(parts))
    app.register_blueprint(door_blueprint(parts.door))
    return app
