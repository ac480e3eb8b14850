"""The application of the conformance suite on four frameworks: two adapters, and the plain frames around two more."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import flask
from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException
from werkzeug.exceptions import abort
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

import backendkit.fastapi
import backendkit.flask
from backendkit.core import context
from backendkit.errors import from_status
from backendkit.http import AsgiFrame, Layers, WsgiFrame
from backendkit.kit import Kit
from backendkit.testing.scenarios import Order, raise_named, read_order


async def late() -> AsyncIterator[bytes]:
    """Fail after the first piece."""
    yield b"one"
    raise ValueError("late")


def late_sync() -> Iterator[bytes]:
    """Fail after the first piece."""
    yield b"one"
    raise ValueError("late")


def on_fastapi(kit: Kit) -> FastAPI:
    """The adapter for FastAPI."""
    app = FastAPI()
    backendkit.fastapi.install(app, kit)

    @app.get("/ok")
    async def ok() -> Any:
        return {"requestId": context.request_id()}

    @app.api_route("/raise/{name}", methods=["GET", "HEAD"])
    async def raises(name: str) -> None:
        raise_named(name)

    @app.post("/orders")
    async def orders(order: Order) -> Any:
        return {"sku": order.sku}

    @app.get("/framework/{status}")
    async def framework(status: int) -> None:
        raise HTTPException(status)

    @app.get("/text")
    async def text() -> Any:
        return PlainTextResponse("my own words", 404)

    @app.get("/stream")
    async def stream() -> Any:
        return StreamingResponse(late(), media_type="text/plain")

    return app


def on_flask(kit: Kit) -> flask.Flask:
    """The adapter for Flask."""
    app = flask_views()
    backendkit.flask.install(app, kit)
    return app


def flask_views() -> flask.Flask:
    """The views on Flask, without a kit."""
    app = flask.Flask("conformance")

    @app.get("/ok")
    def ok() -> Any:
        return {"requestId": context.request_id()}

    @app.get("/raise/<name>")
    def raises(name: str) -> Any:
        raise_named(name)

    @app.post("/orders")
    def orders() -> Any:
        return {"sku": backendkit.flask.body(Order).sku}

    @app.get("/framework/<int:status>")
    def framework(status: int) -> Any:
        flask.abort(status)

    @app.get("/text")
    def text() -> Any:
        return flask.Response("my own words", 404, mimetype="text/plain")

    @app.get("/stream")
    def stream() -> Any:
        return flask.Response(late_sync(), mimetype="text/plain")

    return app


def layers(kit: Kit) -> Layers:
    """All layers, as the adapters have them."""
    return Layers.of(kit.settings.http, access=kit.access, health=kit.health, clock=kit.clock)


def on_starlette(kit: Kit) -> Starlette:
    """The plain ASGI frame as a middleware of Starlette."""

    async def ok(_: Request) -> Any:
        return JSONResponse({"requestId": context.request_id()})

    async def raises(request: Request) -> Any:
        raise_named(request.path_params["name"])

    async def orders(request: Request) -> Any:
        order = read_order(await request.body(), request.headers.get("content-type"))
        return JSONResponse({"sku": order.sku})

    async def framework(request: Request) -> Any:
        raise StarletteHTTPException(request.path_params["status"])

    async def text(_: Request) -> Any:
        return PlainTextResponse("my own words", 404)

    async def stream(_: Request) -> Any:
        return StreamingResponse(late(), media_type="text/plain")

    routes = [
        Route("/ok", ok),
        Route("/raise/{name}", raises),
        Route("/orders", orders, methods=["POST"]),
        Route("/framework/{status:int}", framework),
        Route("/text", text),
        Route("/stream", stream),
    ]
    return Starlette(
        routes=routes, middleware=[Middleware(AsgiFrame, errors=kit.errors, layers=layers(kit))]
    )


class OnWerkzeug:
    """Werkzeug without Flask: a map of rules, and views."""

    def __init__(self) -> None:
        paths = ["/ok", "/raise/<name>", "/framework/<int:status>", "/text", "/stream"]
        rules = [Rule(path, endpoint=path.split("/")[1], methods=["GET"]) for path in paths]
        self._map = Map([*rules, Rule("/orders", endpoint="orders", methods=["POST"])])

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Serve a request."""
        request = WerkzeugRequest(environ)
        endpoint, values = self._map.bind_to_environ(environ).match()
        return getattr(self, endpoint if endpoint != "raise" else "raises")(request, **values)(
            environ, start_response
        )

    def ok(self, _: WerkzeugRequest) -> WerkzeugResponse:
        """Tell the request's id."""
        body = json.dumps({"requestId": context.request_id()})
        return WerkzeugResponse(body, mimetype="application/json")

    def raises(self, _: WerkzeugRequest, name: str) -> WerkzeugResponse:
        """Raise what the name stands for."""
        raise_named(name)
        return WerkzeugResponse()

    def orders(self, request: WerkzeugRequest) -> WerkzeugResponse:
        """Read a body."""
        order = read_order(request.get_data(), request.headers.get("Content-Type"))
        return WerkzeugResponse(json.dumps({"sku": order.sku}), mimetype="application/json")

    def framework(self, _: WerkzeugRequest, status: int) -> WerkzeugResponse:
        """Raise Werkzeug's own."""
        abort(status)

    def text(self, _: WerkzeugRequest) -> WerkzeugResponse:
        """Answer in its own words."""
        return WerkzeugResponse("my own words", 404, mimetype="text/plain")

    def stream(self, _: WerkzeugRequest) -> WerkzeugResponse:
        """Fail after the first piece."""
        return WerkzeugResponse(late_sync(), mimetype="text/plain")


def on_werkzeug(kit: Kit) -> WsgiFrame:
    """The plain WSGI frame around Werkzeug, whose errors are told by one rule."""
    kit.errors.map(
        WerkzeugHTTPException,
        lambda exc: from_status(exc.code or 500, None, dict(exc.get_headers())),
    )
    return WsgiFrame(OnWerkzeug(), kit.errors, layers=layers(kit))


ADAPTERS = {
    "fastapi": on_fastapi,
    "flask": on_flask,
    "starlette": on_starlette,
    "werkzeug": on_werkzeug,
}
