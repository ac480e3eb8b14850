"""One application with limits, in both frameworks; and in each the three ways to put a limit on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from flask import Blueprint, Flask, Response, abort

import backendkit.fastapi
import backendkit.flask
from backendkit.fastapi import AsgiLimits, RateLimit
from backendkit.flask import WsgiLimits
from backendkit.http import LimitRule
from backendkit.kit import Kit
from backendkit.settings import Settings

CHUNKS = [b"chunk-%d" % n for n in range(10)]


def kit() -> Kit:
    """A kit for tests."""
    return Kit(Settings(environment="staging"))


def fastapi_whole(rule: LimitRule) -> Any:
    """FastAPI, limited by middleware."""
    app = _fastapi()
    app.add_middleware(AsgiLimits, rule=rule)
    return app


def flask_whole(rule: LimitRule) -> Any:
    """Flask, limited by the hook."""
    app = _flask()
    backendkit.flask.limit_app(app, rule)
    return app


def flask_wsgi(rule: LimitRule) -> Any:
    """Flask, limited by WSGI middleware."""
    app = _flask()
    app.wsgi_app = WsgiLimits(app.wsgi_app, rule)  # type: ignore[method-assign,assignment]
    return app


def fastapi_route(rule: LimitRule) -> Any:
    """FastAPI, every route limited by a dependency or the decorator."""
    return _fastapi(rule)


def flask_route(rule: LimitRule) -> Any:
    """Flask, every route limited by the decorator."""
    return _flask(rule)


def _fastapi(rule: LimitRule | None = None) -> FastAPI:  # noqa: C901 - one function per route
    app = FastAPI(dependencies=[Depends(RateLimit(rule))] if rule else [])
    backendkit.fastapi.install(app, kit())

    @app.api_route("/plain", methods=["GET", "HEAD", "OPTIONS", "POST"])
    async def plain() -> dict[str, str]:
        return {"it": "works"}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(CHUNKS), media_type="text/plain")

    @app.get("/wrong")
    async def wrong() -> None:
        raise HTTPException(401)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        with suppress(WebSocketDisconnect):
            while True:
                await websocket.send_text(await websocket.receive_text())

    router = APIRouter(prefix="/router")

    @router.get("/plain")
    async def included() -> dict[str, str]:
        return {"it": "works"}

    app.include_router(router)
    mounted = FastAPI()

    @mounted.get("/plain")
    async def inside() -> dict[str, str]:
        return {"it": "works"}

    app.mount("/mounted", mounted)
    return app


def _flask(rule: LimitRule | None = None) -> Flask:
    app = Flask("limited")
    backendkit.flask.install(app, kit())
    route: Any = backendkit.flask.limited(rule) if rule else _same

    @app.route("/plain", methods=["GET", "HEAD", "OPTIONS", "POST"])
    @route  # type: ignore[untyped-decorator]  # one of two
    def plain() -> dict[str, str]:
        return {"it": "works"}

    @app.get("/stream")
    @route  # type: ignore[untyped-decorator]  # one of two
    def stream() -> Response:
        def chunks() -> Iterator[bytes]:
            yield from CHUNKS

        return Response(chunks(), mimetype="text/plain")

    @app.get("/wrong")
    @route  # type: ignore[untyped-decorator]  # one of two
    def wrong() -> None:
        abort(401)

    @app.get("/broken")
    @route  # type: ignore[untyped-decorator]  # one of two
    def broken() -> None:
        raise RuntimeError("broken")

    blueprint = Blueprint("router", __name__, url_prefix="/router")

    @blueprint.get("/plain")
    @route  # type: ignore[untyped-decorator]  # one of two
    def included() -> dict[str, str]:
        return {"it": "works"}

    app.register_blueprint(blueprint)
    return app


def _same(view: Callable[..., Any]) -> Callable[..., Any]:
    return view
