"""Five hundred requests at once, through middleware, threads and streams: nothing of one appears in another."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

import backendkit.fastapi
import backendkit.flask
from backendkit.core import context
from tests.unit.web.apps import new_kit
from tests.unit.web.drivers import Asgi, Wsgi
from tests.unit.web.test_layers import Lines

MANY = 500


class Passing(BaseHTTPMiddleware):
    """The usual kind, which runs the application in another task."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        """Bind what the client calls itself."""
        context.bind(outer=request.headers["x-request-id"])
        return await call_next(request)


def check(lines: list[dict[str, Any]], bodies: list[tuple[str, bytes]]) -> None:
    """Each line and each body knows only its own request."""
    assert len(lines) == len({line["id"] for line in lines}) == MANY
    for line in lines:
        assert line["inner"] == line["id"]
        assert line.get("outer", line["id"]) == line["id"]
    for name, body in bodies:
        assert set(body.decode().split()) == {name}


def test_on_fastapi() -> None:
    """On one loop, with worker threads."""
    app, kit, lines = FastAPI(), new_kit(), Lines()
    kit.access = lines  # type: ignore[assignment]
    backendkit.fastapi.install(app, kit)
    app.add_middleware(Passing)

    @app.get("/thread")
    def thread() -> Any:
        context.bind(inner=context.request_id())
        return StreamingResponse(iter([f"{context.request_id()} "]))

    @app.get("/stream")
    async def stream() -> Any:
        context.bind(inner=context.request_id())

        async def pieces() -> Any:
            for _ in range(3):
                await asyncio.sleep(0)
                yield f"{context.request_id()} "

        return StreamingResponse(pieces())

    names = [f"r{number}" for number in range(MANY)]
    requests = [
        ("/thread" if number % 5 == 0 else "/stream", {"X-Request-ID": name})
        for number, name in enumerate(names)
    ]
    answers = Asgi(app).many(requests)
    check(lines.lines, list(zip(names, [answer.body for answer in answers], strict=True)))


def test_on_flask() -> None:
    """On eight threads, with streams that take turns."""
    app, kit, lines = flask.Flask("many"), new_kit(), Lines()
    kit.access = lines  # type: ignore[assignment]
    backendkit.flask.install(app, kit)

    @app.get("/stream")
    def stream() -> Any:
        context.bind(inner=context.request_id())

        def pieces() -> Any:
            for _ in range(3):
                yield f"{context.request_id()} "

        return flask.Response(pieces())

    local = threading.local()

    def two_at_once(number: int) -> list[tuple[str, bytes]]:
        driver = local.driver = Wsgi(app)
        names = [f"r{number}", f"r{number + 1}"]
        bodies = [driver.open("/stream", {"X-Request-ID": name}) for name in names]
        got = [b"", b""]
        for _ in range(3):
            for at in (0, 1):
                got[at] += next(bodies[at])
        for body in bodies:
            body.close()
        assert context.current() is None
        return list(zip(names, got, strict=True))

    with ThreadPoolExecutor(8) as pool:
        bodies = [pair for pairs in pool.map(two_at_once, range(0, MANY, 2)) for pair in pairs]
    check(lines.lines, bodies)
