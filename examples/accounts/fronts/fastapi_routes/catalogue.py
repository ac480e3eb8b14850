"""The catalogue on FastAPI."""

from fastapi import APIRouter, Response

from backendkit.errors import UpstreamError, UpstreamTimeout
from backendkit.fastapi import raises
from examples.accounts.domain.catalogue import Catalogue
from examples.accounts.domain.errors import PlanNotFound
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import catalogue as wire


def catalogue_router(catalogue: Catalogue) -> APIRouter:
    """Return the routes of the catalogue."""
    router = APIRouter(tags=["catalogue"])

    @router.get(
        wire.PATH,
        response_model=wire.CatalogueView,
        responses=raises(UpstreamError, UpstreamTimeout),
    )
    def show() -> Response:
        """Return all plans."""
        return respond(wire.shown(catalogue.all()))

    @router.put(
        wire.PATH + "/{name}",
        status_code=204,
        responses=raises(PlanNotFound, UpstreamError, UpstreamTimeout),
    )
    def reprice(name: wire.PlanName, body: wire.Price) -> Response:
        """Change a price."""
        catalogue.reprice(name, body.price)
        return respond(wire.repriced())

    @router.get(wire.SEEN, response_model=wire.Seen)
    def seen() -> Response:
        """Return how the cache fares."""
        return respond(wire.seen(catalogue.seen()))

    return router
