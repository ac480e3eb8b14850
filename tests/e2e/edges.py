"""Applications with everything that goes wrong late: uvicorn serves `fastapi_app`, gunicorn `flask_app`."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import flask
from fastapi import BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.responses import Response

import backendkit.fastapi
import backendkit.flask
from backendkit.errors import Conflict
from backendkit.kit import Kit
from backendkit.logging import bind, configure_logging, get_logger
from backendkit.settings import Settings

configure_logging()
log = get_logger("edges")


def new_kit() -> Kit:
    """Return a kit that lets requests in for a while after SIGTERM."""
    return Kit(Settings(http={"drain": 1.0}))


fastapi_app = FastAPI(max_body_size=1000)
backendkit.fastapi.install(fastapi_app, new_kit())


@fastapi_app.get("/ok")
async def ok(n: int = 0) -> Any:
    """Answer."""
    bind(n=n)
    return {"n": n, "pid": os.getpid()}


@fastapi_app.post("/ok")
async def take(body: dict[str, Any]) -> Any:
    """Answer with as much."""
    return body


@fastapi_app.get("/slow")
async def slow(seconds: float) -> Any:
    """Answer after a while, on the loop."""
    await asyncio.sleep(seconds)
    return {}


@fastapi_app.get("/thread")
def thread(seconds: float) -> Any:
    """Answer after a while, in a thread."""
    log.info("begun")
    time.sleep(seconds)
    return {}


@fastapi_app.get("/stream")
async def stream() -> Any:
    """Fail in mid-stream."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("hunter2")

    return StreamingResponse(pieces())


@fastapi_app.get("/endless")
async def endless() -> Any:
    """Stream until the client leaves."""

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    return StreamingResponse(pieces())


@fastapi_app.get("/background")
async def background(tasks: BackgroundTasks) -> Any:
    """Fail after the answer."""

    async def task() -> None:
        log.info("in the background")
        raise ValueError("hunter2")

    tasks.add_task(task)
    return {}


@fastapi_app.get("/silent")
async def silent() -> Any:
    """Answer nothing."""

    class Silent(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            """Send nothing."""

    return Silent()


async def echo(socket: WebSocket) -> None:
    """Say everything back; whoever leaves ends it."""
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def fails(socket: WebSocket) -> None:
    """Fail once it is open."""
    await socket.accept()
    raise ValueError("hunter2")


async def conflicts(socket: WebSocket) -> None:
    """Fail, by name, once it is open."""
    await socket.accept()
    raise Conflict


async def denies(socket: WebSocket) -> None:
    """Fail, by name, before."""
    raise Conflict


async def speaks(socket: WebSocket) -> None:
    """Close with more than fits."""
    await socket.accept()
    await socket.close(4000, "é" * 100)


for view in (echo, fails, conflicts, denies, speaks):
    fastapi_app.add_api_websocket_route(f"/{view.__name__}", view)


flask_app = flask.Flask("edges")
flask_app.config["MAX_CONTENT_LENGTH"] = 1000
flask_kit = new_kit()
backendkit.flask.install(flask_app, flask_kit)


@flask_app.get("/ok")
def flask_ok() -> Any:
    """Answer."""
    number = int(flask.request.args.get("n", 0))
    bind(n=number)
    return {"n": number, "pid": os.getpid()}


@flask_app.post("/ok")
def flask_take() -> Any:
    """Answer with as much."""
    return flask.request.get_json()


@flask_app.get("/slow")
@flask_app.get("/thread")
def flask_slow() -> Any:
    """Answer after a while."""
    log.info("begun")
    time.sleep(float(flask.request.args["seconds"]))
    return {}


def streaming(make: Callable[[], Iterator[bytes]]) -> flask.Response:
    """Return a response in pieces."""
    return flask.Response(make(), mimetype="application/octet-stream")


@flask_app.get("/stream")
def flask_stream() -> Any:
    """Fail in mid-stream."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("hunter2")

    return streaming(pieces)


@flask_app.get("/endless")
def flask_endless() -> Any:
    """Stream until the client leaves."""

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000
            time.sleep(0.01)

    return streaming(pieces)


@flask_app.get("/background")
def flask_background() -> Any:
    """Fail after the answer."""
    answer = flask.Response("{}", mimetype="application/json")

    def task() -> None:
        log.info("in the background")
        raise ValueError("hunter2")

    answer.call_on_close(task)
    return answer


inner = flask_app.wsgi_app


def silent_below(environ: Any, start_response: Any) -> Any:
    """Answer nothing at one path."""
    return [] if environ["PATH_INFO"] == "/silent" else inner(environ, start_response)


flask_app.wsgi_app = silent_below  # type: ignore[method-assign]
# What was put around the application after us is noticed with the first request that gets through to us.
assert flask_app.test_client().get("/healthz").status_code == 200
