"""Logins on FastAPI."""

from fastapi import APIRouter, Response

from backendkit.errors import RateLimited
from backendkit.fastapi import raises
from examples.accounts.domain.door import Door, WrongPassword
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import door as wire


def door_router(door: Door) -> APIRouter:
    """Return the routes of logins."""
    router = APIRouter(tags=["door"])

    @router.post(
        wire.PATH, response_model=wire.Welcome, responses=raises(WrongPassword, RateLimited)
    )
    def log_in(body: wire.Login) -> Response:
        """Let an operator in."""
        door.enter(body.name, body.password)
        return respond(wire.welcomed(body))

    return router
