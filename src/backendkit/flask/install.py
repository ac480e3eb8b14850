"""Putting the kit into a Flask application, by public attributes of that one application.

WsgiFrame                names the request; answers what WSGI middleware, `after_request`, teardown raise
WSGI middleware          yours, wrapped before or after
Flask                our error handlers, beside yours; `log_exception` reports once
views
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from flask import Flask

from backendkit.core.errors import InvalidArgument
from backendkit.flask.errors import Handlers, learn
from backendkit.flask.limits import rules_of
from backendkit.flask.requests import strict
from backendkit.http.layers import Layers
from backendkit.http.limit_checks import check_chains
from backendkit.http.wsgi import App as WsgiApp
from backendkit.http.wsgi import Environ, StartResponse, WsgiFrame
from backendkit.kit import Kit
from backendkit.logging.configure import reattach
from backendkit.settings import web_concurrency

KEY = "backendkit"
"""Our one entry in `app.extensions`."""


def install(app: Flask, kit: Kit, *, reraise: bool | None = None) -> None:
    """Give `app` the whole frame; once, before it serves, in any order with other set-up.

    Ids, errors, access line, security headers, deadlines, health pages, as the kit's settings say.

    Args:
        app: a Flask application. Error handlers that it has of its own stay in force.
        kit: what to install; it closes what it opened when the interpreter exits.
        reraise: whether an unhandled error is raised to the server, unanswered, for it to report; None: where Flask itself
            would (`PROPAGATE_EXCEPTIONS`, else `TESTING` or `DEBUG`), and in the kit's environment `testing`.

    Raises:
        InvalidArgument: `app` has another kit, or has begun to serve. At the first request: its limits would limit wrongly, see
            `check_limits`.
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
    layers = Layers.of(
        kit.settings.http,
        access=kit.access,
        health=kit.health,
        clock=kit.clock,
        metrics=kit.metrics,
    )

    def framed(inner: WsgiApp) -> WsgiFrame:
        return WsgiFrame(
            inner, kit.errors, layers=layers, propagate=_propagates(app), route=route_of
        )

    workers = max(kit.settings.ratelimit.nodes, web_concurrency())
    app.wsgi_app = _Outermost(app, framed, workers=workers)  # type: ignore[method-assign,assignment]  # as Flask's documentation does


class _Outermost:
    """The frame, which goes around what has been put around it by the time of the first request."""

    __slots__ = ("_app", "_frame", "_framed", "_settled", "_workers")

    def __init__(self, app: Flask, framed: Callable[[WsgiApp], WsgiFrame], *, workers: int) -> None:
        self._app = app
        self._workers = workers
        self._framed = framed
        self._frame = framed(cast("WsgiApp", app.wsgi_app))
        self._settled = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if not self._settled:
            # Flask has no moment of its own before it serves; until this passes, no request does.
            chains = rules_of(self._app, self._app.wsgi_app, self._frame.app)
            check_chains(chains, workers=self._workers)
            self._settled = True
            reattach()  # what ran before the first request, like migrations, may have reconfigured logging
            if self._app.wsgi_app is not self:
                outer = cast("WsgiApp", self._app.wsgi_app)
                self._app.wsgi_app = self._framed(outer)  # type: ignore[method-assign,assignment]  # as above
        return self._frame(environ, start_response)


def route_of(environ: Environ) -> str | None:
    """Return the rule that matched, `/users/<int:id>`; None: none did."""
    served = environ.get("werkzeug.request")
    rule = getattr(served, "url_rule", None)
    return None if rule is None else cast("str", rule.rule)


def _propagates(app: Flask) -> Callable[[], bool]:
    def propagates() -> bool:
        wanted = cast("bool | None", app.config["PROPAGATE_EXCEPTIONS"])
        return app.testing or app.debug if wanted is None else wanted

    return propagates
