"""The service on FastAPI: `uvicorn --factory examples.accounts.fronts.fastapi_app:create_app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import backendkit.fastapi
from backendkit.fastapi import AsgiCache, AsgiLimits
from backendkit.fastapi.sessions import jwks_router, session_router
from backendkit.http import CacheRule
from backendkit.logging import configure_logging
from examples.accounts.composition import Services
from examples.accounts.fronts.fastapi_routes.catalogue import catalogue_router
from examples.accounts.fronts.fastapi_routes.door import door_router
from examples.accounts.fronts.fastapi_routes.logins import logins_router
from examples.accounts.fronts.fastapi_routes.payments import payments_router
from examples.accounts.fronts.fastapi_routes.scores import scores_router
from examples.accounts.fronts.fastapi_routes.users import users_router


def create_app(services: Services | None = None) -> FastAPI:
    """Build the application.

    Args:
        services: what it is made of, which then stays the caller's to close; None builds it from the environment.
    """
    if services is None:
        configure_logging(server_access=False)  # the kit writes better ones
    parts = services or Services.from_env()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if services is None:
            parts.close()

    # One address for each thing: `/users/` is not found, rather than redirected.
    app = FastAPI(title="Accounts", lifespan=lifespan, redirect_slashes=False)
    backendkit.fastapi.install(app, parts.kit)
    for rule in (parts.limits.everything, parts.limits.writes):
        app.add_middleware(AsgiLimits, rule=rule, errors=parts.kit.errors)
    app.add_middleware(AsgiCache, rule=CacheRule())  # tags and 304, nothing stored
    app.include_router(users_router(parts.accounts))
    app.include_router(payments_router(parts.payments))
    app.include_router(scores_router(parts.scoring))
    app.include_router(catalogue_router(parts.catalogue))
    app.include_router(session_router(parts.tokens, parts.logins.authenticate))
    app.include_router(jwks_router(parts.tokens.keys))
    app.include_router(logins_router(parts))
    app.include_router(door_router(parts.door))
    return app
