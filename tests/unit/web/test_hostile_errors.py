"""Whatever a view raises: an envelope with a status from 400 to 599, on both frameworks, and one line of the log."""

import io
import json
from collections.abc import Callable
from typing import Any

import flask
import pytest
import werkzeug.exceptions
from fastapi import FastAPI, HTTPException

import backendkit.fastapi
import backendkit.flask
from backendkit.errors import AppError, Conflict, RateLimited
from backendkit.logging import configure_logging
from tests.unit.web.apps import ID, new_kit
from tests.unit.web.drivers import Asgi, Wsgi

CYCLE: dict[str, Any] = {}
CYCLE["itself"] = CYCLE


class Hostile(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("hunter2")

    __repr__ = __str__


class Seats(Conflict):
    """Has whatever parameters it is given."""

    code = "HOSTILE_SEATS"
    message = "Seats {seat} {n}"


def with_status(status: Any) -> Exception:
    """Return an error whose class says nonsense."""
    kind = type("Odd", (AppError,), {"status": status, "code": "HOSTILE_ODD"})
    error: Exception = kind()
    return error


def http(status: Any, detail: Any = None, headers: Any = None) -> Exception:
    """Return Starlette's error, which checks nothing."""
    error = HTTPException(500, detail, headers)
    error.status_code = status
    return error


def werkzeugs(status: Any, description: Any = None, response: Any = None) -> Exception:
    """Return Werkzeug's error, which checks nothing either."""
    error = werkzeug.exceptions.HTTPException(description, response)
    error.code = status
    return error


RAISED: dict[str, Callable[[], BaseException]] = {
    "hostile": Hostile,
    "hostile cause": lambda: _chained(ValueError("x"), Hostile()),
    "surrogates": lambda: Seats(seat="\ud800", n="\udfff"),
    "not a number": lambda: Seats(seat=float("nan"), n=float("-inf")),
    "cyclic parameter": lambda: Seats(seat=CYCLE, n=CYCLE),
    "hostile parameter": lambda: Seats(seat=Hostile(), n=1),
    "cyclic details": lambda: Conflict(details=[CYCLE]),
    "surrogate details": lambda: Conflict(details=[{"field": "\ud800", "issue": "\udfff"}]),
    "no details": lambda: Conflict(details=[None]),  # type: ignore[list-item]
    "headers that split": lambda: Conflict(headers={"X-A": "a\r\nSet-Cookie: b=1", "X B": "\x00"}),
    "headers not latin": lambda: Conflict(headers={"X-A": "\u20ac", "Content-Length": "1"}),
    "a wait that is no number": lambda: RateLimited(retry_after=float("nan")),
    "status 99": lambda: with_status(99),
    "status x": lambda: with_status("x"),
    "status None": lambda: with_status(None),
    "group": lambda: ExceptionGroup("g", [Hostile(), ExceptionGroup("h", [Seats(seat=1, n=2)])]),
    "stop iteration": StopIteration,
    "recursion": RecursionError,
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "\ud800"),
    "starlette 99": lambda: http(99, "hunter2"),
    "starlette x": lambda: http("x", "hunter2"),
    "starlette 200": lambda: http(200),
    "starlette text": lambda: http(409, CYCLE),
    "starlette headers": lambda: http(409, "x", {"X-A": "a\r\nSet-Cookie: b=1"}),
    "werkzeug 99": lambda: werkzeugs(99, "hunter2"),
    "werkzeug x": lambda: werkzeugs("x", "hunter2"),
    "werkzeug text": lambda: werkzeugs(409, "\ud800"),
}


def _chained(exc: Exception, cause: Exception) -> Exception:
    exc.__cause__ = cause
    return exc


def fastapi_driver(make: Callable[[], BaseException]) -> Asgi:
    """Return an application on FastAPI whose view raises it."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.get("/x")
    async def view() -> None:
        raise make()

    return Asgi(app)


def flask_driver(make: Callable[[], BaseException]) -> Wsgi:
    """Return an application on Flask whose view raises it."""
    app = flask.Flask("hostile")
    backendkit.flask.install(app, new_kit())

    @app.get("/x")
    def view() -> Any:
        raise make()

    return Wsgi(app)


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.parametrize("driver", [fastapi_driver, flask_driver])
def test_whatever_is_raised_is_an_envelope_and_one_line(name: str, driver: Any) -> None:
    """The length is right, nothing splits the headers, and a 500 says nothing of what it was."""
    out = io.StringIO()
    with configure_logging(stream=out):
        answer = driver(RAISED[name]).get("/x", ID)
    assert 400 <= answer.status <= 599
    assert answer.error["requestId"] == "same-1"
    assert b"hunter2" not in answer.body
    assert not any("\r" in value or "\n" in value for _, value in answer.headers)
    assert answer.all("set-cookie") == []
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    unhandled = [record for record in records if record["event"] == "unhandled error"]
    assert len(unhandled) == (answer.status == 500)
    (line,) = [record for record in records if record["logger"] == "backendkit.access"]
    assert line["status"] == answer.status
