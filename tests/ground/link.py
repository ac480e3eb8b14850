"""One connection through the fault proxy: two TCP streams, and what the faults do to the bytes.

Protocols and timers, no tasks: nothing can be left pending, and no byte waits for a scheduler
between two faults. All of it runs on the proxy's loop.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from random import Random
from typing import Protocol

from tests.ground.faults import Faults
from tests.ground.flow import Flow
from tests.ground.requests import RequestLog, RequestParser


class Desk(Protocol):
    """What a link needs of its proxy."""

    faults: Faults
    bytes_up: int
    bytes_down: int
    random: Random
    log: RequestLog

    def sever_at(self, ends: list[int]) -> int | None:
        """Return how much of the bytes may pass, if the connection is to be severed there."""

    def accepted(self, link: "Link") -> None:
        """The link has a client."""

    def forget(self, link: "Link") -> None:
        """The link is done."""


class Link:
    """One client's connection, and the one made to the server for it."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop) -> None:
        self._desk = desk
        self._parser = RequestParser()
        self._deaf = False
        self._mute = False
        self._truncate: int | None = None
        self._up = Flow(loop, self._end_up)
        self._down = Flow(loop, self._end_down)
        self.client = End(self._accepted, self._from_client, self._client_lost, self._down)
        self.server = End(self._connected, self._from_server, self._server_lost, self._up)

    def meet(self, faults: Faults) -> None:
        """Take note that other faults begin."""
        self._truncate = faults.truncate
        self._down.one_byte = faults.one_byte
        if faults.cut:
            self.reset()

    def reset(self) -> None:
        """Send the client a RST now; to the server, the stream ends after what it was sent."""
        self._down.drop()
        self._mute = True
        self.client.reset()

    def abort(self) -> None:
        """Cut both ends at once."""
        self._up.drop()
        self._down.drop()
        self.client.reset()
        self.server.reset()
        if self.server.transport is None:
            self.refused()

    def _accepted(self) -> None:
        """The client is there; what it sends waits for the server."""
        if self.client.transport:
            self._up.read_from(self.client.transport)
            self._down.write_to(self.client.transport)
        self._desk.accepted(self)

    def _connected(self) -> None:
        """The server is there, too."""
        if self.server.transport:
            self._down.read_from(self.server.transport)
            self._up.write_to(self.server.transport)

    def refused(self) -> None:
        """There will be no server."""
        self.server.lost = True
        self.reset()
        self._forget_if_done()

    def _from_client(self, data: bytes) -> None:
        faults = self._desk.faults
        self._desk.bytes_up += len(data)
        complete = self._parser.feed(data)
        for request, _ in complete:
            self._desk.log.record(request)
        if self._parser.opaque:
            self._desk.log.give_up()
        self._deaf = self._deaf or faults.swallow_requests
        if self._deaf:
            return
        cut = self._desk.sever_at([end for _, end in complete])
        self._up.push(data[:cut], faults.delay_requests)
        if cut is not None:
            self._deaf = True
            self.reset()

    def _from_server(self, data: bytes) -> None:
        faults = self._desk.faults
        self._desk.bytes_down += len(data)
        self._mute = self._mute or faults.swallow_replies
        if self._mute:
            return
        if self._truncate is not None:
            data = data[: self._truncate]
            self._truncate -= len(data)
        if data:
            late = faults.delay_replies + faults.jitter * self._desk.random.uniform(-1.0, 1.0)
            self._down.push(data, max(0.0, late))
        if self._truncate == 0:
            self._mute = True
            self._down.end()

    def _client_lost(self, _: Exception | None) -> None:
        self._mute = True
        self._down.drop()
        self._up.end()
        self._forget_if_done()

    def _server_lost(self, error: Exception | None) -> None:
        if error:
            self.client.reset()
        self._down.end()
        self._forget_if_done()

    def _end_up(self) -> None:
        # Only our half: closing both would be a RST if a reply lay unread, and might overtake the
        # request.
        if self.server.transport and not self.server.transport.is_closing():
            self.server.transport.write_eof()

    def _end_down(self) -> None:
        if self.client.transport:
            self.client.transport.close()

    def _forget_if_done(self) -> None:
        if self.client.lost and self.server.lost:
            self._desk.forget(self)


class End(asyncio.Protocol):
    """One end of a link."""

    def __init__(
        self,
        made: Callable[[], None],
        received: Callable[[bytes], None],
        ended: Callable[[Exception | None], None],
        inward: Flow,
    ) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._made = made
        self._received = received
        self._ended = ended
        self._inward = inward

    def reset(self) -> None:
        """End the connection by a RST instead of a FIN."""
        if self.transport is None or self.lost:
            return
        sock = self.transport.get_extra_info("socket")
        if sock.fileno() >= 0 and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._made()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received(data)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inward.block(True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inward.block(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.lost = True
        self._ended(exc)
