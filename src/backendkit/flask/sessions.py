"""Login, refresh, logout, sessions and public keys as blueprints that can be registered as they are.

app.register_blueprint(session_blueprint(tokens, authenticate))        # POST /auth/login, ...
app.register_blueprint(jwks_blueprint(tokens.keys))                    # GET /.well-known/jwks.json
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from backendkit.core.errors import InvalidArgument
from backendkit.core.flow import step
from backendkit.errors import PayloadTooLarge
from backendkit.http.client import ClientAddress
from backendkit.http.jwks import PATH, JwksPage
from backendkit.http.login import Authenticate, awaits
from backendkit.http.sessions import (
    LARGEST_BODY,
    ROUTES,
    Answer,
    Call,
    Route,
    SessionFlows,
    World,
)
from backendkit.http.tokens import CookiePolicy
from backendkit.http.visits import WsgiVisit
from backendkit.tokens import KeyRing, Tokens


def session_blueprint(
    tokens: Tokens,
    authenticate: Authenticate,
    *,
    prefix: str | None = None,
    cookies: CookiePolicy | None = None,
    address: ClientAddress | None = None,
    login: Callable[[Any], Any] | None = None,
    name: str = "sessions",
) -> Blueprint:
    """Return the routes of `backendkit.http.sessions`.

    Args:
        tokens: with a store; its loader, which a refresh calls, must be a `def`.
        authenticate: tells who logs in; a `def`.
        prefix: None: that of `cookies`, or `/auth`. With cookies it must be theirs, the whole path from the host on.
        cookies: tokens travel in cookies; None: in bodies.
        address: finds clients' addresses behind trusted proxies.
        login: decorates the login view, like `limited(...)`.
        name: of the blueprint.

    Raises:
        InvalidArgument: `authenticate` is an `async def`, or the prefix is not the cookies'.
    """
    if awaits(authenticate):
        raise InvalidArgument("authenticate", "must be a def behind Flask", authenticate)
    flows = SessionFlows(tokens, cookies=cookies, address=address, prefix=prefix)
    world = World(tokens, authenticate)
    blueprint = Blueprint(name, __name__, url_prefix=flows.prefix)
    for route in ROUTES:
        view = _view(route, flows, world)
        if login is not None and route.name == "login":
            view = login(view)
        rule = route.path.replace("{session_id}", "<session_id>")
        blueprint.add_url_rule(rule, route.name, view, methods=[route.method])
    return blueprint


def jwks_blueprint(
    keys: KeyRing, *, path: str = PATH, max_age: int = 3_600, name: str = "jwks"
) -> Blueprint:
    """Return the page of public keys; arguments and errors as for `JwksPage`."""
    page = JwksPage(keys, max_age=max_age)
    blueprint = Blueprint(name, __name__)

    @blueprint.get(path)
    def jwks() -> Response:
        """Return the public keys."""
        return _response(page.answer(WsgiVisit(request.environ).lines("if-none-match")))

    return blueprint


def _view(route: Route, flows: SessionFlows, world: World) -> Any:
    def view(session_id: str = "") -> Response:
        call = Call(WsgiVisit(request.environ), _body(), session_id)
        flow: Any = route.flow(flows, world, call)
        return _response(step(flow))

    view.__name__ = route.name
    view.__doc__ = route.flow.__doc__
    return view


def _body() -> bytes:
    """Read a body, and no further than any is long here; one that was read already is kept by the request."""
    if (request.content_length or LARGEST_BODY + 1) <= LARGEST_BODY:
        return request.get_data()
    read = b""
    while len(read) <= LARGEST_BODY:
        chunk = request.stream.read(LARGEST_BODY + 1 - len(read))
        if not chunk:
            return read
        read += chunk
    raise PayloadTooLarge


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status, list(answer.headers))
    if "Content-Type" not in dict(answer.headers):
        del response.headers["Content-Type"]
    return response
