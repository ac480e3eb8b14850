"""The applications that the benchmark `http` drives: bare, with ours, and with what one would use instead."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import flask
import structlog
from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI, HTTPException
from fastapi_problem.handler import add_exception_handler, new_exception_handler
from pydantic import BaseModel
from secure import Preset, Secure
from secure.middleware import SecureASGIMiddleware, SecureWSGIMiddleware
from starlette.middleware.base import BaseHTTPMiddleware

import backendkit.fastapi
import backendkit.flask
from backendkit.errors import NotFound
from backendkit.kit import Kit
from backendkit.settings import HttpSettings, Settings

BARE_KIT = HttpSettings(
    security_headers=False, access_log=False, timeout_header=None, live_path=None, ready_path=None
)
"""Request ids and errors, and nothing else."""

DEVNULL = open("/dev/null", "w")  # noqa: SIM115, PTH123 - as long as the process, as standard output would be

Work = Callable[[int], None]


class Item(BaseModel):
    """What is posted."""

    name: str
    price: float


def fastapi_app(not_found: Callable[[], Exception]) -> FastAPI:
    """Return the application that all rows share."""
    app = FastAPI()

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.post("/items")
    async def add(item: Item) -> dict[str, str]:
        return {"name": item.name}

    @app.get("/missing")
    async def missing() -> None:
        raise not_found()

    @app.get("/boom")
    async def boom() -> None:
        deep(12)

    return app


def deep(calls: int) -> None:
    """Fail some calls down, as real errors do."""
    if not calls:
        raise ValueError("boom")
    deep(calls - 1)


def bare() -> FastAPI:
    """FastAPI as it comes."""
    return fastapi_app(lambda: HTTPException(404, "no such item"))


def ours(http: HttpSettings | None = None) -> FastAPI:
    """With the kit; None: as it is installed by default."""
    app = fastapi_app(NotFound)
    backendkit.fastapi.install(app, Kit(Settings(http=http or HttpSettings())))
    return app


def with_correlation_id() -> FastAPI:
    """With asgi-correlation-id."""
    app = bare()
    app.add_middleware(CorrelationIdMiddleware)
    return app


def with_secure() -> FastAPI:
    """With the headers of secure."""
    app = bare()
    app.add_middleware(SecureASGIMiddleware, secure=Secure.from_preset(Preset.BALANCED))
    return app


def with_problem() -> FastAPI:
    """With fastapi-problem."""
    app = bare()
    add_exception_handler(app, new_exception_handler())
    return app


def with_structlog() -> FastAPI:
    """With structlog's usual set-up in an ASGI middleware."""
    app = bare()
    app.add_middleware(_StructlogMiddleware)
    return app


def with_base_middleware() -> FastAPI:
    """With what tutorials show: BaseHTTPMiddleware, structlog, asgi-correlation-id, headers."""
    app = bare()

    async def log(request: Any, call_next: Any) -> Any:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=str(uuid4()))
        begun = time.perf_counter()
        response = await call_next(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        spent = time.perf_counter() - begun
        LOG.info(
            "request",
            method=request.method,
            path=request.url.path,
            status=response.status_code,
            duration=spent,
        )
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=log)
    app.add_middleware(CorrelationIdMiddleware)
    return app


LOG: Any = structlog.wrap_logger(
    structlog.PrintLogger(DEVNULL),
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
    wrapper_class=structlog.make_filtering_bound_logger(20),
)


class _StructlogMiddleware:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=str(uuid4()))
        begun, seen = time.perf_counter(), [0]

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                seen[0] = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            LOG.exception("unhandled")
            raise
        spent = time.perf_counter() - begun
        LOG.info(
            "request", method=scope["method"], path=scope["path"], status=seen[0], duration=spent
        )


def flask_app() -> flask.Flask:
    """Flask as it comes."""
    app = flask.Flask("bench")

    @app.get("/items/<int:item>")
    def item(item: int) -> dict[str, int]:
        return {"item": item}

    return app


def our_flask() -> flask.Flask:
    """With the kit."""
    app = flask_app()
    backendkit.flask.install(app, Kit())
    return app


def flask_with_structlog() -> flask.Flask:
    """With structlog's usual set-up in hooks."""
    app = flask_app()

    @app.before_request
    def begin() -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=str(uuid4()))
        flask.g.begun = time.perf_counter()

    @app.after_request
    def end(response: flask.Response) -> flask.Response:
        spent, request = time.perf_counter() - flask.g.begun, flask.request
        LOG.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            duration=spent,
        )
        return response

    return app


def flask_with_secure() -> flask.Flask:
    """With the headers of secure."""
    app = flask_app()
    headers = Secure.from_preset(Preset.BALANCED)
    app.wsgi_app = SecureWSGIMiddleware(app.wsgi_app, secure=headers)  # type: ignore[method-assign]
    return app


def asgi(
    runner: asyncio.Runner, app: Any, path: str, *, method: str = "GET", body: bytes = b""
) -> Work:
    """Return what makes requests of an ASGI application."""
    headers = [(b"host", b"bench"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("bench", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        """Drop what is sent."""

    async def turns(calls: int) -> None:
        for _ in range(calls):
            with suppress(ValueError):  # what the application raises to its server
                await app({**scope, "state": {}}, receive, send)

    return lambda calls: runner.run(turns(calls))


def wsgi(app: Any, path: str) -> Work:
    """Return what makes requests of a WSGI application."""
    base = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "bench",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "bench",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        return None

    def turns(calls: int) -> None:
        for _ in range(calls):
            body = app({**base, "wsgi.input": io.BytesIO()}, start_response)
            for _piece in body:
                pass
            getattr(body, "close", int)()

    return turns
