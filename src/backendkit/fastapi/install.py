"""Putting the kit into a FastAPI or Starlette application, by public attributes of that one application.

The layers, from outside in, once the application builds its stack:

    ServerErrorMiddleware        sees no exception any more, unless told to
      AsgiFrame                  names the request; answers what middleware raises
        body limit, middleware   yours: CORS and the like see every error as a response
          ExceptionMiddleware    our handlers, or yours; one for what nobody else handles
            routes

Nothing is decided before the stack is built: it makes no difference what is called first. Instrumentation that
wraps `build_middleware_stack` as well (OpenTelemetry's does) finds, or leaves, the frame in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import BaseRoute, Host, Mount
from starlette.types import ASGIApp

from backendkit.core.errors import InvalidArgument
from backendkit.fastapi.errors import Handlers, learn
from backendkit.fastapi.limits import rules_of
from backendkit.fastapi.openapi import document_errors
from backendkit.http.asgi import AsgiFrame, Unhandled
from backendkit.http.drain import drain_on_sigterm
from backendkit.http.layers import Layers
from backendkit.http.limit_checks import check_chains
from backendkit.http.messages import Scope
from backendkit.http.security import DOCUMENTATION
from backendkit.kit import Kit
from backendkit.logging.configure import reattach
from backendkit.settings import web_concurrency

KEY = "_backendkit"
"""The one attribute of `app.state` that is ours."""


def install(app: Starlette, kit: Kit, *, reraise: bool | None = None) -> None:
    """Give `app` the whole frame; once, before it serves, in any order with other set-up.

    Ids, errors, access line, security headers, deadlines, health pages, as the kit's settings say.
    Applications that are mounted in `app` when it starts get the same, unless they have a kit of their own. The kit is
    closed when the application's lifespan ends.

    Args:
        app: a FastAPI or Starlette application. Handlers that it has of its own stay in force.
        kit: what to install.
        reraise: whether an unhandled error is raised again after it was answered, for tests and for watchers
            outside the application, and left for them to report; None: in the environment `testing` only.

    Raises:
        InvalidArgument: `app` has another kit, or has begun to serve. When it starts: its limits would limit wrongly, see
            `check_limits`.
    """
    held = getattr(app.state, KEY, None)
    if held is kit:
        return
    if held is not None:
        raise InvalidArgument("app", "must not have another kit installed", app)
    if app.middleware_stack is not None:
        fix = "call install(app, kit) where the application is made."
        raise InvalidArgument("app", "must not have begun to serve", app, fix)
    learn(kit.errors)
    document_errors(app, kit)
    if reraise is None:
        reraise = kit.settings.environment == "testing"
    _frame_when_built(app, kit, "reraise" if reraise else "answer")
    app.router.lifespan_context = _closing(app.router.lifespan_context, kit)


def _frame_when_built(app: Starlette, kit: Kit, unhandled: Unhandled) -> None:
    setattr(app.state, KEY, kit)
    build = app.build_middleware_stack

    def framed() -> ASGIApp:
        for mounted in _mounted(app):
            if mounted.middleware_stack is None and getattr(mounted.state, KEY, None) is None:
                document_errors(mounted, kit)
                _frame_when_built(mounted, kit, unhandled)
        return _build(app, kit, unhandled, build)

    app.build_middleware_stack = framed  # type: ignore[method-assign] # this one application's, no class's


def _build(app: Starlette, kit: Kit, unhandled: Unhandled, build: Callable[[], ASGIApp]) -> ASGIApp:
    """Build the stack with our handlers and frames in it; the application's own lists stay as they are."""
    layers = Layers.of(
        kit.settings.http,
        access=kit.access,
        health=kit.health,
        clock=kit.clock,
        overrides=dict.fromkeys(_pages(app), DOCUMENTATION),
        metrics=kit.metrics,
    )
    handlers, middleware = app.exception_handlers, app.user_middleware
    if Exception in handlers or 500 in handlers:
        unhandled = (
            "leave"  # the application has a handler of its own, which Starlette puts outermost
        )
    options: Mapping[str, Any] = {
        "layers": layers,
        "unhandled": unhandled,
        "route": partial(route_of, app),
    }
    ours = Handlers(kit.errors, answers=unhandled == "answer")

    def catch_all(app: ASGIApp) -> ASGIApp:  # older versions of Starlette pass it by this name
        # Innermost, hence handed Starlette's own layer, which takes a handler for all exceptions only this way: one in
        # `exception_handlers` it moves outside of all middleware, and raises what that has answered.
        if isinstance(app, ExceptionMiddleware) and unhandled != "leave":
            app.add_exception_handler(Exception, ours.tell)
        return app

    try:
        app.exception_handlers = dict[Any, Any]({**handlers, **ours.beside(handlers)})
        app.user_middleware = [*middleware, Middleware(catch_all)]
        stack = build()
    finally:
        app.exception_handlers, app.user_middleware = handlers, middleware
    outermost = [layer for layer in _layers(stack) if isinstance(layer, ServerErrorMiddleware)]
    if not outermost:  # an application with a stack of its own kind
        return AsgiFrame(stack, kit.errors, **options)
    outermost[-1].app = AsgiFrame(outermost[-1].app, kit.errors, **options)
    return stack


def route_of(app: Starlette, scope: Scope) -> str | None:
    """Return the template of the route that served a request, `/users/{id}`, below that of its router and mounts."""
    known = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    path = getattr(known, "path", None)
    if not isinstance(path, str) or "app_root_path" not in scope:
        return path if isinstance(path, str) else None
    return _mounts(app.routes, scope["root_path"].removeprefix(scope["app_root_path"])) + path


def _mounts(routes: Iterable[BaseRoute], prefix: str) -> str:
    """Return the template of the mounts that make up `prefix`: `/tenants/{id}` for `/tenants/7`."""
    for route in routes if prefix else ():
        found = route.path_regex.match(f"{prefix}/") if isinstance(route, Mount) else None
        if found is not None and isinstance(route, Mount):
            rest = f"/{found.group('path')}".removesuffix("/")
            return route.path + _mounts(route.routes or (), rest)
    return prefix


def _pages(app: Starlette) -> Iterator[str]:
    """Walk the paths of FastAPI's own pages, which load scripts and styles."""
    for name in ("docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url"):
        path = getattr(app, name, None)
        if path:
            yield path


def _layers(stack: ASGIApp | None) -> Iterator[ASGIApp]:
    while stack is not None:
        yield stack
        stack = getattr(stack, "app", None)


def _mounted(app: Starlette) -> Iterator[Starlette]:
    for route in app.routes:
        if isinstance(route, Mount | Host) and isinstance(route.app, Starlette):
            yield route.app


def _closing(lifespan: Any, kit: Kit) -> Any:
    """Wrap a lifespan: the kit is open and limits are checked before it, SIGTERM takes readiness down first, the kit is closed after it."""

    @asynccontextmanager
    async def closing(app: Any) -> AsyncGenerator[Any]:
        kit.open()
        chains = rules_of(app, app.middleware_stack)
        workers = max(kit.settings.ratelimit.nodes, web_concurrency())
        if any(chains):
            await asyncio.to_thread(check_chains, chains, workers=workers)  # it may ask Redis
        undo = drain_on_sigterm(kit.health, pause=kit.settings.http.drain)
        try:
            async with lifespan(app) as state:
                reattach()  # migrations, which run there, reconfigure logging
                yield state
        finally:
            undo()
            await kit.aclose()

    return closing
