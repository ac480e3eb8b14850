"""Two applications behind the response cache, for real servers; each call of theirs leaves a line in a file."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import flask
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from backendkit.fastapi import AsgiCache
from backendkit.flask import WsgiCache
from backendkit.http import CacheRule
from backendkit.kit import Kit

PUBLIC = {"Cache-Control": "max-age=60"}
SLOW_S = 0.3

kit = Kit.from_env(env_file=None)
rule = CacheRule(store=kit.cache(), tags=lambda asked: ["pages"])


def called(path: str) -> None:
    """Leave a line, and take a while."""
    with Path(os.environ["CALLS"]).open("a") as calls:
        calls.write(path + "\n")
    time.sleep(SLOW_S)


fastapi_app = FastAPI()


@fastapi_app.get("/page/{name}")
def fastapi_page(name: str) -> Any:
    """Answer for everybody."""
    called(f"/page/{name}")
    return JSONResponse({"name": name}, headers=PUBLIC)


@fastapi_app.get("/mine")
def fastapi_mine(request: Request) -> Any:
    """Answer one user, and say carelessly that it is for everybody."""
    called("/mine")
    who = request.headers.get("authorization", "") + request.headers.get("cookie", "")
    return JSONResponse({"who": who}, headers=PUBLIC)


@fastapi_app.get("/private")
def fastapi_private() -> Any:
    """Answer what may not be stored."""
    called("/private")
    return {}


@fastapi_app.get("/events")
async def fastapi_events() -> Any:
    """Send without end, the first event late."""

    async def events() -> AsyncIterator[str]:
        called("/events")
        try:
            await asyncio.sleep(SLOW_S)
            while True:
                yield "data: x\n\n"
                await asyncio.sleep(0.01)
        finally:
            called("/events/ended")

    return StreamingResponse(events(), media_type="text/event-stream", headers=PUBLIC)


@fastapi_app.get("/later")
def fastapi_later(tasks: BackgroundTasks) -> Any:
    """Answer, and work on for longer than anybody waits."""
    tasks.add_task(time.sleep, 3)
    return JSONResponse({}, headers=PUBLIC, background=tasks)


fastapi_app.add_middleware(AsgiCache, rule=rule)

flask_app = flask.Flask("served")


@flask_app.get("/page/<name>")
def flask_page(name: str) -> Any:
    """Answer for everybody."""
    called(f"/page/{name}")
    return {"name": name}, PUBLIC


@flask_app.get("/mine")
def flask_mine() -> Any:
    """Answer one user."""
    called("/mine")
    headers = flask.request.headers
    return {"who": headers.get("Authorization", "") + headers.get("Cookie", "")}, PUBLIC


@flask_app.get("/private")
def flask_private() -> Any:
    """Answer what may not be stored."""
    called("/private")
    return {}


@flask_app.get("/events")
def flask_events() -> Any:
    """Send without end."""

    def events() -> Iterator[str]:
        called("/events")
        try:
            while True:
                yield "data: x\n\n"
                time.sleep(0.01)
        finally:
            called("/events/ended")

    return flask.Response(events(), mimetype="text/event-stream", headers=PUBLIC)


@flask_app.get("/later")
def flask_later() -> Any:
    """Answer, and work on for longer than anybody waits."""
    response = flask.jsonify({})
    response.headers.update(PUBLIC)
    response.call_on_close(lambda: time.sleep(3))
    return response


flask_app.wsgi_app = WsgiCache(flask_app.wsgi_app, rule)  # type: ignore[method-assign,assignment]  # as Flask's manual does
