"""One connection through the fault proxy: two TCP streams, and what the faults do to the bytes.

Protocols and timers, no tasks: nothing can be left pending, and no byte waits for a scheduler between two faults.
All of it runs on the proxy's loop.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

from tests.ground.faults import Faults
from tests.ground.requests import RequestLog, RequestParser

_HIGH_WATER_BYTES = 1024 * 1024


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


class Flow:
    """The bytes on their way in one direction: in order, each chunk delivered when it is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        self.one_byte = False
        self._loop = loop
        self._end = end
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._wake: asyncio.Handle | None = None
        self._blocked = False
        self._ended = False

    def read_from(self, source: asyncio.Transport) -> None:
        """Say where the bytes come from, for holding them back."""
        self._source = source

    def write_to(self, sink: asyncio.Transport) -> None:
        """Deliver to this transport from now on."""
        self._sink = sink
        self._deliver()

    def push(self, data: bytes, delay: float) -> None:
        """Take bytes, to be delivered in so many seconds, yet never before those already here."""
        due = self._loop.time() + delay
        if self._chunks:
            due = max(due, self._chunks[-1][0])
        self._chunks.append((due, data))
        self._size += len(data)
        if self._size > _HIGH_WATER_BYTES and self._source:
            self._source.pause_reading()
        if self._wake is None:
            self._deliver()

    def end(self) -> None:
        """Nothing more will come; end the stream once all is delivered."""
        self._ended = True
        if self._wake is None:
            self._deliver()

    def block(self, blocked: bool) -> None:
        """The receiver's buffer is full, or not any more."""
        self._blocked = blocked
        if not blocked and self._wake is None:
            self._deliver()

    def drop(self) -> None:
        """Throw away what is on its way."""
        self._chunks.clear()
        self._size = 0
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _deliver(self) -> None:
        self._wake = None
        if self._sink is None:
            return
        while self._chunks and not self._blocked:
            due, data = self._chunks[0]
            if due > self._loop.time():
                self._wake = self._loop.call_at(due, self._deliver)
                return
            self._chunks.popleft()
            self._write(due, data)
            if self._wake is not None:
                return
        if self._ended and not self._chunks:
            self._end()

    def _write(self, due: float, data: bytes) -> None:
        sent = data[:1] if self.one_byte else data
        self._size -= len(sent)
        if self._sink is not None and not self._sink.is_closing():
            self._sink.write(sent)
        if self._source and self._size <= _HIGH_WATER_BYTES:
            self._source.resume_reading()
        if len(sent) < len(data):
            self._chunks.appendleft((due, data[1:]))
            self._wake = self._loop.call_soon(self._deliver)


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
        self.meet(desk.faults)

    def meet(self, faults: Faults) -> None:
        """Take note that other faults begin."""
        self._truncate = faults.truncate
        self._down.one_byte = faults.one_byte
        if faults.cut:
            self.reset()

    def reset(self) -> None:
        """Send the client a RST now; the server sees the end of the stream, after what it was sent."""
        self._down.drop()
        self._mute = True
        self.client.reset()

    def abort(self) -> None:
        """Cut both ends at once."""
        self._up.drop()
        self._down.drop()
        self.client.reset()
        self.server.reset()

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

    def _client_lost(self, error: Exception | None) -> None:
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
        # Only our half: closing both would be a RST if a reply lay unread, and might overtake the request.
        if self.server.transport and not self.server.transport.is_closing():
            self.server.transport.write_eof()

    def _end_down(self) -> None:
        if self.client.transport:
            self.client.transport.close()

    def _forget_if_done(self) -> None:
        if self.client.lost and (self.server.lost or self.server.transport is None):
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
