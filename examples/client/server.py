"""A front's server as a process of its own: started, asked until it answers, and ended whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).resolve().parents[2]
"""The folder that the packages here are named from."""

READY = "/users"
"""What a service that is ready answers with success."""

READY_WITHIN_S = 30.0
ENDED_WITHIN_S = 10.0
POLL_S = 0.05
TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """How to start a front.

    Attributes:
        name: what the transcript calls it.
        behind: the server's name, for the transcript.
        command: arguments of the interpreter; `{port}` is filled in.
        ended_within_s: how many seconds it has to end when asked to.
    """

    name: str
    behind: str
    command: Sequence[str]
    ended_within_s: float = ENDED_WITHIN_S


class NotReady(Exception):
    """A server ended, or took too long, before it answered; holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        plan: how it was started.
        process: its process; the leader of a group of its own, which a server's workers belong to.
        url: where it listens.
        log: the file that it writes to.
    """

    plan: Plan
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @classmethod
    def start(cls, plan: Plan, port: int, room: Path, settings: Mapping[str, str]) -> Self:
        """Start a server.

        Args:
            plan: how.
            port: where it shall listen, on the loopback.
            room: the folder that it runs and logs in.
            settings: variables that set the service up.
        """
        log = room / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  # this interpreter, and a plan's command
                [sys.executable, *(part.format(port=port) for part in plan.command)],
                cwd=room,
                env=_environment(settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to whole groups: ours alone shall get it, and then end the servers in good order.
                # Not in a session: Linux shares out cores by session, and a busy one may keep the others waiting.
                process_group=0,
            )
        return cls(plan, process, f"http://127.0.0.1:{port}", log)

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
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def records(self) -> list[dict[str, Any]]:
        """Return what the server has logged as JSON, in order."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def stop(self) -> None:
        """Ask the process to end; if it does not, or nobody can wait, end its group."""
        self.process.terminate()
        try:
            self.process.wait(self.plan.ended_within_s)
        except subprocess.TimeoutExpired:
            print(f"{self.plan.name} does not end by itself", file=sys.stderr)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a server: `settings`, and of the shell's whatever does not set the service up."""
    ours = ("ACCOUNTS_", "BACKENDKIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, **settings}
