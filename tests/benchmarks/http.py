"""The web frame beside FastAPI and Flask as they come, and beside what one would use instead."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from statistics import median

import structlog
from pydantic import BaseModel

from backendkit.core.context import Request
from backendkit.errors import Conflict, Errors
from backendkit.logging import AccessLog, configure_logging, configured, get_logger
from tests.benchmarks import web
from tests.benchmarks.measure import Raced, median_cost, race
from tests.benchmarks.report import Row, write

PEERS = ["fastapi", "starlette", "flask", "structlog", "asgi-correlation-id", "fastapi-problem", "secure"]  # fmt: skip

TEXT = """
CPU time of one process, in process, without a server: what a layer adds to each request. Rivals take turns, round by
round, and the ratio is the median of each round's. `full` is what `install(app, kit)` brings by default: request id, envelope,
security headers, deadline header, health pages, and a JSON access line for each request, written to `/dev/null`.
Lower is better; 1.06 is six per cent more than the framework alone.
"""


def page() -> str:
    """Measure everything and write the page."""
    notes = ["## The same, beside peers", ""]
    with asyncio.Runner() as runner:
        logs = configure_logging(stream=web.DEVNULL)
        rows = [*_on_fastapi(runner, notes), *_on_flask(notes), *_errors(runner, notes)]
        rows += [*_logging(), *_primitives()]
        logs.undo()
    return write("http", "The web frame", TEXT, rows, PEERS, notes="\n".join(notes))


def _on_fastapi(runner: asyncio.Runner, notes: list[str]) -> list[Row]:
    apps = {
        "FastAPI": web.bare(),
        "id + envelope": web.ours(web.BARE_KIT),
        "full": web.ours(),
        "asgi-correlation-id": web.with_correlation_id(),
        "secure": web.with_secure(),
        "structlog, usual set-up": web.with_structlog(),
        "BaseHTTPMiddleware with both": web.with_base_middleware(),
    }
    found = race({n: web.asgi(runner, app, "/items/7") for n, app in apps.items()}, 300)
    notes += _table("200 on FastAPI", found)
    return [
        _against("request id + envelope, FastAPI 200", found, "id + envelope", "FastAPI", 1.06),
        _against("full, FastAPI 200", found, "full", "FastAPI", 1.15),
    ]


def _on_flask(notes: list[str]) -> list[Row]:
    apps = {
        "Flask": web.flask_app(),
        "full": web.our_flask(),
        "secure": web.flask_with_secure(),
        "structlog in hooks, usual set-up": web.flask_with_structlog(),
    }
    found = race({name: web.wsgi(app, "/items/7") for name, app in apps.items()}, 300)
    notes += _table("200 on Flask", found)
    return [_against("full, Flask 200", found, "full", "Flask", 1.12)]


def _errors(runner: asyncio.Runner, notes: list[str]) -> list[Row]:
    apps = {
        "FastAPI": web.bare(),
        "ours": web.ours(web.BARE_KIT),
        "fastapi-problem": web.with_problem(),
    }
    missing = race({n: web.asgi(runner, a, "/missing") for n, a in apps.items()}, 200)
    notes += _table("404", missing)
    invalid = race(
        {
            name: web.asgi(runner, app, "/items", method="POST", body=b'{"price": "x"}')
            for name, app in apps.items()
        },
        150,
    )
    notes += _table("422", invalid)
    apps["structlog, usual set-up"] = web.with_structlog()
    boom = race({n: web.asgi(runner, a, "/boom") for n, a in apps.items()}, 30, rounds=9)
    notes += _table("unhandled 500 (FastAPI itself logs nothing; its server would)", boom)
    over = boom["ours"].cost.cpu - missing["ours"].cost.cpu
    theirs = boom["structlog, usual set-up"].cost.cpu - missing["FastAPI"].cost.cpu
    return [
        _against("404", missing, "ours", "FastAPI", 1.0),
        _against("422", invalid, "ours", "FastAPI", 0.8),
        Row("unhandled 500, over a 404", _us(over), f"bound 200 us; structlog {_us(theirs)}", "200 us", over / 200, 1.0),
    ]  # fmt: skip


def _logging() -> list[Row]:
    quiet, usual = get_logger("bench"), structlog.stdlib.get_logger("bench.usual")
    usual = structlog.wrap_logger(
        logging.getLogger("bench.usual"),
        processors=[structlog.stdlib.filter_by_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    debug = race(
        {"theirs": _each(lambda: usual.debug("x")), "ours": _each(lambda: quiet.debug("x"))}, 3_000
    )
    ours = debug["ours"].cost.cpu
    line, redaction = _access_line()
    return [
        Row("debug record, filtered out", _us(ours), "bound; structlog on logging", _us(debug["theirs"].cost.cpu), ours / 0.7, 1.0),
        Row("access line, whole, redaction included", _us(line), "bound", "15 us", line / 15, 1.0),
        Row("redaction on the access line", _us(redaction), "bound", "3 us", redaction / 3, 1.0),
    ]  # fmt: skip


def _access_line() -> tuple[float, float]:
    """Return the CPU time of one access line, and of what looks for secrets in it, in microseconds."""
    access, request = AccessLog(), Request("4bf92f3577b34da6a3ce929d0e0e4736")
    line = _each(
        lambda: access.write(request, "GET", "/items/7", 200, 1_234, route="/items/{item}", size=10)
    )
    logs = configured()
    assert logs is not None
    secrets = logs.pipeline.cleaner.secrets
    redaction = _each(lambda: secrets.text("/items/7"))
    return median_cost(line, 3_000).cpu, median_cost(redaction, 3_000).cpu


class _Taken(Conflict):
    """An error with a parameter."""

    code = "BENCH_SEAT_TAKEN"
    message = "Seat {seat} is taken"


class _Error(BaseModel):
    code: str
    message: str
    details: list[dict[str, str]]
    requestId: str  # noqa: N815 - as it travels
    timestamp: str


class _Envelope(BaseModel):
    error: _Error


def _primitives() -> list[Row]:
    errors, taken = Errors(), _Taken(seat="12A")
    fields = {"code": "X", "message": "m", "details": [], "requestId": "a", "timestamp": "t"}
    found = race(
        {
            "theirs": _each(lambda: _Envelope.model_validate({"error": fields}).model_dump_json()),
            "ours": _each(lambda: errors.render(taken, "application/json", "abc123")),
        },
        3_000,
    )
    ours, theirs = found["ours"].cost.cpu, found["theirs"].cost.cpu
    ms, frameworks = _import_errors()
    return [
        Row("`render()`, without orjson", _us(ours), "bound 8 us; a pydantic model alone", _us(theirs), ours / 8, 1.0),
        Row(f"`import backendkit.errors`; frameworks loaded: {frameworks}", f"{ms:.1f} ms", "bound", "15 ms", ms / 15, 1.0),
    ]  # fmt: skip


def _import_errors() -> tuple[float, int]:
    ms = median(float(_said(TIMED)) for _ in range(15))
    asked = "import sys, backendkit.errors; print(len({'fastapi', 'starlette', 'flask', 'pydantic'} & set(sys.modules)))"
    return ms, int(_said(asked))


TIMED = (
    "import time; begun = time.process_time(); import backendkit.errors; "
    "print((time.process_time() - begun) * 1000)"
)
"""Timed inside a fresh interpreter: what an interpreter itself takes to start is not ours."""


def _said(code: str) -> str:
    # With compiled files, as installed packages have them.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.check_output([sys.executable, "-c", code], text=True, env=kept)


def _each(call: Callable[[], object]) -> web.Work:
    def work(calls: int) -> None:
        for _ in range(calls):
            call()

    return work


def _against(what: str, found: Mapping[str, Raced], ours: str, theirs: str, target: float) -> Row:
    mine, other = found[ours], found[theirs]
    return Row(what, _us(mine.cost.cpu), theirs, _us(other.cost.cpu), mine.ratio, target)


def _table(title: str, found: Mapping[str, Raced]) -> list[str]:
    lines = [f"| {name} | {_us(one.cost.cpu)} | {one.ratio:.2f}x |" for name, one in found.items()]
    return [f"| {title} | CPU | ratio |", "|---|---|---|", *lines, ""]


def _us(value: float) -> str:
    return f"{value:.1f} us"
