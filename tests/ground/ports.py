"""Free loopback ports for servers, held from the choice until the server is closed.

Binding to port 0 gives a port of the kernel's ephemeral range, which does not do here: while a
server is dead, any outgoing connection may be given its port, so that it cannot start again; and a
client that keeps connecting to a closed ephemeral port of its own host ends up, once in some ten
thousand attempts, connected to itself and reads its own commands as replies. So ports come from
below that range, and each is held for this process by a name in the abstract Unix socket namespace,
which every test session on the machine can see and which the kernel frees when the process dies.
"""

import random
import socket
from pathlib import Path
from threading import Lock

HOST = "127.0.0.1"

_LOWEST = 10_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 1_000


class Ports:
    """The ports that this process holds; thread-safe."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}
        self._lock = Lock()
        # Entropy of its own: `random.seed(0)` in two sessions must not make them race for every
        # port.
        self._random = random.SystemRandom()

    def take(self) -> int:
        """Return a port that nobody listens on, and hold it until it is given back.

        A stranger that holds no names may still take it first; who starts a server must expect
        that.
        """
        highest = int(_EPHEMERAL_RANGE.read_text().split()[0])
        for _ in range(_ATTEMPTS):
            port = self._random.randrange(_LOWEST, highest)
            if self._hold(port):
                return port
        raise RuntimeError(f"no free port between {_LOWEST} and {highest} in {_ATTEMPTS} attempts")

    def give_back(self, port: int) -> None:
        """Let others have the port."""
        with self._lock:
            name = self._held.pop(port, None)
        if name is not None:
            name.close()

    def _hold(self, port: int) -> bool:
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0backendkit-ground-{port}")
            _bind_once(port)
        except OSError:
            name.close()
            return False
        with self._lock:
            self._held[port] = name
        return True


PORTS = Ports()


def _bind_once(port: int) -> None:
    with socket.socket() as probe:
        # As redis-server does: a port whose old connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
