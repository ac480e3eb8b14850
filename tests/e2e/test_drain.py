"""SIGTERM behind real servers: readiness goes down first, and what runs is finished."""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.test_servers import COMMANDS, Server, serve

__all__ = ["serve"]


@pytest.mark.parametrize("name", COMMANDS)
def test_readiness_goes_down_while_requests_are_still_served(
    serve: Callable[[str], Server],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Probes see `draining`; new requests and the one that runs get their answers; the process ends by itself."""
    monkeypatch.setenv("BACKENDKIT_HTTP__DRAIN", "1")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--config tests/e2e/gunicorn_drain.py --workers 1")
    server = serve(name)
    assert server.ask("GET", "/readyz")[0] == 200
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.ask, "GET", "/slow")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        status, body = 200, b""
        for _ in range(40):
            status, _headers, body = server.ask("GET", "/readyz")
            if status == 503:
                break
            time.sleep(0.02)
        assert (status, b'"draining"' in body) == (503, True)
        assert server.ask("GET", "/id")[0] == 200
        assert running.result(10)[0] == 200
    server.process.wait(15)
