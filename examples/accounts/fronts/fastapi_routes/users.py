"""Users on FastAPI.

The handlers are plain functions, for the database underneath is synchronous: FastAPI runs them in its threads.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from backendkit.fastapi import raises
from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.errors import EmailTaken, UserNotFound
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import users as wire


def users_router(accounts: Accounts) -> APIRouter:
    """Return the routes of users."""
    router = APIRouter(tags=["users"])

    @router.post(
        wire.PATH, status_code=201, response_model=wire.UserView, responses=raises(EmailTaken)
    )
    def register(body: wire.Registration) -> Response:
        """Register a user."""
        return respond(wire.created(accounts.register(body.email, body.name)))

    @router.get(wire.PATH, response_model=wire.PageView)
    def page(query: Annotated[wire.PageQuery, Query()]) -> Response:
        """List users in the order of their ids."""
        return respond(wire.listed(accounts.page(after=query.after, limit=query.limit), query))

    @router.get(
        wire.PATH + "/{user_id}", response_model=wire.UserView, responses=raises(UserNotFound)
    )
    def show(user_id: wire.UserId) -> Response:
        """Return one user."""
        return respond(wire.shown(accounts.get(user_id)))

    return router
