"""Behind real servers every line on their outputs is a record: theirs, the application's, and the access line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.ground.lifeline import tied
from tests.ground.ports import PORTS

APPLICATION = """
import logging, os
from backendkit.core import context
from backendkit.logging import AccessLog, bind, configure_logging, get_logger

configure_logging(server_access=False)
access, log = AccessLog(), get_logger("app")

def handle(path):
    request = context.Request("r" + path.replace("/", "-"))
    token = context.enter(request)
    try:
        bind(user_id=7)
        log.info("handled", worker=os.getpid())
        logging.getLogger("std").warning("also %s", {"password": "hunter2"})
        access.write(request, "GET", path, 200, 1500)
    finally:
        context.leave(request, token)

async def asgi(scope, receive, send):
    if scope["type"] == "http":
        handle(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

def wsgi(environ, start_response):
    handle(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

UVICORN = ["-m", "uvicorn", "application:asgi", "--lifespan", "off"]
GUNICORN = ["-m", "gunicorn", "application:wsgi", "--workers", "2", "--preload", "--access-logfile", "-", "--bind"]  # fmt: skip
WERKZEUG = ["-c", "import sys, application, werkzeug.serving as s; s.run_simple('127.0.0.1', int(sys.argv[1]), application.wsgi)"]  # fmt: skip


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "werkzeug"])
def test_everything_that_a_server_says_is_a_record(server: str, tmp_path: Path) -> None:
    """The server configures its loggers in its own time; the workers share one pipe."""
    (tmp_path / "application.py").write_text(APPLICATION)
    port = PORTS.take()
    command = {
        "uvicorn": [*UVICORN, "--port", str(port)],
        "gunicorn": [*GUNICORN, f"127.0.0.1:{port}"],
        "werkzeug": [*WERKZEUG, str(port)],
    }[server]
    with subprocess.Popen(tied(sys.executable, *command), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # fmt: skip
        try:
            for number in range(20):
                assert fetch(f"http://127.0.0.1:{port}/{number}") == b"ok"
        finally:
            process.send_signal(signal.SIGINT if server == "werkzeug" else signal.SIGTERM)
            # A gunicorn worker that was still booting misses the signal, and is killed after 30 s.
            written, _ = process.communicate(timeout=60)
            PORTS.give_back(port)
    lines = [line for line in written.decode().splitlines() if line.startswith("{")]
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    # What gunicorn says before it has loaded the application, and uvicorn's last words, were or are not ours to tell.
    assert len(records) >= 60
    assert b"hunter2" not in written
    own = [record for record in records if record["logger"] in {"app", "std", "backendkit.access"}]
    assert len(own) == 60
    assert all((r["request_id"], r["user_id"]) == (r["request_id"], 7) for r in own)
    assert {record["request_id"] for record in own} == {f"r-{number}" for number in range(20)}
    assert not any(record["logger"] in {"uvicorn.access", "gunicorn.access"} for record in records)
    assert any(record["logger"].startswith(server) for record in records)


def fetch(url: str) -> bytes:
    """Return what a server answers, once it does."""
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
