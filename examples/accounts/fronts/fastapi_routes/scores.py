"""Scores on FastAPI."""

from fastapi import APIRouter, Response

from backendkit.errors import UpstreamError, UpstreamTimeout
from backendkit.fastapi import raises
from examples.accounts.domain.errors import UserNotFound
from examples.accounts.domain.scoring import Scoring
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import scores as wire
from examples.accounts.wire.users import UserId


def scores_router(scoring: Scoring) -> APIRouter:
    """Return the routes of scores."""
    router = APIRouter(tags=["scores"])

    @router.get(
        wire.PATH,
        response_model=wire.ScoreView,
        responses=raises(UserNotFound, UpstreamError, UpstreamTimeout),
    )
    def show(user_id: UserId) -> Response:
        """Return a user's score."""
        return respond(wire.shown(scoring.score(user_id)))

    return router
