"""The demo as its readers run it: real servers, a scripted client, and an exit status that means something."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from examples.client.front import Request
from examples.client.play import main
from examples.client.scene import Exchange, Expect, Section
from examples.client.server import NotReady, Plan
from examples.client.servers import running
from examples.client.transcript import Transcript
from tests.ground.lifeline import tied

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
WITHIN_S = 60.0
PLAYED_WITHIN_S = 110.0  # twenty seconds, if nobody else needs the cores
POLL_S = 0.02

LIST = Exchange(
    what="an empty list",
    send=Request(method="GET", path="/users"),
    expect=Expect(status=200, body={"items": [], "next": None}),
)


def demo(*arguments: str, cwd: Path, stderr: int = subprocess.STDOUT) -> "subprocess.Popen[str]":
    """Start the demo as a program, in a temporary folder of its own."""
    return subprocess.Popen(
        tied(sys.executable, str(DEMO), *arguments),
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd), "HOME": str(cwd)},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def alive(pid: int) -> bool:
    """Tell whether a process with this id runs; one that waits to be collected by its parent does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def eventually(claim: Callable[[], bool]) -> bool:
    """Ask until it holds, or the patience ends."""
    give_up = time.monotonic() + WITHIN_S
    while not claim():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


def test_the_demo_succeeds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Exit status 0, a transcript that names both fronts and their ids, no process, no file."""
    process = demo(cwd=tmp_path)
    out, _ = process.communicate(timeout=PLAYED_WITHIN_S)

    assert process.returncode == 0, out
    assert "== Users ==" in out
    assert "all as they should be; both fronts answered alike" in out
    assert re.search(r"fastapi +201 +\S{8,}", out)
    assert re.search(r"flask +1x201 7x409 +8 request ids", out)
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", out)]
    assert len(pids) == 2
    assert len(re.findall(r"its record, \S+: error: unhandled error, KeyError at", out)) == 2
    assert re.search(r"fastapi +3x200 1x201 1x503", out)
    assert re.search(r"flask +3x200 1x201 1x503", out)
    assert not any(map(alive, pids))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_expectation_fails_and_says_what_differed() -> None:
    """The demo is a test: it must be able to fail."""
    wrong = replace(LIST, expect=Expect(status=201, body={"items": ["Ada"]}))
    out = io.StringIO()

    status = main([], sections=[Section("Users", [LIST, wrong])], transcript=Transcript(out))

    assert status == 1
    for name in ("fastapi", "flask"):
        assert f"{name}: status: expected 201, got 200" in out.getvalue()
        assert f"{name}: body.items: expected ['Ada'], got []" in out.getvalue()
        assert f"the end of the log of {name}" in out.getvalue()
    assert "1 of 2 scenes are not what they should be" in out.getvalue()


def test_one_section_can_be_played_alone() -> None:
    """Whoever works on a feature need not wait for the others."""
    out = io.StringIO()
    sections = [Section("Users", [LIST]), Section("Refusals", [LIST])]

    status = main(["refusals"], sections=sections, transcript=Transcript(out))

    assert status == 0
    assert "== Refusals ==" in out.getvalue()
    assert "== Users ==" not in out.getvalue()


def test_a_section_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before any server starts."""
    with pytest.raises(SystemExit) as caught:
        main(["nonsense"])

    assert caught.value.code == 2
    assert "no such section: nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_whoever_stops_the_demo_stops_the_servers(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Ctrl-C, a request to end, a closed terminal: no process and no file stays."""
    process = demo(cwd=tmp_path)
    assert process.stdout is not None
    pids = []
    for line in process.stdout:
        pids += [int(pid) for pid in re.findall(r"pid (\d+)", line)]
        if len(pids) == 2:
            break

    process.send_signal(number)
    process.communicate(timeout=WITHIN_S)

    assert process.returncode == status
    assert not any(map(alive, pids))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_stops_the_demo(tmp_path: Path) -> None:
    """`demo.py | head` leaves no process, no file, and no traceback."""
    process = demo(cwd=tmp_path, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()

    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()

    assert process.wait(WITHIN_S) == 128 + signal.SIGPIPE
    assert complaint == ""
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_at_once_is_reported_with_its_log() -> None:
    """Not by a timeout half a minute later, and the other servers end as well."""
    began = time.monotonic()
    broken = Plan("broken", "none", ("-c", "import sys; sys.exit('out of order')"))

    with (
        pytest.raises(NotReady, match=r"broken did not get ready.*\nout of order"),
        running([broken]),
    ):
        pass

    assert time.monotonic() - began < WITHIN_S / 4


def test_a_server_that_ignores_a_request_to_end_is_ended(tmp_path: Path) -> None:
    """Its whole group, so that no worker stays."""
    stubborn = (
        "import http.server, os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal;signal.pause()'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()\n"
    )

    with running([Plan("stubborn", "none", ("-c", stubborn), ended_within_s=0.2)]) as fronts:
        server = fronts[0].server
        child = int((tmp_path / "child").read_text())

    assert server is not None
    assert not alive(server.process.pid)
    assert eventually(lambda: not alive(child))
