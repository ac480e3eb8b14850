"""The response cache behind real servers, several processes on one Redis: one call for a herd, nothing of one user for another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from uuid import uuid4

import pytest

from tests.ground.lifeline import tied
from tests.ground.single import Single
from tests.ground.waiting import eventually

ROOT = Path(__file__).parents[2]
HERD = 24
UVICORN = ("uvicorn", "tests.e2e.served_cache:fastapi_app", "--host", "127.0.0.1", "--port", "{port}")  # fmt: skip
GUNICORN = ("gunicorn", "tests.e2e.served_cache:flask_app", "--workers", "2", "--threads", "16", "--bind", "127.0.0.1:{port}")  # fmt: skip
WORKERS = (*UVICORN, "--workers", "2")
SYNC = (*GUNICORN[:2], "--workers", "3", "--bind", "127.0.0.1:{port}")
FLEETS = {
    "uvicorn-memory": ((UVICORN,), False),
    "uvicorn-workers-redis": ((WORKERS,), True),
    "gunicorn-sync-redis": ((SYNC,), True),
    "uvicorn-redis": ((UVICORN, UVICORN), True),
    "gunicorn-redis": ((GUNICORN,), True),
    "both-redis": ((UVICORN, GUNICORN), True),
}


class Fleet:
    """Servers that share a store, or one that has none to share."""

    def __init__(self, ports: list[int], calls: Path) -> None:
        self.ports = ports
        self._calls = calls

    def ask(self, path: str, turn: int = 0, **headers: str) -> tuple[int, object, dict[str, str]]:
        """Ask one of the servers, under one host name for all."""
        connection = HTTPConnection("127.0.0.1", self.ports[turn % len(self.ports)], timeout=20)
        try:
            connection.request("GET", path, headers={"Host": "fleet", **headers})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, json.loads(response.read() or b"null"), found
        finally:
            connection.close()

    def herd(self, path: str) -> list[tuple[int, object, dict[str, str]]]:
        """Ask all of them, many times at once."""
        with ThreadPoolExecutor(HERD) as threads:
            return list(threads.map(lambda turn: self.ask(path, turn), range(HERD)))

    def calls(self, path: str) -> int:
        """Return how often the application was called for a path."""
        return self._calls.read_text().splitlines().count(path)


@pytest.fixture(scope="module", params=FLEETS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Some servers, ready for requests."""
    plans, shared = FLEETS[request.param]
    single = request.getfixturevalue("redis_single") if shared else None
    with serving(tmp_path_factory.mktemp("fleet"), plans, single) as made:
        yield made


@contextmanager
def serving(
    room: Path, plans: Sequence[Sequence[str]], single: Single | None, *, timeout: str = "2"
) -> Iterator[Fleet]:
    """Serve for a block."""
    calls = room / "calls"
    calls.touch()
    env = {**os.environ, "CALLS": str(calls), "PYTHONPATH": str(ROOT)}
    env["BACKENDKIT_CACHE__NAMESPACE"] = room.name
    if single is not None:
        env |= {"BACKENDKIT_STORE__URL": single.url, "BACKENDKIT_STORE__TIMEOUT": timeout}
    with ExitStack() as stack:
        ports = _free_ports(len(plans))
        for plan, port in zip(plans, ports, strict=True):
            command = [sys.executable, "-m", *(part.format(port=port) for part in plan)]
            log = stack.enter_context((room / f"{port}.log").open("wb"))
            process = subprocess.Popen(tied(*command), env=env, cwd=ROOT, stdout=log, stderr=log)
            stack.callback(_end, process)
        made = Fleet(ports, calls)
        for turn in range(len(ports)):
            eventually(partial(made.ask, "/private", turn), "a server answers")
        yield made


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


def test_a_herd_calls_the_application_once(fleet: Fleet) -> None:
    """In all processes together; everybody gets the same bytes under the same tag, and a 304 for it."""
    answers = fleet.herd("/page/a")
    assert {status for status, _, _ in answers} == {200}
    assert {json.dumps(body) for _, body, _ in answers} == {'{"name": "a"}'}
    assert len({headers["content-type"] for _, _, headers in answers}) == 1
    assert fleet.calls("/page/a") == 1
    tag = answers[0][2]["etag"]
    for turn in range(4):
        assert fleet.ask("/page/a", turn, **{"If-None-Match": tag})[0] == 304
    assert fleet.calls("/page/a") == 1


@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
def test_nothing_of_one_user_reaches_another(fleet: Fleet, header: str) -> None:
    """At the same time, in all processes, though the application says that everybody may have it."""

    def ask(turn: int) -> tuple[object, str]:
        name = f"user-{turn % 5}"
        return fleet.ask("/mine", turn, **{header: name})[1], name

    before = fleet.calls("/mine")
    with ThreadPoolExecutor(10) as threads:
        for body, name in threads.map(ask, range(10)):
            assert body == {"who": name}
    assert fleet.calls("/mine") == before + 10


def test_what_may_not_be_stored_holds_nobody_up_for_long(fleet: Fleet) -> None:
    """Each has its own answer: the application is called for all of them."""
    before = fleet.calls("/private")
    answers = fleet.herd("/private")
    assert {status for status, _, _ in answers} == {200}
    assert fleet.calls("/private") == before + HERD


@pytest.mark.parametrize("path", ["/events", "/later"])
def test_nobody_waits_for_an_end(fleet: Fleet, path: str) -> None:
    """A stream begins at once, and ends when its client is gone; background work holds no answer up."""
    begun = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", fleet.ports[0], timeout=20)) as connection:
        connection.request("GET", path, headers={"Host": f"fleet-{uuid4().hex}"})
        response = connection.getresponse()
        assert response.status == 200
        if path == "/later":
            assert response.read().strip() == b"{}"
            assert time.monotonic() - begun < 2.5  # seconds; the work takes 3
            return
        assert response.readline() == b"data: x\n"
        response.close()
    eventually(
        lambda: fleet.calls("/events") == fleet.calls("/events/ended"), "the stream has ended"
    )


def test_a_paused_redis_stops_no_page(own_redis: Callable[..., Single], tmp_path: Path) -> None:
    """It is served, and stored again once Redis goes on."""
    single = own_redis()
    with serving(tmp_path, (UVICORN, GUNICORN), single, timeout="0.25") as fleet:
        assert fleet.ask("/page/a", 0)[0] == fleet.ask("/page/a", 1)[0] == 200
        with single.server.paused():
            for turn in range(8):
                status, body, _ = fleet.ask(f"/page/{turn}", turn)
                assert (status, body) == (200, {"name": str(turn)})
        eventually(partial(_shared, fleet), "one server finds what the other has stored")


def _shared(fleet: Fleet) -> bool:
    name = f"/page/{uuid4().hex}"
    return [fleet.ask(name, turn)[0] for turn in (0, 1)] == [200, 200] and fleet.calls(name) == 1
