"""What a checker makes of errors and adapters; never run."""

from typing import assert_type

from fastapi import FastAPI
from flask import Flask
from pydantic import BaseModel

import backendkit.fastapi
import backendkit.flask
from backendkit.errors import Conflict, Errors, NotFound, Rendered, UpstreamTimeout
from backendkit.http import AsgiFrame, WsgiFrame
from backendkit.kit import Kit


class SeatTaken(Conflict):
    """Three lines."""

    code = "SEAT_TAKEN"
    message = "Seat {seat} is taken"


class Body(BaseModel):
    """A body."""

    seat: str


def of_os_error(exc: OSError) -> UpstreamTimeout | None:
    """A rule."""
    return UpstreamTimeout() if exc.errno == 110 else None


def adapters(kit: Kit) -> None:
    """Both faces, and the frames alone."""
    fast, flask = FastAPI(), Flask("x")
    backendkit.fastapi.install(fast, kit, reraise=True)
    backendkit.flask.install(flask, kit)
    assert_type(backendkit.flask.body(Body), Body)
    AsgiFrame(fast, kit.errors, unhandled="leave")
    WsgiFrame(flask.wsgi_app, kit.errors)


def errors(registry: Errors) -> None:
    """Rules and what comes out."""
    registry.map(LookupError, NotFound)
    registry.map(OSError, of_os_error)
    registry.map(KeyError, lambda exc: SeatTaken(seat=exc.args[0]))
    assert_type(registry.render(SeatTaken(seat="1")), Rendered)
