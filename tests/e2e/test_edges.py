"""What only a real server shows: clients that leave, answers that break off, sockets, late errors, the way out.

Each server is started once, serves all tests, and writes JSON lines, in which a test finds its own by the request's id.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, IncompleteRead
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.ground.lifeline import tied
from tests.ground.ports import PORTS
from tests.ground.waiting import eventually

ROOT = Path(__file__).parents[2]
ASGI = ["uvicorn", "tests.e2e.edges:fastapi_app", "--timeout-graceful-shutdown", "15"]
WSGI = ["gunicorn", "tests.e2e.edges:flask_app", "--config", "tests/e2e/gunicorn_edges.py"]
COMMANDS = {
    "uvicorn": ASGI,
    "uvicorn, 2 workers": [*ASGI, "--workers", "2"],
    "gunicorn, sync": [*WSGI, "--workers", "2"],
    "gunicorn, threads": [*WSGI, "--workers", "2", "--threads", "4"],
}


@dataclass
class Served:
    """A running server.

    Attributes:
        name: which.
        port: where.
        process: its main process.
        log: what it and its workers have written.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def asgi(self) -> bool:
        """Whether it is uvicorn."""
        return self.name.startswith("uvicorn")

    def new_id(self) -> str:
        """Return an id that no other request has."""
        return f"test-{next(self.numbers)}"

    def ask(
        self, path: str, rid: str, method: str = "GET", body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers in lower case, and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"X-Request-ID": rid, "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return (
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def leave(self, path: str, rid: str, after: int = 0) -> None:
        """Ask, read so many bytes of the answer, and hang up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            lines = [f"GET {path} HTTP/1.1", "Host: test", f"X-Request-ID: {rid}", "", ""]
            connection.sendall("\r\n".join(lines).encode())
            while after > 0:
                after -= len(connection.recv(65536))

    def records(self, rid: str) -> list[dict[str, Any]]:
        """Return what was written about one request, apart from the server's own lines."""
        lines = [line for line in self.log.read_text().splitlines() if f'"{rid}"' in line]
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [
            record for record in found if not record["logger"].startswith(("uvicorn", "gunicorn"))
        ]

    def access(self, rid: str) -> dict[str, Any]:
        """Return the one access line of a request, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [r for r in self.records(rid) if r["logger"] == "backendkit.access"]

        (line,) = eventually(found, f"the access line of {rid}", detail=self.log.read_text)
        return line

    def unhandled(self, rid: str) -> list[str]:
        """Return the types of the unhandled errors of a request."""
        return [
            record["exception"]["type"]
            for record in self.records(rid)
            if record["logger"] == "backendkit.errors"
        ]

    def get_ready(self) -> None:
        """Wait for the first answer."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.ask("/healthz", "ready")[0] == 200

        eventually(answers, f"{self.name} answers", within=60, detail=self.log.read_text)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Served]:
    """Run a server for as long as the block."""
    port, log = PORTS.take(), folder / "server.log"
    where = ["--port", str(port)] if name.startswith("uvicorn") else ["--bind", f"127.0.0.1:{port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            tied(sys.executable, "-m", *COMMANDS[name], *where),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    served = Served(name, port, process, log)
    try:
        served.get_ready()
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        PORTS.give_back(port)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """Start a server, or return the one that runs."""
    with ExitStack() as stack:

        @cache
        def get(name: str) -> Served:
            return stack.enter_context(started(name, tmp_path_factory.mktemp("edges")))

        yield get


@pytest.fixture(params=list(COMMANDS))
def served(request: pytest.FixtureRequest, running: Callable[[str], Served]) -> Served:
    """Return each server, for the tests of both protocols."""
    return running(request.param)


@pytest.fixture
def uvicorn(running: Callable[[str], Served]) -> Served:
    """Return the one that has sockets."""
    return running("uvicorn")


@pytest.mark.parametrize("path", ["/slow", "/thread"])
def test_a_client_that_leaves_before_its_answer_is_a_499(uvicorn: Served, path: str) -> None:
    """In the access line, as nginx has it; the application never asked whether anybody was there."""
    rid = uvicorn.new_id()
    uvicorn.leave(f"{path}?seconds=1", rid)
    assert uvicorn.access(rid)["status"] == 499
    assert uvicorn.unhandled(rid) == []
    patient = uvicorn.new_id()
    assert uvicorn.ask(f"{path}?seconds=0.3", patient)[0] == 200
    assert uvicorn.access(patient)["status"] == 200


def test_a_client_that_leaves_a_stream_ends_it_and_is_nobodys_error(served: Served) -> None:
    """The stream is endless: only the end of it writes its line. The status was out by then."""
    rid = served.new_id()
    served.leave("/endless", rid, after=5000)
    assert served.access(rid)["status"] == 200
    assert served.unhandled(rid) == []


def test_a_stream_that_fails_is_cut_and_recorded_once(served: Served) -> None:
    """The client sees that the end is missing; the next request is served."""
    rid = served.new_id()
    with pytest.raises((IncompleteRead, ConnectionError)):
        served.ask("/stream", rid)
    served.access(rid)
    assert served.unhandled(rid) == ["ValueError"]
    assert served.ask("/ok", served.new_id())[0] == 200


def test_work_after_the_answer_that_fails_is_recorded_once_with_the_requests_id(
    served: Served,
) -> None:
    """The client has its answer and hears of nothing."""
    rid = served.new_id()
    status, headers, body = served.ask("/background", rid)
    assert (status, headers["x-request-id"], body) == (200, rid, b"{}")
    served.access(rid)
    assert served.unhandled(rid) == ["ValueError"]
    assert "in the background" in [record["event"] for record in served.records(rid)]


def test_an_application_that_answers_nothing_is_a_500_with_its_id(served: Served) -> None:
    """And not the server's plain text."""
    rid = served.new_id()
    status, headers, body = served.ask("/silent", rid)
    assert (status, headers["x-request-id"]) == (500, rid)
    assert json.loads(body)["error"]["code"] == "INTERNAL_ERROR"
    assert served.access(rid)["status"] == 500
    assert [name.rpartition(".")[2] for name in served.unhandled(rid)] == ["NoResponse"]


def test_a_body_over_the_limit_is_an_enveloped_413(served: Served) -> None:
    """Whoever refuses it."""
    rid = served.new_id()
    status, headers, body = served.ask("/ok", rid, "POST", b'{"a": "%s"}' % (b"x" * 2000))
    assert (status, headers["x-request-id"]) == (413, rid)
    assert json.loads(body)["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/ok", "/nowhere", "/silent", "/healthz"])
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    """With the same length; the connection is good for another request."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        found: list[tuple[int, str | None, str | None, int]] = []
        for method in ("GET", "HEAD", "HEAD"):
            connection.request(method, path)
            answer = connection.getresponse()
            length, kind = answer.getheader("content-length"), answer.getheader("content-type")
            found.append((answer.status, length, kind, len(answer.read())))
    finally:
        connection.close()
    get, *heads = found
    assert heads == [(*get[:3], 0)] * 2
    assert get[1] == str(get[3])


def test_requests_at_once_keep_what_is_theirs(served: Served) -> None:
    """Through threads, workers and the loop; all are written, each on one line."""
    rids = [served.new_id() for _ in range(200)]

    def ask(at: int) -> tuple[str, int]:
        _, headers, body = served.ask(f"/ok?n={at}", rids[at])
        return headers["x-request-id"], json.loads(body)["n"]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(200))) == list(zip(rids, range(200), strict=True))
    for at, rid in enumerate(rids):
        assert (served.access(rid)["n"], served.access(rid)["route"]) == (at, "/ok")


def test_queries_are_in_no_line_that_the_server_writes(served: Served) -> None:
    """Neither in ours nor in its own."""
    rid = served.new_id()
    served.ask("/ok?n=1&code=hunter2", rid)
    served.access(rid)
    assert "hunter2" not in "".join(
        line for line in served.log.read_text().splitlines() if "/ok" in line
    )


# Websockets


async def talk(served: Served, path: str, rid: str, *, say: str | None = None) -> Any:
    """Return what a socket came to: a denial (status, headers, body), or a close (code, reason)."""
    uri, headers = f"ws://127.0.0.1:{served.port}{path}", {"X-Request-ID": rid}
    try:
        async with websockets.connect(uri, additional_headers=headers) as opened:
            accepted = opened.response
            assert accepted is not None
            assert accepted.headers["x-request-id"] == rid
            if say is not None:
                await opened.send(say)
                return await opened.recv()
            await opened.recv()
    except websockets.InvalidStatus as denied:
        answer = denied.response
        return answer.status_code, answer.headers["x-request-id"], json.loads(answer.body or b"")
    except websockets.ConnectionClosed as closed:
        frame = closed.rcvd  # None: the connection broke
        return None if frame is None else (frame.code, frame.reason)


@pytest.mark.parametrize(("path", "status"), [("/denies", 409), ("/nowhere", 403)])
def test_a_socket_is_denied_by_an_envelope(uvicorn: Served, path: str, status: int) -> None:
    """Before it is open it is a request like any other."""
    rid = uvicorn.new_id()
    told, named, body = asyncio.run(talk(uvicorn, path, rid))
    assert (told, named, body["error"]["requestId"]) == (status, rid, rid)
    assert uvicorn.access(rid)["status"] == status
    assert uvicorn.unhandled(rid) == []


@pytest.mark.parametrize(
    ("path", "code", "reason", "unhandled"),
    [
        ("/fails", 1011, "INTERNAL_ERROR", ["ValueError"]),
        ("/conflicts", 1008, "CONFLICT", []),
        ("/speaks", 4000, "é" * 61, []),
    ],
)
def test_an_open_socket_is_closed_with_a_code_and_a_reason(
    uvicorn: Served, path: str, code: int, reason: str, unhandled: list[str]
) -> None:
    """Not by a connection that breaks."""
    rid = uvicorn.new_id()
    assert asyncio.run(talk(uvicorn, path, rid)) == (code, reason)
    assert uvicorn.access(rid)["status"] == 101
    assert uvicorn.unhandled(rid) == unhandled


def test_a_socket_that_its_client_closes_leaves_one_line(uvicorn: Served) -> None:
    """Every socket ends that way, and none is an error."""
    rid = uvicorn.new_id()
    assert asyncio.run(talk(uvicorn, "/echo", rid, say="hello")) == "hello"
    assert uvicorn.access(rid)["status"] == 101
    assert uvicorn.unhandled(rid) == []


# The way out


@pytest.mark.parametrize("name", ["uvicorn, 2 workers", "gunicorn, sync"])
def test_requests_that_run_when_sigterm_comes_are_finished(name: str, tmp_path: Path) -> None:
    """The process ends by itself, and has written every line."""
    with started(name, tmp_path) as served, ThreadPoolExecutor(2) as pool:
        rids = [served.new_id() for _ in range(2)]
        running = [pool.submit(served.ask, "/thread?seconds=2.5", rid) for rid in rids]
        eventually(lambda: all(map(served.records, rids)), "both requests have begun")
        served.process.send_signal(signal.SIGTERM)
        assert [one.result(30)[0] for one in running] == [200, 200]
        served.process.wait(30)
        assert [served.access(rid)["status"] for rid in rids] == [200, 200]
