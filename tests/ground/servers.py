"""One redis-server process: start, pause, resume, kill, terminate, start again on the same port.

Nothing is persisted: a server that was killed comes back empty and without scripts, as a fleet's
cache does.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self, TypeAlias

from tests.ground.ports import HOST, PORTS
from tests.ground.process import Process
from tests.ground.resp import TIMEOUT_S, Address, Login, Part, Reply, Wire
from tests.ground.waiting import eventually

Role: TypeAlias = Literal["data", "cluster", "sentinel"]
Listen: TypeAlias = Literal["tcp", "tls", "unix"]

_START_ATTEMPTS = 5
_PORT_WAS_LOST = "Address already in use"
_SETTINGS = f"""\
bind {HOST}
daemonize no
protected-mode no
logfile ""
"""
_DATA_SETTINGS = """\
save ""
appendonly no
enable-debug-command local
repl-diskless-sync yes
repl-diskless-sync-delay 0
repl-ping-replica-period 1
shutdown-timeout 1
"""


# A Cluster's nodes wait for the disk whenever their view of each other changes (nodes.conf is synced), and
# answer nobody meanwhile: on a busy disk for longer than a client's timeout. So they live in memory.
_RAM = Path("/dev/shm")
_ROOM = 32 << 20


class ServerDied(RuntimeError):
    """The process ended while it was waited for; the message holds the end of its log."""


class Server:
    """One redis-server in a temporary directory of its own.

    Args:
        config: Lines of redis.conf; they come last and so override the defaults.
        role: "data", "cluster" (with a bus port of its own) or "sentinel".
        listen: "tcp", "tls" (the TLS lines are part of `config`) or "unix".
        login: How `command` and `wire` are let in.
    """

    def __init__(
        self,
        *config: str,
        role: Role = "data",
        listen: Listen = "tcp",
        login: Login | None = None,
    ) -> None:
        self.login = login or Login()
        self.directory = Path(tempfile.mkdtemp(prefix="backendkit-", dir=_place()))
        self.log = self.directory / "log"
        self.role = role
        self._config = config
        self._listen = listen
        self._owner = os.getpid()
        self._process: Process | None = None
        self._port = 0
        self._bus_port = 0
        self._take_ports()
        _OPEN.add(self)

    # What it is

    @property
    def address(self) -> Address:
        """Where clients connect to: (host, port), or the path of the Unix socket."""
        return str(self.directory / "socket") if self._listen == "unix" else (HOST, self._port)

    @property
    def port(self) -> int:
        """The TCP port; stays the same over a restart."""
        return self._port

    @property
    def bus_port(self) -> int:
        """The cluster bus port; 0 outside of a cluster."""
        return self._bus_port

    @property
    def pid(self) -> int:
        """The process id of the last start."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """The process is there; it may be paused."""
        return self._process is not None and self._process.exit_code is None

    # Talking to it

    def wire(self, *, timeout: float = TIMEOUT_S) -> Wire:
        """Return a new connection, logged in; the caller closes it."""
        return Wire(self.address, login=self.login, timeout=timeout)

    def command(self, *parts: Part, timeout: float = TIMEOUT_S) -> Reply:
        """Run one command over a connection of its own and return the reply; see `Wire.command`."""
        with self.wire(timeout=timeout) as wire:
            return wire.command(*parts)

    def text(self, *parts: Part) -> str:
        """Run one command whose reply is a string, and return it decoded."""
        reply = self.command(*parts)
        if not isinstance(reply, bytes):
            raise TypeError(f"{parts!r}: the reply is no string: {reply!r}")
        return reply.decode()

    def info(self, section: str = "all") -> dict[str, str]:
        """Return a section of INFO, as text."""
        lines = self.text("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # Its life

    def configure(self, *config: str) -> None:
        """Add lines of redis.conf; only before the first start."""
        if self._process is not None:
            raise RuntimeError(f"{self} was started already")
        self._config += config

    def start(self) -> Self:
        """Start it and return once it answers."""
        return self.launch().await_ready()

    def launch(self) -> Self:
        """Start the process without waiting for it, so that several can come up side by side."""
        if self.alive:
            raise RuntimeError(f"{self} runs already")
        config = self.directory / "redis.conf"
        if not config.exists():  # sentinels, and replicas on their orders, rewrite theirs
            config.write_text(self._redis_conf())
        command = [redis_server(), str(config)] + ["--sentinel"] * (self.role == "sentinel")
        self._process = Process(*command, directory=self.directory, log=self.log)
        return self

    def await_ready(self) -> Self:
        """Return once the process answers; if its port was taken meanwhile, it gets another."""
        for _ in range(_START_ATTEMPTS):
            try:
                eventually(self._answers, f"{self} answers", detail=self.log_tail)
            except ServerDied:
                if _PORT_WAS_LOST not in self.log_tail():
                    raise
                self._move()
            else:
                return self
        raise ServerDied(f"{self}: no port in {_START_ATTEMPTS} attempts\n{self.log_tail()}")

    def restart(self) -> Self:
        """Start it again on the same port, killing it first; data and scripts are gone."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """Stop it (SIGSTOP): the kernel still accepts connections for it, and nothing answers."""
        self._running().pause()

    def resume(self) -> None:
        """Let a paused one go on: what was sent to it meanwhile is executed now."""
        self._running().resume()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Pause it for a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def kill(self) -> None:
        """End it at once (SIGKILL): connections are cut, new ones refused."""
        self._running().kill()

    def terminate(self) -> None:
        """Have it shut down in order (SIGTERM), also when it is paused."""
        self._running().terminate()

    def close(self) -> None:
        """Kill it, remove its directory, give back its ports; closing twice does no harm."""
        _OPEN.discard(self)
        if self._owner != os.getpid():
            return  # a forked child holds a copy; server, directory and port are its parent's
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        PORTS.give_back(self._port)
        PORTS.give_back(self._bus_port)

    def __repr__(self) -> str:
        return f"<{self.role} server at {self.address}>"

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError(f"{self} was never started")
        return self._process

    def _answers(self) -> bool:
        code = self._running().exit_code
        if code is not None:
            raise ServerDied(f"{self} ended with {code}\n{self.log_tail()}")
        # Another's server may sit on the port: only an answer of our own process counts.
        return self.info("server")["process_id"] == str(self.pid)

    def _take_ports(self) -> None:
        if self._listen != "unix":
            self._port = PORTS.take()
        if self.role == "cluster":
            self._bus_port = PORTS.take()

    def _move(self) -> None:
        PORTS.give_back(self._port)
        PORTS.give_back(self._bus_port)
        self._take_ports()
        self.log.unlink()
        (self.directory / "redis.conf").unlink()
        self.launch()

    def _redis_conf(self) -> str:
        lines = {
            "tcp": [f"port {self._port}"],
            "tls": ["port 0", f"tls-port {self._port}"],
            "unix": ["port 0", f"unixsocket {self.address}"],
        }[self._listen]
        if self.role == "cluster":
            lines += ["cluster-enabled yes", f"cluster-port {self._bus_port}"]
        settings = _SETTINGS + ("" if self.role == "sentinel" else _DATA_SETTINGS)
        return settings + "\n".join([*lines, *self._config, ""])


def redis_server() -> str:
    """Return the path of the redis-server program.

    Raises:
        RuntimeError: There is none. Never a skip: a test that did not run proves nothing.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError(
            "redis-server, 7.0 or newer, is not on the PATH; the tests run against real servers.\n"
            "To fix it: apt-get install redis-server (it need not run as a daemon)"
        )
    return found


_OPEN: set[Server] = set()


@atexit.register
def _close_all() -> None:
    for server in list(_OPEN):
        server.close()


def _place() -> Path | None:
    """Return where servers keep their files; None is the system's usual place."""
    usable = os.access(_RAM, os.W_OK) and shutil.disk_usage(_RAM).free > _ROOM
    return _RAM if usable else None
