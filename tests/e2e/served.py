"""Two small applications for real servers: uvicorn serves `fastapi_app`, gunicorn `flask_app`."""

import time
from collections.abc import Iterator
from typing import Any

import flask
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import backendkit.fastapi
import backendkit.flask
from backendkit.core import context
from backendkit.errors import Conflict
from backendkit.kit import Kit


class User(BaseModel):
    """What is posted."""

    email: str


kit = Kit.from_env(env_file=None)

fastapi_app = FastAPI()
backendkit.fastapi.install(fastapi_app, kit)

flask_app = flask.Flask("served")
flask_kit = Kit.from_env(env_file=None)
backendkit.flask.install(flask_app, flask_kit)


@fastapi_app.get("/slow")
def fastapi_slow() -> Any:
    """Take longer than the pause after SIGTERM."""
    time.sleep(2)
    return {}


@flask_app.get("/slow")
def flask_slow() -> Any:
    """Take as long."""
    time.sleep(2)
    return {}


@fastapi_app.get("/id")
def fastapi_id() -> Any:
    """Return the id, from a worker thread, a moment later."""
    time.sleep(0.01)
    return {"id": context.request_id()}


@fastapi_app.post("/users")
async def fastapi_users(user: User) -> Any:
    """Read a body."""
    return {"email": user.email}


@fastapi_app.get("/conflict")
async def fastapi_conflict() -> None:
    """Raise an error with a name."""
    raise Conflict


@fastapi_app.get("/boom")
async def fastapi_boom() -> None:
    """Raise an error without."""
    raise ValueError("hunter2")


@fastapi_app.get("/stream")
async def fastapi_stream() -> Any:
    """Fail in mid-stream."""

    async def pieces() -> Any:
        yield b"half"
        raise ValueError("hunter2")

    return StreamingResponse(pieces())


@flask_app.get("/id")
def flask_id() -> Any:
    """Return the id, a moment later."""
    time.sleep(0.01)
    return {"id": context.request_id()}


@flask_app.post("/users")
def flask_users() -> Any:
    """Read a body."""
    return {"email": backendkit.flask.body(User).email}


@flask_app.get("/conflict")
def flask_conflict() -> Any:
    """Raise an error with a name."""
    raise Conflict


@flask_app.get("/boom")
def flask_boom() -> Any:
    """Raise an error without."""
    raise ValueError("hunter2")


@flask_app.get("/stream")
def flask_stream() -> Any:
    """Fail in mid-stream."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("hunter2")

    return flask.Response(pieces())
