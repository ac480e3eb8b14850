"""A TCP proxy that does to connections what networks and dying servers do; see `Faults` for what.

It works on bytes, so it also stands in front of TLS. It has a thread and an event loop of its own,
and may be used from any thread: when a call returns, what it asked for is in force.
"""

import asyncio
import socket
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.ground.faults import HEALTHY, Faults
from tests.ground.link import Link
from tests.ground.listener import Listener
from tests.ground.ports import HOST, PORTS
from tests.ground.requests import Request, RequestLog
from tests.ground.resp import Address

T = TypeVar("T")

_CALL_WITHIN_S = 10.0


class FaultProxy:
    """Stands between clients and a target, on a port of its own that stays the same.

    Args:
        target: Address of the server.
        seed: Of the random numbers behind `Faults.jitter`.
    """

    def __init__(self, target: Address, *, seed: int = 0) -> None:
        self.target = target
        self.port = PORTS.take()
        self.faults = HEALTHY
        self.connections = 0
        """Accepted so far."""
        self.bytes_up = 0
        """Received from clients so far, whether or not they were passed on."""
        self.bytes_down = 0
        """Received from the server so far, whether or not they were passed on."""
        self.random = Random(seed)
        self.log = RequestLog()
        self._links: set[Link] = set()
        self._accepting: set[asyncio.Task[object]] = set()
        self._connecting: set[asyncio.Task[object]] = set()
        # Not whatever policy a test has set (uvloop does not let a socket be reset).
        self._loop = asyncio.SelectorEventLoop()
        self._listener = Listener(self._loop, self.port, self._accept)
        self._thread = Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect to."""
        return HOST, self.port

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return self._call(self._count_open())

    # Faults

    def inject(self, faults: Faults) -> None:
        """Let these faults, and no others, be in force for all connections, existing and new."""
        self._call(self._inject(faults))

    def heal(self) -> None:
        """End all faults. What was swallowed or cut stays so."""
        self.inject(HEALTHY)

    @contextmanager
    def injected(self, faults: Faults) -> Generator[None]:
        """Inject faults for a block, then heal."""
        self.inject(faults)
        try:
            yield
        finally:
            self.heal()

    def reset_now(self) -> None:
        """Send every connected client a RST, once; new connections are welcome."""
        self._call(self._reset_now())

    # What was seen

    def requests(self) -> list[Request]:
        """Return all requests that clients sent, passed on or not.

        Raises:
            RuntimeError: The record is incomplete: a connection spoke TLS, or there was too much.
        """
        return self.log.all()

    def requests_seen(self, part: bytes) -> int:
        """Return how many requests had this command name (in any case) or this very argument."""
        return sum(part in request or part.upper() == _name(request) for request in self.requests())

    def forget_requests(self) -> None:
        """Start counting requests anew."""
        self.log.clear()

    # Its life

    def start(self) -> Self:
        """Listen."""
        self._thread.start()
        try:
            self._call(self._open())
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Cut all connections and end the thread; closing twice does no harm."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._call(self._shut_down())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CALL_WITHIN_S)
        self._loop.close()
        PORTS.give_back(self.port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # On the loop

    def sever_at(self, ends: list[int]) -> int | None:
        """Count down `sever_after`; see `Desk`."""
        left = self.faults.sever_after
        if left is None or not ends:
            return None
        if len(ends) >= left:
            self.faults = replace(self.faults, sever_after=None)
            return ends[left - 1]
        self.faults = replace(self.faults, sever_after=left - len(ends))
        return None

    def accepted(self, link: Link) -> None:
        """Connect a new link to the target; see `Desk`."""
        self.connections += 1
        self._links.add(link)
        link.meet(self.faults)
        if self.faults.cut:
            link.refused()
        else:
            self._spawn(self._connect(link), self._connecting)

    def forget(self, link: Link) -> None:
        """Drop a link whose connections have ended; see `Desk`."""
        self._links.discard(link)

    def _accept(self, client: socket.socket) -> None:
        link = Link(self, self._loop)
        accepting = self._loop.connect_accepted_socket(lambda: link.client, client)
        self._spawn(accepting, self._accepting)

    def _spawn(self, work: Coroutine[Any, Any, object], into: set[asyncio.Task[object]]) -> None:
        task = self._loop.create_task(work)
        into.add(task)
        task.add_done_callback(into.discard)

    async def _open(self) -> None:
        self._listener.open()

    async def _connect(self, link: Link) -> None:
        try:
            if isinstance(self.target, str):
                await self._loop.create_unix_connection(lambda: link.server, self.target)
            else:
                await self._loop.create_connection(lambda: link.server, *self.target)
        except OSError:
            link.refused()

    async def _inject(self, faults: Faults) -> None:
        self.faults = faults
        for link in list(self._links):
            link.meet(faults)
        if faults.unreachable:
            self._listener.stall()
        elif faults.refuse:
            self._listener.close()
        else:
            self._listener.open()
        await _turn()

    async def _reset_now(self) -> None:
        for link in list(self._links):
            link.reset()
        await _turn()

    async def _count_open(self) -> int:
        return sum(not link.client.lost for link in self._links)

    async def _shut_down(self) -> None:
        self.faults = Faults(refuse=True)  # for who is being accepted this very moment
        self._listener.close()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for link in list(self._links):
            link.abort()
        while self._links:
            await _turn()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_WITHIN_S)


def _name(request: Request) -> bytes:
    return request[0].upper() if request else b""


async def _turn() -> None:
    """Let the loop come round: only then an aborted transport's socket sends its RST."""
    await asyncio.sleep(0)
