"""Login, refresh, logout, sessions and public keys as routers that can be mounted as they are.

    app.include_router(session_router(tokens, authenticate))        # POST /auth/login, ...
    app.include_router(jwks_router(tokens.keys))                    # GET /.well-known/jwks.json

The routes are of the colour of `authenticate`: with `async def` they run on the loop; with `def`, which may block,
in Starlette's threads. The loader of `tokens`, which a refresh calls, must be of the same colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.concurrency import run_in_threadpool

from backendkit.core.errors import ServiceUnavailable
from backendkit.core.flow import step
from backendkit.errors import PayloadTooLarge
from backendkit.fastapi.tokens import SCHEME
from backendkit.http.client import ClientAddress
from backendkit.http.jwks import PATH, JwksPage
from backendkit.http.login import Authenticate, LoginRefused, awaits
from backendkit.http.messages import encoded
from backendkit.http.openapi import raises
from backendkit.http.sessions import (
    LARGEST_BODY,
    ROUTES,
    Answer,
    Call,
    Route,
    SessionFlows,
    SessionUnknown,
    World,
)
from backendkit.http.tokens import CookiePolicy
from backendkit.http.visits import AsgiVisit
from backendkit.tokens import CsrfRefused, InvalidToken, KeyRing, NotAuthenticated, Tokens


def session_router(
    tokens: Tokens,
    authenticate: Authenticate,
    *,
    prefix: str | None = None,
    cookies: CookiePolicy | None = None,
    address: ClientAddress | None = None,
    login: Sequence[Callable[..., Any]] = (),
) -> APIRouter:
    """Return the routes of `backendkit.http.sessions`.

    Args:
        tokens: with a store.
        authenticate: tells who logs in.
        prefix: None: that of `cookies`, or `/auth`. With cookies it must be theirs, the whole path from the host on.
        cookies: tokens travel in cookies; None: in bodies.
        address: finds clients' addresses behind trusted proxies.
        login: dependencies of the login route, like a `RateLimit`.

    Raises:
        InvalidArgument: the prefix is not the cookies'.
    """
    flows = SessionFlows(tokens, cookies=cookies, address=address, prefix=prefix)
    on_loop = awaits(authenticate)
    world = World(tokens.aio if on_loop else tokens, authenticate)
    router = APIRouter(prefix=flows.prefix, tags=["sessions"])
    for route in ROUTES:
        before = [Depends(one) for one in login] if route.name == "login" else []
        _add(router, route, flows, world, before=before, on_loop=on_loop)
    return router


def jwks_router(keys: KeyRing, *, path: str = PATH, max_age: int = 3_600) -> APIRouter:
    """Return the page of public keys; arguments and errors as for `JwksPage`."""
    page = JwksPage(keys, max_age=max_age)
    router = APIRouter(tags=["keys"])

    @router.get(
        path,
        responses={
            200: {"content": {"application/jwk-set+json": {}}},
            304: {"description": "Kept"},
        },
    )
    async def jwks(request: Request) -> Response:
        """Return the public keys."""
        return _response(page.answer(AsgiVisit(request.scope).lines("if-none-match")))

    return router


class _Documented(SecurityBase):
    """Shows the scheme in the document; the flow behind the route is what checks."""

    def __init__(self) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = SCHEME

    async def __call__(self) -> None:
        return None


def _add(
    router: APIRouter, route: Route, flows: SessionFlows, world: World, *, before: list[Any], on_loop: bool
) -> None:  # fmt: skip
    async def endpoint(request: Request) -> Response:
        session_id: str = request.path_params.get("session_id", "")
        call = Call(AsgiVisit(request.scope), await _body(request), session_id)
        flow: Any = route.flow(flows, world, call)
        answer: Answer = await flow if on_loop else await run_in_threadpool(step, flow)
        return _response(answer)

    schema = None if route.body is None else route.body.model_json_schema()
    wants_body = schema is not None and not (flows.cookies is not None and route.name != "login")
    extra: dict[str, Any] = {}
    if wants_body:
        extra["requestBody"] = {
            "required": route.name != "logout",
            "content": {"application/json": {"schema": schema}},
        }
    if "{session_id}" in route.path:
        extra["parameters"] = [
            {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    router.add_api_route(
        route.path, endpoint, methods=[route.method], name=route.name, openapi_extra=extra or None,
        summary=(route.flow.__doc__ or "").rstrip("."), status_code=route.status,
        responses=raises(*_ERRORS[route.name], ServiceUnavailable),
        dependencies=[*before, *([Security(_Documented())] if route.guarded else [])],
    )  # fmt: skip


_ERRORS: Any = {
    "login": (LoginRefused, CsrfRefused),
    "refresh": (InvalidToken, CsrfRefused),
    "logout": (NotAuthenticated, CsrfRefused),
    "logout_all": (NotAuthenticated, InvalidToken, CsrfRefused),
    "sessions": (NotAuthenticated, InvalidToken),
    "revoke": (NotAuthenticated, InvalidToken, CsrfRefused, SessionUnknown),
}


async def _body(request: Request) -> bytes:
    """Read a body, and no further than any is long here."""
    read = b""
    # Closed here: a generator that is left half-way is closed by whoever collects it, and maybe after the loop.
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            read += chunk
            if len(read) > LARGEST_BODY:
                raise PayloadTooLarge
    return read


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    own = [pair for pair in response.raw_headers if pair[0] == b"content-length"]
    response.raw_headers = [*encoded(answer.headers), *own]
    return response
