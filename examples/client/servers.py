"""The fronts as real processes: each behind its server, on a free port of the loopback, with a database of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import httpx

from examples.accounts.storage.migrate import migrate
from examples.client.front import Front

ROOT = Path(__file__).resolve().parents[2]
READY = "/users"
READY_WITHIN_S = 30.0
STOPPED_WITHIN_S = 10.0
POLL_S = 0.05
LOG_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start a front.

    Attributes:
        name: what the transcript calls it.
        server: what it runs behind, for the transcript.
        command: arguments of the interpreter; `{port}` is filled in.
    """

    name: str
    server: str
    command: Sequence[str]


PLANS = (
    Plan(
        "fastapi",
        "uvicorn",
        (
            *("-m", "uvicorn", "--factory", "examples.accounts.fronts.fastapi_app:create_app"),
            *("--host", "127.0.0.1", "--port", "{port}", "--no-server-header"),
        ),
    ),
    Plan(
        "flask",
        "gunicorn, 2 workers",
        (
            *("-m", "gunicorn", "examples.accounts.fronts.flask_app:create_app()"),
            *("--workers", "2", "--threads", "4", "--bind", "127.0.0.1:{port}"),
        ),
    ),
)


class NotReady(Exception):
    """A server ended, or took too long, before it answered; holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A front's process.

    Attributes:
        plan: how it was started.
        process: its process; the leader of a group of its own, which a server's workers belong to.
        url: where it listens.
        log: what it wrote so far.
        patience_s: how many seconds it has to end when asked to.
    """

    plan: Plan
    process: subprocess.Popen[bytes]
    url: str
    log: Path
    patience_s: float

    def wait_until_ready(self, client: httpx.Client) -> None:
        """Ask until the service answers.

        Raises:
            NotReady: it did not.
        """
        give_up = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get(READY).is_success:
                    return
            time.sleep(POLL_S)
        raise NotReady(f"{self.plan.name} did not get ready; the end of its log:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """Ask the process to end; if it does not, or nobody can wait, end its group."""
        self.process.terminate()
        try:
            self.process.wait(self.patience_s)
        except subprocess.TimeoutExpired:
            print(f"{self.plan.name} does not stop; ending it", file=sys.stderr)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


@contextmanager
def running(
    plans: Sequence[Plan] = PLANS, *, patience_s: float = STOPPED_WITHIN_S
) -> Iterator[list[tuple[Server, Front]]]:
    """Start a front for each plan and wait until all answer; end all of them, and leave no file, whatever happens.

    Args:
        plans: what to start.
        patience_s: how many seconds a server has to end when asked to.
    """
    with ExitStack() as stack:
        house = Path(stack.enter_context(TemporaryDirectory(prefix="accounts-")))
        servers = [_start(plan, house, stack, patience_s) for plan in plans]
        fronts = []
        for server in servers:
            client = stack.enter_context(httpx.Client(base_url=server.url, trust_env=False))
            server.wait_until_ready(client)
            fronts.append((server, Front(server.plan.name, client)))
        yield fronts


def _start(plan: Plan, house: Path, stack: ExitStack, patience_s: float) -> Server:
    room = house / plan.name
    room.mkdir()
    database = f"sqlite:///{room / 'accounts.sqlite3'}"
    migrate(database)
    port = _free_port()
    log = room / "server.log"
    output = stack.enter_context(log.open("wb"))
    process = _spawn([part.format(port=port) for part in plan.command], database, room, output)
    server = Server(plan, process, f"http://127.0.0.1:{port}", log, patience_s)
    stack.callback(server.stop)
    return server


def _spawn(
    command: Sequence[str], database: str, room: Path, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    # Only what the demo sets may set the service up: not the shell's variables, not a `.env` nearby.
    ours = ("ACCOUNTS_", "BACKENDKIT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    environment |= {"ACCOUNTS_DATABASE_URL": database, "PYTHONPATH": path}
    return subprocess.Popen(  # noqa: S603  # this interpreter, and a command from PLANS
        [sys.executable, *command],
        cwd=room,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Ctrl-C goes to whole groups: ours alone shall get it, and then end the servers in good order.
        start_new_session=True,
    )


def _free_port() -> int:
    """Return a port that nobody listens on; somebody might in the moment before the server does, and it would say so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
