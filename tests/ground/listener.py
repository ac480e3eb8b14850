"""The fault proxy's ear: a port that can listen, refuse, or let callers wait for ever.

Not `asyncio.Server`: one that is closed while a connection is being accepted leaks that
connection's socket (`_attach` fails on the closed server, CPython 3.11), and closing at any moment
is what this is for.
"""

import asyncio
import socket
from collections.abc import Callable

from tests.ground.ports import HOST

_BACKLOG = 1024


class Listener:
    """One loopback port, used on its loop; `accept` is given each new socket, and owns it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, port: int, accept: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._port = port
        self._accept = accept
        self._listening: socket.socket | None = None
        self._stalled: list[socket.socket] = []

    def open(self) -> None:
        """Accept connections."""
        if self._listening is None:
            self.close()
            self._listening = self._listen(_BACKLOG)
            self._loop.add_reader(self._listening, self._accept_all, self._listening)

    def close(self) -> None:
        """Refuse connections; the kernel resets those that it took and we did not accept."""
        for waiting in self._stalled:
            waiting.close()
        self._stalled.clear()
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def stall(self) -> None:
        """Leave callers unanswered: Linux drops a SYN while the accept queue is full."""
        self.close()
        self._stalled.append(self._listen(0))
        for _ in range(2):  # a backlog of 0 holds one; the second makes sure that it is full
            caller = socket.socket()
            self._stalled.append(caller)
            caller.setblocking(False)
            caller.connect_ex((HOST, self._port))

    def _listen(self, backlog: int) -> socket.socket:
        listening = socket.create_server((HOST, self._port), backlog=backlog)
        listening.setblocking(False)
        return listening

    def _accept_all(self, listening: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except BlockingIOError:
                return
            accepted.setblocking(False)
            # asyncio does so only for sockets that it made itself; with Nagle's algorithm, single
            # bytes are gathered.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accept(accepted)
