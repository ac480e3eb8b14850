"""Nothing is left running, however the session that started it ends."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ground.loops import in_fork
from tests.ground.waiting import eventually

ROOT = Path(__file__).parents[2]

# Servers of every kind, one paused, one started by a thread that has ended, one by a forked child.
SESSION = """
import os, threading
from tests.ground.servers import Server
from tests.ground.single import UnixSocket
servers = [Server(), Server(role="cluster"), Server(), UnixSocket().server]
for server in servers[:3]:
    server.start()
thread = threading.Thread(target=servers[3].start)
thread.start()
thread.join()
servers[0].pause()
print(*(server.pid for server in servers), flush=True)
print(*(server.directory for server in servers), flush=True)
"""
WAIT = "import signal; signal.pause()"
CRASH = "os._exit(1)"
END = "pass"
FAIL = "raise ValueError('on purpose')"


@contextmanager
def session(last_words: str) -> Iterator[tuple[subprocess.Popen[str], list[int], list[Path]]]:
    """Run a session, and hand over its process, its servers' pids and directories."""
    command = [sys.executable, "-c", f"{SESSION}\n{last_words}"]
    directories: list[Path] = []
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            assert child.stdout is not None
            pids = [int(pid) for pid in child.stdout.readline().split()]
            directories = [Path(path) for path in child.stdout.readline().split()]
            assert len(pids) == len(directories) == 4
            yield child, pids, directories
        finally:
            child.kill()
            remove(directories)


def remove(directories: list[Path]) -> None:
    """Remove what a killed session could not."""
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


def in_directory(pid: int, directory: Path) -> bool:
    """The process is there and is that server, not another that was given its pid since."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False


def left(pids: list[int], directories: list[Path]) -> list[int]:
    """Return the servers that still live."""
    return [p for p, d in zip(pids, directories, strict=True) if in_directory(p, d)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_session_leaves_no_server(number: signal.Signals) -> None:
    """No finalizer runs, and yet all servers die, even the paused one."""
    with session(WAIT) as (child, pids, directories):
        assert left(pids, directories) == pids
        child.send_signal(number)
        assert child.wait(10) == -number
        eventually(lambda: not left(pids, directories), "all servers are dead")


@pytest.mark.parametrize(
    ("last_words", "number"), [(CRASH, None), (END, None), (FAIL, None), (WAIT, signal.SIGINT)]
)
def test_a_session_that_ends_leaves_no_server(
    last_words: str, number: signal.Signals | None
) -> None:
    """Whether it crashes, ends without closing anything, fails, or is interrupted by Ctrl-C."""
    with session(last_words) as (child, pids, directories):
        if number is not None:
            child.send_signal(number)
        child.wait(10)
        eventually(lambda: not left(pids, directories), "all servers are dead")
        if last_words != CRASH:  # nothing can remove files then
            assert not any(directory.exists() for directory in directories)


PYTEST = """
import os
from tests.ground.waiting import eventually
def test_start(own_sentinel, redis_single, tmp_path):
    servers = own_sentinel().servers + [redis_single.server]
    print("", *(f"{s.pid}={s.directory}" for s in servers), file=open(os.environ["REPORT"], "w"))
    import signal; signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pytest_leaves_no_server(tmp_path: Path, number: signal.Signals) -> None:
    """The same with fixtures, shared and own."""
    test, report = tmp_path / "test_inner.py", tmp_path / "report"
    test.write_text(PYTEST)
    directories: list[Path] = []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", str(test)]
    with subprocess.Popen(
        [*command, f"--rootdir={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "REPORT": str(report), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as child:
        try:
            words = eventually(lambda: _words(report), "the inner test has servers", within=30)
            pairs = [word.split("=", 1) for word in words]
            pids, directories = [int(pid) for pid, _ in pairs], [Path(path) for _, path in pairs]
            assert left(pids, directories) == pids
            assert len(pids) == 6
            child.send_signal(number)
            child.wait(20)
            eventually(lambda: not left(pids, directories), "all servers are dead")
        finally:
            child.kill()
            remove(directories)


def _words(report: Path) -> list[str]:
    text = report.read_text()
    return text.split() if text.endswith("\n") else []


TIED = """
import subprocess, sys
from tests.ground.lifeline import tied
ends = "import signal, sys; signal.signal(15, lambda *_: (print('ended', flush=True), sys.exit())); "
waits = "print('ready', flush=True); signal.pause()"
subprocess.Popen(tied(sys.executable, "-c", ends + waits))
"""


def test_a_program_of_a_killed_session_is_asked_to_end() -> None:
    """So that a web server can end its workers, too."""
    command = [sys.executable, "-c", f"{TIED}\n{WAIT}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.kill()
        assert child.stdout.read() == "ended\n"


def test_every_program_of_a_test_is_tied() -> None:
    """Whoever starts one without waiting for it has it end with the session."""
    starters = [p for p in ROOT.glob("tests/**/*.py") if "subprocess.Popen(" in p.read_text()]
    assert len(starters) > 5
    assert {p.name for p in starters if "tied(" not in p.read_text()} == set()


def test_a_forked_childs_server_dies_with_it() -> None:
    """The child ends by `os._exit` and closes nothing."""

    def child() -> tuple[int, Path]:
        from tests.ground.servers import Server

        server = Server().start()
        return server.pid, server.directory

    pid, directory = in_fork(child)
    eventually(lambda: not in_directory(pid, directory), "the child's server is dead")
    remove([directory])
