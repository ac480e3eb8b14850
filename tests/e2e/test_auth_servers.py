"""Logins behind real servers, by clients that keep cookies as browsers do."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.ground.lifeline import tied

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "uvicorn": ("uvicorn", "tests.e2e.served_auth:fastapi_app", "--host", "127.0.0.1", "--port", "{port}"),
    "gunicorn": ("gunicorn", "tests.e2e.served_auth:flask_app", "--threads", "4", "--bind", "127.0.0.1:{port}"),
}  # fmt: skip
LOGIN = {"username": "ada", "password": "correct horse battery"}
WITHIN_S = 60.0


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self) -> httpx.Client:
        """Return a browser of its own: a jar of cookies, and pages of this origin."""
        return httpx.Client(
            base_url=self.url, trust_env=False, timeout=WITHIN_S, headers={"Origin": self.url}
        )

    def said(self, word: str) -> str:
        """Return what the server has written, once `word` is in it."""
        give_up = time.monotonic() + WITHIN_S
        while word not in (text := self.log.read_text()):
            assert time.monotonic() < give_up, text
            time.sleep(0.02)
        return text


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers, ready for requests; they end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, **variables: str) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        log, url = tmp_path / f"{name}.log", f"http://127.0.0.1:{port}"
        command = [part.format(port=port) for part in COMMANDS[name]]
        path = os.pathsep.join([str(ROOT), *sys.path])
        with log.open("wb") as out:
            process = subprocess.Popen(
                tied(sys.executable, "-m", *command), cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path, **variables},
            )  # fmt: skip
        started.append(process)
        give_up = time.monotonic() + WITHIN_S
        while time.monotonic() < give_up:
            assert process.poll() is None, log.read_text()
            with suppress(httpx.TransportError):
                httpx.get(f"{url}/id", trust_env=False)
                return Server(url, process, log)
            time.sleep(0.05)
        pytest.fail(log.read_text())

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_browser_lives_through_a_session(serve: Serve, name: str) -> None:
    """Login, a change, two tabs that refresh at once, logout; the log names the user and nothing secret."""
    server = serve(name)
    with server.client() as browser:
        wrong = browser.post("/auth/login", json={**LOGIN, "password": "wr0ng"})
        assert wrong.status_code == 401
        assert browser.post("/auth/login", json=LOGIN).status_code == 200
        csrf = {"X-CSRF-Token": browser.cookies["csrf"]}
        assert browser.post("/me", headers=csrf).json() == {"id": "user-ada"}
        assert browser.post("/me").status_code == 403
        assert browser.post("/me", headers={**csrf, "Origin": "http://evil"}).status_code == 403
        spent = browser.cookies["refresh"]
        line = f"refresh={spent}; csrf={browser.cookies['csrf']}"

        def tab(_: int) -> httpx.Response:
            headers = {**csrf, "Cookie": line, "Origin": server.url}
            return httpx.post(f"{server.url}/auth/refresh", headers=headers, trust_env=False)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(tab, range(8)))
        assert [answer.status_code for answer in answers] == [200] * 8
        assert len({answer.cookies["refresh"] for answer in answers}) == 1
        browser.cookies = answers[0].cookies
        csrf = {"X-CSRF-Token": browser.cookies["csrf"]}
        assert browser.post("/auth/logout", headers=csrf).status_code == 204
        assert list(browser.cookies.jar) == []
    said = server.said("/auth/logout")
    assert re.search(r'"user_id": ?"user-ada"', said)
    for secret in (
        LOGIN["password"],
        "wr0ng",
        spent,
        spent.rpartition(".")[2],
        csrf["X-CSRF-Token"],
    ):
        assert secret not in said
    records = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    actions = [(one["action"], one["outcome"]) for one in records if one.get("event") == "audit"]
    assert actions == [("session.login", "failure"), ("session.login", "success"), ("session.logout", "success")]  # fmt: skip


def test_a_socket_is_closed_when_its_token_expires(serve: Serve) -> None:
    """By uvicorn, with 4401, whether it came by cookie, as a subprotocol or as the first message."""
    server = serve("uvicorn", SERVED_ACCESS_S="2")
    where = server.url.replace("http", "ws") + "/feed"
    with server.client() as browser:
        browser.post("/auth/login", json=LOGIN)
        token = browser.cookies["access"]
        ways = [
            {"additional_headers": {"Cookie": f"access={token}"}, "origin": server.url},
            {"subprotocols": [Subprotocol("bearer"), Subprotocol(token)]},
            {},
        ]
        for way in ways:
            browser.post("/auth/login", json=LOGIN)
            fresh = browser.cookies["access"]
            shown = json.loads(json.dumps(way).replace(token, fresh))
            with connect(where, proxy=None, **shown) as client:
                if not way:
                    client.send(fresh)
                assert client.recv(WITHIN_S) == "user-ada"
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(WITHIN_S)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "TOKEN_EXPIRED")
    said = server.said("WEBSOCKET")
    assert "unhandled" not in said
    assert token not in said
