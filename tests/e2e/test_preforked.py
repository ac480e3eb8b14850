"""A pre-fork server whose master has hashed and has connections: each worker makes threads and connections of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.ground.lifeline import tied
from tests.ground.waiting import eventually

ROOT = Path(__file__).parents[2]
RIGHT = "correct%20horse"


@pytest.fixture
def port(tmp_path: Path, redis_single: Any) -> Iterator[int]:
    """The port of a gunicorn of two workers; it ends with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    command = [
        "gunicorn",
        "tests.e2e.preforked:app",
        "--preload",
        "--workers",
        "2",
        "--threads",
        "4",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "TESTED_STORE": redis_single.url,
    }
    log = tmp_path / "gunicorn.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            tied(sys.executable, "-m", *command, "--bind", f"127.0.0.1:{found}"),
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ready() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            ask(found, "")
        except OSError:
            return False
        return True

    eventually(ready, "the server answers", within=60)
    yield found
    server.send_signal(signal.SIGTERM)
    server.wait(30)


def ask(port: int, password: str) -> dict[str, Any]:
    """Try to log in."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/?{password}")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def test_workers_hash_and_rotate(port: int) -> None:
    """From several clients at once, right and wrong passwords: every answer is right, from both workers."""
    password = "correct horse battery staple".replace(" ", "%20")
    answers: list[dict[str, Any]] = []

    def both_workers_answered() -> bool:
        with ThreadPoolExecutor(8) as clients:
            passwords = [password, password, "wrong"] * 8
            answers.extend(clients.map(lambda one: ask(port, one), passwords))
        return len({answer["pid"] for answer in answers}) == 2

    eventually(both_workers_answered, "both workers answered", within=60)
    said = [(answer["ok"], answer["subject"]) for answer in answers]
    assert said == [(True, "user-1"), (True, "user-1"), (False, None)] * (len(said) // 3)
