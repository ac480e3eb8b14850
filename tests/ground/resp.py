"""A minimal RESP2 client, for set-up and inspection.

The library under test has its own client; using it (or redis-py) here would let one bug hide
another.
Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import socket
import ssl
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias, Union

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

Part: TypeAlias = bytes | str | int | float
Reply: TypeAlias = Union[bytes, int, "ReplyError", list["Reply"], None]
"""A simple string comes as bytes, too; an error is raised, unless it stands inside an array."""

TIMEOUT_S = 5.0
_RECEIVE_BYTES = 65536


class ReplyError(OSError):
    """The server answered with an error; an `OSError`, so that `eventually` polls on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.partition(" ")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How to be let in: ACL user and password, and a TLS context where the port speaks TLS."""

    username: str = "default"
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)


class Wire:
    """One connection to a server; not for sharing between threads.

    `timeout` bounds, in seconds, the connecting and each `command` or `read` as a whole, not each
    packet.
    """

    def __init__(
        self, address: Address, *, login: Login | None = None, timeout: float = TIMEOUT_S
    ) -> None:
        login = login or Login()
        self._timeout = timeout
        self._buffer = bytearray()
        self._socket = _connect(address, login.tls, timeout)
        if login.password is not None:
            try:
                self.command("AUTH", login.username, login.password)
            except BaseException:
                self.close()
                raise

    def command(self, *parts: Part) -> Reply:
        """Send one command and return its reply.

        Raises:
            ReplyError: The server answered with an error.
            TimeoutError: No whole reply in time. The connection is useless afterwards.
        """
        self.send(*parts)
        return self.read()

    def send(self, *parts: Part) -> None:
        """Send one command without waiting for its reply."""
        self._socket.settimeout(self._timeout)
        self._socket.sendall(pack(*parts))

    def read(self) -> Reply:
        """Return the next reply of a command that was sent."""
        reply = self._reply(time.monotonic() + self._timeout)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def close(self) -> None:
        """Close the connection; closing twice does no harm."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reply(self, deadline: float) -> Reply:
        line = self._line(deadline)
        mark, rest = line[:1], line[1:]
        if mark == b"+":
            return rest
        if mark == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if mark == b":":
            return int(rest)
        if mark == b"$":
            return self._bulk(int(rest), deadline)
        if mark == b"*":
            length = int(rest)
            return None if length < 0 else [self._reply(deadline) for _ in range(length)]
        raise ConnectionError(f"not RESP2: {line!r}")

    def _bulk(self, length: int, deadline: float) -> bytes | None:
        if length < 0:
            return None
        while len(self._buffer) < length + 2:
            self._receive(deadline)
        value = bytes(self._buffer[:length])
        del self._buffer[: length + 2]
        return value

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _receive(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole reply within {self._timeout:g} s")
        self._socket.settimeout(left)
        received = self._socket.recv(_RECEIVE_BYTES)
        if not received:
            raise ConnectionError("closed by the server")
        self._buffer += received


def pack(*parts: Part) -> bytes:
    """Return a command as it goes over the wire."""
    raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in raw)


def _connect(address: Address, tls: ssl.SSLContext | None, timeout: float) -> socket.socket:
    if isinstance(address, str):
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(timeout)
        try:
            plain.connect(address)
        except BaseException:
            plain.close()
            raise
        return plain
    plain = socket.create_connection(address, timeout=timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return plain
    try:
        return tls.wrap_socket(plain, server_hostname=address[0])
    except BaseException:
        plain.close()
        raise
