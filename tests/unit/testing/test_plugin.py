"""The fixtures, in a session of their own; and what the plugin costs a session that uses none."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import backendkit
from tests.structure.tree import ROOT

TESTS = """
from dataclasses import dataclass

import pytest
from backendkit.core.errors import StoreUnavailable
from backendkit.core.events import Event
from backendkit.core.operation import Change, Operation, Script
from backendkit.errors import Conflict
from backendkit.http import AsgiFrame, WsgiFrame
from backendkit.testing import faults

SET = Script("set", lua="", fold=lambda states, now, args: Change(((1, 10),), [now]))


@dataclass(frozen=True, slots=True)
class Happened(Event):
    pass


def test_the_clock_is_the_kits_and_the_stores(manual_clock, faulty_store, backend_kit):
    manual_clock.advance(5)
    assert backend_kit.clock is faulty_store.clock is manual_clock
    assert backend_kit.store is faulty_store
    now = backend_kit.store.run(Operation(SET, (b"k",), (), lambda reply: reply[0]))
    assert now == manual_clock.wall_us()


def test_faults(faulty_store):
    faulty_store.inject(faults.UNAVAILABLE)
    with pytest.raises(StoreUnavailable):
        faulty_store.run(Operation(SET, (b"k",), (), lambda reply: reply[0]))


def test_events(recorded_events, backend_kit):
    backend_kit.hooks.emit(Happened())
    recorded_events.one(Happened)


def test_clients(asgi_client, wsgi_client, backend_kit):
    async def app(scope, receive, send):
        raise Conflict

    def wsgi(environ, start_response):
        raise Conflict

    one = asgi_client(AsgiFrame(app, backend_kit.errors)).sync.get("/", headers={"X-Request-ID": "a"})
    two = wsgi_client(WsgiFrame(wsgi, backend_kit.errors)).get("/", headers={"X-Request-ID": "a"})
    assert one.body == two.body
    assert one.status == 409
"""

UNUSED = """
import sys


def test_nothing():
    ours = {name for name in sys.modules if name.startswith("backendkit")}
    assert ours == {"backendkit", "backendkit.testing", "backendkit.testing.plugin"}
    assert not {"pydantic", "asyncio", "typing_extensions"} & set(sys.modules)
"""


def session(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run tests in a session that has nothing but our plugin."""
    (tmp_path / "test_it.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "backendkit.testing.plugin", "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_fixtures_work_together(tmp_path: Path) -> None:
    """One clock, one store, one kit."""
    run = session(tmp_path, TESTS)
    assert run.returncode == 0, run.stdout
    assert "4 passed" in run.stdout


def test_a_session_that_uses_none_pays_nothing(tmp_path: Path) -> None:
    """Three small modules, and no library."""
    run = session(tmp_path, UNUSED)
    assert run.returncode == 0, run.stdout


def test_pytest_finds_it_by_itself() -> None:
    """By the entry point that the wheel declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"backendkit": "backendkit.testing.plugin"}


def test_importing_the_package_needs_no_pytest() -> None:
    """Nor a framework, nor the libraries of tests; all its names are there."""
    program = (
        "import sys, backendkit.testing as t\n"
        "loaded = set(sys.modules)\n"
        "assert not {'pytest', 'pydantic', 'starlette', 'asyncio'} & loaded, loaded\n"
        "assert all(getattr(t, name) is not None for name in t.__all__)\n"
        "assert set(t.__all__) <= set(dir(t))\n"
        "assert not {'pytest', 'starlette', 'flask', 'httpx'} & set(sys.modules)\n"
        "assert not hasattr(t, 'nonsense')\n"
    )
    path = str(Path(backendkit.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": path}
    )
