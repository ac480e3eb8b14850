"""The fault proxy's ear: a port that can listen, refuse, or let callers wait for ever."""

import asyncio
import socket
from collections.abc import Callable

from tests.ground.ports import HOST

_BACKLOG = 1024


class Listener:
    """One port of the loopback address; to be used on its loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        port: int,
        accept: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = loop
        self._port = port
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._stalled: list[socket.socket] = []

    async def open(self) -> None:
        """Accept connections."""
        if self._server is not None:
            return
        self.close()
        self._server = await self._loop.create_server(
            self._accept, HOST, self._port, backlog=_BACKLOG, reuse_address=True
        )

    def close(self) -> None:
        """Refuse connections."""
        for waiting in self._stalled:
            waiting.close()
        self._stalled.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    def stall(self) -> None:
        """Leave callers unanswered: Linux drops a SYN while the queue of connections to accept is full."""
        self.close()
        listening = socket.socket()
        self._stalled.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, self._port))
        listening.listen(0)
        for _ in range(2):  # a backlog of 0 holds one; the second makes sure that it is full
            caller = socket.socket()
            self._stalled.append(caller)
            caller.setblocking(False)
            caller.connect_ex((HOST, self._port))
