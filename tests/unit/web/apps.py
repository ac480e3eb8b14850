"""The same application twice, on FastAPI and on Flask, each with its kit installed."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flask
from fastapi import FastAPI, HTTPException
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

import backendkit.fastapi
import backendkit.flask
from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.errors import Conflict, NotFound, RateLimited, StoreUnavailable, UpstreamTimeout
from backendkit.kit import Kit
from backendkit.settings import Settings
from tests.unit.web.drivers import Asgi, Driver, Wsgi

ID = {"X-Request-ID": "same-1"}
"""What a client names its request."""

HEADERS = {"Allow-Me": "yes", "WWW-Authenticate": 'Basic realm="x"'}


class SeatGone(Conflict):
    """An application's own error."""

    code = "SEAT_GONE"
    message = "Seat {seat} is gone"


class Line(BaseModel):
    """One line of an order."""

    sku: str = Field(min_length=2)
    count: int = Field(ge=1, le=9)


class Order(BaseModel):
    """What is posted."""

    email: str
    price: float = 0
    lines: list[Line] = []
    meta: Any = None


class Page(BaseModel):
    """What is asked for by query."""

    page: int = Field(default=1, ge=1)


class Foreign(Exception):
    """An exception of some library, which the application has mapped."""


def raise_named(name: str) -> None:
    """Raise what `name` says; the same in both applications."""
    raise {
        "app": SeatGone(seat="12A"),
        "limited": RateLimited(retry_after=3),
        "store": StoreUnavailable("redis at h:1 is down"),
        "timeout": UpstreamTimeout("billing"),
        "foreign": Foreign("x"),
        "group": ExceptionGroup("g", [SeatGone(seat="1")]),
        "badgroup": ExceptionGroup("g", [SeatGone(seat="1"), KeyError("hunter2")]),
        "unknown": ValueError("dsn=hunter2"),
        "surrogate": NotFound(details=[{"field": "\ud800", "issue": "x"}]),
    }[name]


Install = Callable[[Any, Kit], None]


@dataclass
class Pair:
    """One application and how to drive it."""

    name: str
    app: Any
    kit: Kit
    driver: Driver


def new_kit(**settings: Any) -> Kit:
    """Return a kit whose clock stands still, with the application's mapping."""
    kit = Kit(Settings(**settings), clock=ManualClock())
    kit.errors.map(Foreign, NotFound)
    return kit


def fastapi_pair(kit: Kit | None = None, **options: Any) -> Pair:  # noqa: C901 - views, not branches
    """Return the application on FastAPI."""
    kit = kit or new_kit()
    app = FastAPI(**options)
    backendkit.fastapi.install(app, kit)

    @app.get("/ok")
    async def ok() -> Any:
        return {"id": context.request_id()}

    @app.post("/orders")
    async def order(order: Order) -> Any:
        return {"email": order.email}

    @app.post("/echo")
    async def echo(order: Order) -> Any:
        return order

    @app.get("/pages")
    async def pages(page: int = page_query(ge=1)) -> Any:
        return {"page": page}

    @app.get("/raise/{name}")
    async def raises(name: str) -> None:
        raise_named(name)

    @app.get("/sync/{name}")
    def raises_sync(name: str) -> None:
        raise_named(name)

    @app.get("/http/{status}")
    async def http(status: int, detail: str | None = None) -> None:
        raise HTTPException(status, detail, HEADERS)

    @app.get("/redirect")
    async def redirect() -> Any:
        return RedirectResponse("/ok", 302)

    @app.get("/text")
    async def text() -> Any:
        return own_words()

    @app.get("/stream")
    async def stream() -> Any:
        async def pieces() -> Any:
            yield b"one"
            await asyncio.sleep(0)
            raise ValueError("late")

        return StreamingResponse(pieces(), media_type="text/plain")

    return Pair("fastapi", app, kit, Asgi(app))


def page_query(**rules: Any) -> Any:
    """Return FastAPI's marker of a query parameter."""
    from fastapi import Query

    return Query(1, **rules)


def own_words() -> Any:
    """Return an error that the endpoint itself wrote as text."""
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("my own words", 404)


def flask_pair(kit: Kit | None = None, **config: Any) -> Pair:  # noqa: C901 - views, not branches
    """Return the application on Flask."""
    kit = kit or new_kit()
    app = flask.Flask("pair")
    app.config.update(config)
    backendkit.flask.install(app, kit)

    @app.get("/ok")
    def ok() -> Any:
        return {"id": context.request_id()}

    @app.post("/orders")
    def order() -> Any:
        return {"email": backendkit.flask.body(Order).email}

    @app.post("/echo")
    def echo() -> Any:
        return backendkit.flask.body(Order).model_dump()

    @app.get("/pages")
    def pages() -> Any:
        return {"page": backendkit.flask.query(Page).page}

    @app.get("/raise/<name>")
    def raises(name: str) -> Any:
        raise_named(name)

    @app.get("/sync/<name>")
    def raises_sync(name: str) -> Any:
        raise_named(name)

    @app.get("/http/<int:status>")
    def http(status: int) -> Any:
        # werkzeug's `abort` knows only statuses with a class; FastAPI's exception takes any.
        from werkzeug.exceptions import HTTPException as Raised

        class Odd(Raised):
            code = status

            def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
                return [*super().get_headers(*args, **kwargs), *HEADERS.items()]

        raise Odd(flask.request.args.get("detail"))

    @app.get("/redirect")
    def redirect() -> Any:
        return flask.redirect("/ok")

    @app.get("/text")
    def text() -> Any:
        return flask.Response("my own words", 404, mimetype="text/plain")

    @app.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise ValueError("late")

        return flask.Response(pieces(), mimetype="text/plain")

    return Pair("flask", app, kit, Wsgi(app))


PAIRS: dict[str, Callable[..., Pair]] = {"fastapi": fastapi_pair, "flask": flask_pair}
