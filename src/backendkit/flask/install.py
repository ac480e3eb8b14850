"""Putting the kit into a Flask application, by public attributes of that one application.

WsgiFrame                names the request; answers what WSGI middleware, `after_request`, teardown raise
WSGI middleware
Flask                our error handlers, beside yours; `log_exception` reports once
views
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flask import Flask

from backendkit.core.errors import InvalidArgument
from backendkit.flask.errors import Handlers, learn
from backendkit.flask.requests import strict
from backendkit.http.ids import RequestIds
from backendkit.http.wsgi import WsgiFrame
from backendkit.kit import Kit

KEY = "backendkit"
"""Our one entry in `app.extensions`."""


def install(app: Flask, kit: Kit, *, reraise: bool | None = None) -> None:
    """Give `app` request ids, and the kit's errors; once, before it serves, in any order with other set-up.

    Args:
        app: a Flask application. Error handlers that it has of its own stay in force.
        kit: what to install; it closes what it opened when the interpreter exits.
        reraise: whether an unhandled error is raised to the server, unanswered, for it to report; None: where Flask itself
            would (`PROPAGATE_EXCEPTIONS`, else `TESTING` or `DEBUG`), and in the kit's environment `testing`.

    Raises:
        InvalidArgument: `app` has another kit, or has begun to serve.
    """
    held = app.extensions.get(KEY)
    if held is kit:
        return
    if held is not None:
        raise InvalidArgument("app", "must not have another kit installed", app)
    learn(kit.errors)
    handlers = Handlers(app, kit.errors)
    try:
        handlers.register()
    except AssertionError as error:
        fix = "call install(app, kit) where the application is made."
        raise InvalidArgument("app", "must not have begun to serve", app, fix) from error
    app.extensions[KEY] = kit
    if type(app).log_exception is Flask.log_exception:
        app.log_exception = handlers.log  # type: ignore[method-assign]  # this one application's, no class's
    if reraise is None and kit.settings.environment == "testing":
        reraise = True
    if reraise is not None and app.config["PROPAGATE_EXCEPTIONS"] is None:
        app.config["PROPAGATE_EXCEPTIONS"] = reraise
    app.request_class = strict(app.request_class)
    http = kit.settings.http
    ids = RequestIds(http.request_id_header, trusted=http.trust_request_id)
    app.wsgi_app = WsgiFrame(  # type: ignore[method-assign,assignment]  # as Flask's documentation does
        app.wsgi_app, kit.errors, ids=ids, propagate=_propagates(app)
    )


def _propagates(app: Flask) -> Callable[[], bool]:
    def propagates() -> bool:
        wanted = cast("bool | None", app.config["PROPAGATE_EXCEPTIONS"])
        return app.testing or app.debug if wanted is None else wanted

    return propagates
