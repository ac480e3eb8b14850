"""Two applications behind the response cache, for real servers; each call of theirs leaves a line in a file."""

import os
import time
from pathlib import Path
from typing import Any

import flask
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

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


flask_app.wsgi_app = WsgiCache(flask_app.wsgi_app, rule)  # type: ignore[method-assign,assignment]  # as Flask's manual does
