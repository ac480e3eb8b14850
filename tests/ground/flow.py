"""One direction of a connection through the fault proxy.

Timers, no tasks: nothing can be left pending, and no byte waits for a scheduler between two faults.
"""

import asyncio
from collections import deque
from collections.abc import Callable

_HIGH_WATER_BYTES = 1024 * 1024


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
        if self._source:  # the end of a stream is seen only while reading
            self._source.resume_reading()
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
            if self._write(due, data):
                return
        if self._ended and not self._chunks:
            self._end()

    def _write(self, due: float, data: bytes) -> bool:
        """Send a chunk or its first byte; return whether the rest waits for the loop."""
        sent = data[:1] if self.one_byte else data
        self._size -= len(sent)
        if self._sink is not None and not self._sink.is_closing():
            self._sink.write(sent)
        if self._source and self._size <= _HIGH_WATER_BYTES:
            self._source.resume_reading()
        if len(sent) == len(data):
            return False
        self._chunks.appendleft((due, data[1:]))
        self._wake = self._loop.call_soon(self._deliver)
        return True
