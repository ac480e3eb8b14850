"""Start, signal and reap one program, by a pid that is certainly ours.

A pid stays reserved until its parent has reaped it, and only `Process` reaps: so it cannot have
been given to somebody else's process. Two more looks guard against surprises: a forked child never
signals its parent's processes, and the working directory of the pid must be the one that was given
to it.
"""

import os
import signal
import subprocess
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from tests.ground.lifeline import tied
from tests.ground.waiting import eventually

_STARTED_WITHIN_S = 30.0
_ENDED_WITHIN_S = 20.0


class Process:
    """One program in a directory of its own; output and errors are appended to `log`."""

    def __init__(self, *command: str, directory: Path, log: Path) -> None:
        self._owner = os.getpid()
        self._directory = directory.resolve()
        self._child = _NURSERY.start(command, directory, log)

    @property
    def pid(self) -> int:
        """The process id; after the lifeline has become the program it is the program's own."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, and always in a forked child; negative: the signal that ended it."""
        # Another process cannot wait for it; Popen would take that for its end.
        return self._child.poll() if os.getpid() == self._owner else None

    def pause(self) -> None:
        """Stop it (SIGSTOP) and return once every thread of it has stopped."""
        self._signal(signal.SIGSTOP)
        eventually(lambda: self._state() == "T", f"process {self.pid} is stopped")

    def resume(self) -> None:
        """Let it go on (SIGCONT); does nothing to one that was not paused, or has ended."""
        if self.exit_code is None:
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once (SIGKILL) and reap it; does nothing to one that has ended."""
        if self.exit_code is None:
            self._signal(signal.SIGKILL)
        self._child.wait(_ENDED_WITHIN_S)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and reap it; kill it if it does not listen."""
        if self.exit_code is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
        try:
            self._child.wait(_ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                f"process {self.pid} belongs to process {self._owner}: not signalled"
            )
        try:
            directory = Path(f"/proc/{self.pid}/cwd").resolve(strict=True)
        except OSError:  # a zombie has no directory, and needs no signal
            return
        if directory != self._directory:
            raise RuntimeError(f"process {self.pid} is not ours, it runs in {directory}")
        self._child.send_signal(number)

    def _state(self) -> str:
        # The name, in parentheses, may hold spaces and parentheses itself: proc_pid_stat(5).
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


class _Nursery:
    """Starts every process in one thread that lives as long as this process.

    The kernel's "parent" of PR_SET_PDEATHSIG is a thread: a server started by a test's short-lived
    thread would be killed when that thread ends.
    """

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Future[subprocess.Popen[bytes]], _Order]] | None = None
        os.register_at_fork(after_in_child=self._forget)

    def start(
        self, command: tuple[str, ...], directory: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        """Return the started process; whatever kept it from starting is raised."""
        if self._orders is None:
            self._orders = SimpleQueue()
            Thread(target=self._run, args=(self._orders,), name="nursery", daemon=True).start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((future, (command, directory, log)))
        return future.result(_STARTED_WITHIN_S)

    def _forget(self) -> None:
        self._orders = None  # the thread stayed behind in the parent

    @staticmethod
    def _run(orders: "SimpleQueue[tuple[Future[subprocess.Popen[bytes]], _Order]]") -> None:
        while True:
            future, order = orders.get()
            try:
                future.set_result(_popen(*order))
            except BaseException as error:  # noqa: BLE001  # the caller raises it
                future.set_exception(error)


_Order = tuple[tuple[str, ...], Path, Path]


def _popen(command: tuple[str, ...], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            tied(*command, number=signal.SIGKILL),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A Ctrl-C is for the tests, which then stop their servers. A session of its own would do that, too, but
            # Linux shares out cores by session (sched_autogroup): beside busy tests, a server then waits seconds.
            process_group=0,
        )


_NURSERY = _Nursery()
