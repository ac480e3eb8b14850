"""Which requests a client sent, read from the bytes on their way to the server.

What "never sent again" means can only be proven by who saw the bytes; the server's own statistics
count nothing that was lost on the way.
"""

from collections import deque
from collections.abc import Generator
from threading import Lock
from typing import TypeAlias

Request: TypeAlias = tuple[bytes, ...]

_MOST_BYTES = 64 * 1024 * 1024
_PART_OVERHEAD_BYTES = 64


class RequestParser:
    """Cuts one connection's stream into requests, however its bytes are sliced."""

    def __init__(self) -> None:
        self.opaque = False
        """The stream is not RESP (TLS, say); nothing can be told about it."""
        self._buffer = bytearray()
        self._fed = 0
        self._taken = 0
        self._complete: list[tuple[Request, int]] = []
        self._steps = self._run()
        next(self._steps)

    def feed(self, data: bytes) -> list[tuple[Request, int]]:
        """Return each request that these bytes complete, and the index in `data` where it ends."""
        before = self._fed
        self._fed += len(data)
        self._buffer += data
        next(self._steps)
        complete, self._complete = self._complete, []
        return [(request, end - before) for request, end in complete]

    def _run(self) -> Generator[None, None, None]:
        while True:
            line = yield from self._take_line()
            if line[:1] != b"*":
                break
            request: list[bytes] = []
            for _ in range(int(line[1:])):
                length = yield from self._take_line()
                part = yield from self._take(int(length[1:]) + 2)
                request.append(part[:-2])
            self._complete.append((tuple(request), self._taken))
        self.opaque = True
        while True:
            self._buffer.clear()
            yield

    def _take_line(self) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if self._buffer and self._buffer[0] not in b"*$":
                return b""
            yield
        line = yield from self._take(end + 2)
        return line[:-2]

    def _take(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < size:
            yield
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._taken += size
        return taken


class RequestLog:
    """The requests of all connections, in the order of their completion; thread-safe."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()
        self._size = 0
        self._incomplete = ""
        self._lock = Lock()

    def record(self, request: Request) -> None:
        """Add a request; the oldest are forgotten beyond 64 MiB."""
        with self._lock:
            self._requests.append(request)
            self._size += _size(request)
            while self._size > _MOST_BYTES:
                self._size -= _size(self._requests.popleft())
                self._incomplete = f"requests beyond {_MOST_BYTES} bytes were forgotten"

    def give_up(self) -> None:
        """Note that a stream could not be read."""
        self._incomplete = "a connection did not speak plain RESP"

    def all(self) -> list[Request]:
        """Return all requests.

        Raises:
            RuntimeError: Some are missing, so that counting them would prove nothing.
        """
        with self._lock:
            if self._incomplete:
                raise RuntimeError(f"the record of requests is incomplete: {self._incomplete}")
            return list(self._requests)

    def clear(self) -> None:
        """Forget all requests, and that some were missing."""
        with self._lock:
            self._requests.clear()
            self._size = 0
            self._incomplete = ""


def _size(request: Request) -> int:
    return sum(len(part) + _PART_OVERHEAD_BYTES for part in request)
