"""The adapters behind real servers, over real sockets."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tests.ground.lifeline import tied

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "uvicorn": ["uvicorn", "tests.e2e.served:fastapi_app", "--host", "127.0.0.1", "--port"],
    "gunicorn": [
        "gunicorn",
        "tests.e2e.served:flask_app",
        "--workers",
        "2",
        "--threads",
        "4",
        "--bind",
    ],
}


@dataclass
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers in lower case, and body; the server's own headers are left out."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            for own in ("date", "server", "connection", "transfer-encoding"):
                found.pop(own, None)
            return response.status, found, response.read()
        finally:
            connection.close()

    def stop(self) -> str:
        """End the server; return what it wrote."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return self.log.read_text()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    """Start servers, ready for requests; they end with the test."""
    started: list[Server] = []

    def start(name: str) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        where = f"127.0.0.1:{port}" if name == "gunicorn" else str(port)
        log = tmp_path / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                tied(sys.executable, "-m", *COMMANDS[name], where),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        server = Server(port, process, log)
        started.append(server)
        _wait_until_ready(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.terminate()
            server.process.wait(20)


def _wait_until_ready(server: Server) -> None:
    for _ in range(400):
        assert server.process.poll() is None, server.log.read_text()
        try:
            server.ask("GET", "/id")
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"not ready: {server.log.read_text()}")


ID = {"X-Request-ID": "same-1"}
JSON = {**ID, "Content-Type": "application/json"}
REQUESTS: list[tuple[str, str, dict[str, str], bytes | None]] = [
    ("GET", "/conflict", ID, None),
    ("GET", "/conflict", {**ID, "Accept": "application/problem+json"}, None),
    ("GET", "/boom", ID, None),
    ("GET", "/nowhere", ID, None),
    ("HEAD", "/nowhere", ID, None),
    ("POST", "/users", JSON, b'{"name": "x"}'),
    ("POST", "/users", JSON, b'{"email": '),
    ("POST", "/users", JSON, b'{"email": NaN}'),
    ("POST", "/users", {**ID, "Content-Type": "text/plain"}, b"{}"),
]


def without_time(body: bytes) -> bytes:
    """Replace the one thing that may differ."""
    return re.sub(rb'"timestamp":"[0-9TZ:-]{20}"', b'"timestamp":"now"', body)


def test_both_servers_answer_alike(serve: Callable[[str], Server]) -> None:
    """Status, headers and bytes, as clients get them."""
    one, two = serve("uvicorn"), serve("gunicorn")
    for request in REQUESTS:
        (status, headers, body), other = one.ask(*request), two.ask(*request)
        assert (status, headers, without_time(body)) == (*other[:2], without_time(other[2]))
        assert headers["x-request-id"] == "same-1"
        assert status >= 400


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_error_is_written_once_and_not_told(
    serve: Callable[[str], Server], name: str
) -> None:
    """One traceback in all that the server writes."""
    server = serve(name)
    status, _, body = server.ask("GET", "/boom")
    assert (status, b"hunter2" in body) == (500, False)
    log = server.stop()
    assert log.count("Traceback") == 1
    assert log.count("ValueError: hunter2") == 1
    assert """unhandled error where="GET '/boom'\"""" in log


@pytest.mark.parametrize("name", COMMANDS)
def test_a_stream_that_fails_is_cut_and_written_once(
    serve: Callable[[str], Server], name: str
) -> None:
    """The client sees that the end is missing."""
    server = serve(name)
    with pytest.raises((IncompleteRead, ConnectionError)):
        server.ask("GET", "/stream")
    assert server.ask("GET", "/id")[0] == 200
    log = server.stop()
    assert log.count("Traceback") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_many_requests_at_once_keep_their_ids(serve: Callable[[str], Server], name: str) -> None:
    """Each with its own, and each with one that was made for it."""
    server = serve(name)

    def ask(number: int) -> tuple[str, Any, str]:
        wanted = f"r{number}" if number % 2 else ""
        _, headers, body = server.ask("GET", "/id", {"X-Request-ID": wanted} if wanted else {})
        return wanted, json.loads(body)["id"], headers["x-request-id"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert all(wanted in {"", told} and told == header for wanted, told, header in answers)
    assert len({told for _, told, _ in answers}) == 200
