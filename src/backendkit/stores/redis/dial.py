"""How to reach a server: makes connections of redis-py, blocking and streaming, that this store then owns.

Everything that redis-py would do on its own is off: retries (ten by default), health checks, maintenance
notifications, `CLIENT SETINFO`. What remains is what the options ask for: a plain RESP2 connection without
password or database needs no round trip at all before its first command.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from typing import Any, cast

import redis.asyncio.connection as streaming
import redis.connection as blocking
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's own name
from redis.maint_notifications import MaintNotificationsConfig

from backendkit.core.clock import SECOND_US, SystemClock
from backendkit.core.fork import remake_after_fork
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.connections import BlockingConnection, StreamingConnection


class Tls:
    """TLS towards a server; its context is built once, at the first connection (about 36 ms).

    Args:
        ca_file: PEM file of the authorities to trust; None takes the system's.
        cert_file: PEM file of our own certificate, where the server asks for one.
        key_file: PEM file of its key, if it is not in `cert_file`.
        verify: whether the server's certificate is checked. Turn it off for nothing but a test.
        check_hostname: whether the certificate must name the host.
    """

    __slots__ = ("__weakref__", "_context", "_lock", "_options")

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        verify: bool = True,
        check_hostname: bool = True,
    ) -> None:
        self._options = (ca_file, cert_file, key_file, verify, check_hostname)
        self._context: ssl.SSLContext | None = None
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread of the parent may have held while it built the context."""
        self._lock = threading.Lock()

    @property
    def built(self) -> bool:
        """Whether `context` returns at once."""
        return self._context is not None

    def context(self) -> ssl.SSLContext:
        """Return the context, building it at the first call: not for an event loop's thread then."""
        with self._lock:
            if self._context is None:
                ca_file, cert_file, key_file, verify, check_hostname = self._options
                context = ssl.create_default_context(cafile=ca_file)
                context.check_hostname = verify and check_hostname
                context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
                if cert_file is not None:
                    context.load_cert_chain(cert_file, key_file)
                self._context = context
            return self._context


@dataclass(frozen=True, slots=True)
class Dial:
    """The options of all connections to one deployment.

    Attributes:
        username: ACL user; None with a password means `default`.
        password: shown in no repr.
        db: database number; 0 needs no round trip.
        protocol: 2 or 3, the version of RESP.
        tls: None for plain connections.
        timeout: seconds a reply may take.
        connect_timeout: seconds a connection and its handshake may take.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    protocol: int = 2
    tls: Tls | None = None
    timeout: float = 0.25
    connect_timeout: float = 0.25

    def blocking(self, address: Address) -> BlockingConnection:
        """Return a connection, not yet connected, for callers that block."""
        make: Any  # redis-py's classes are not typed as what they are
        place: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.port == 0:
            make, place = _UnixConnection, {"path": address.host}
        elif self.tls is not None:
            make, place = _TlsConnection, {"tls": self.tls, **place}
        else:
            make = _PlainConnection
        options = {**self._common(), "socket_timeout": self.timeout}
        return cast("BlockingConnection", make(**place, **options))

    def streaming(self, address: Address) -> StreamingConnection:
        """Return a connection, not yet connected, for an event loop; its reads have no timeout of their own.

        With TLS, the context must have been built before.
        """
        options = self._common()
        connection: Any
        if address.port == 0:
            connection = _UnixStream(path=address.host, **options)
        elif self.tls is not None:
            connection = _TlsStream(host=address.host, port=address.port, **options)
            connection.ssl_context.context = self.tls.context()
        else:
            connection = _PlainStream(host=address.host, port=address.port, **options)
        return cast("StreamingConnection", connection)

    def _common(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "password": self.password,
            "db": self.db,
            "protocol": self.protocol,
            "socket_timeout": None,
            "socket_connect_timeout": self.connect_timeout,
            "driver_info": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }


class _Bounded(blocking.AbstractConnection):
    """Has `connect_timeout` for connection and handshake together.

    redis-py gives as much to each address of the host again, and to each answer.
    """

    _due_us = 0

    @property
    def socket_connect_timeout(self) -> float | None:
        """What is left for connecting, which redis-py looks up here for each address."""
        return self._left() if self._due_us else self._socket_connect_timeout

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    def connect(self) -> None:
        """Connect, authenticate and select the database."""
        self._due_us = _TIME.mono_us() + int((self._socket_connect_timeout or 0) * SECOND_US)
        # On the instance, and only for as long as that takes: the hot path goes past it.
        self.read_response = self._read_by_then  # type: ignore[assignment,method-assign] # redis-py types more than it takes
        try:
            super().connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        finally:
            del self.read_response
            self._due_us = 0

    def fileno(self) -> int:
        """Return the socket's number: redis-py has no way to wait for several connections at once."""
        sock: Any = self._sock
        if sock is None:
            raise ConnectionError("the connection was closed")
        return int(sock.fileno())

    def _read_by_then(self, **options: Any) -> Any:
        # redis-py leaves it untyped
        return super().read_response(timeout=self._left(), **options)  # pyright: ignore[reportUnknownVariableType]

    def _left(self) -> float:
        return max(self._due_us - _TIME.mono_us(), 1_000) / SECOND_US


class _PlainConnection(_Bounded, blocking.Connection):
    pass


class _UnixConnection(_Bounded, blocking.UnixDomainSocketConnection):
    pass


class _TlsConnection(_Bounded, blocking.Connection):
    """redis-py's plain connection in our TLS context: its own TLS class builds one each time it connects.

    `_connect` is where redis-py's own classes differ from one another.
    """

    def __init__(self, tls: Tls, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        self._tls = tls

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        try:
            sock.settimeout(self._left())
            wrapped = self._tls.context().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        wrapped.settimeout(self.socket_timeout)
        return wrapped


class _Stream(streaming.AbstractConnection):
    """A connection of redis-py with a write and an end of our own."""

    async def write(self, payload: bytes) -> None:
        """Write packed commands; suspends only where the transport's buffer is full.

        redis-py's own way has two faults. It calls `writelines`, which on Python 3.12 and 3.13 knows no
        back-pressure at first (https://github.com/python/cpython/issues/127655), and goes on to register a lost
        socket with the loop (https://github.com/python/cpython/issues/136234), whose number the next connection
        gets and then hangs. And when cancelled it closes in good order, which is what `abort` is there to avoid.
        """
        if self._writer is None:
            raise ConnectionError("the connection was closed")
        try:
            self._writer.write(payload)
            await self._writer.drain()
        except (
            OSError,
            RuntimeError,
        ) as error:  # uvloop raises a RuntimeError for a closed transport
            raise ConnectionError(str(error) or type(error).__name__) from error

    def abort(self) -> None:
        """Close at once; what was not yet written is thrown away: a paused server would never read it."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = self._reader = None


class _PlainStream(_Stream, streaming.Connection):
    pass


class _TlsStream(_Stream, streaming.SSLConnection):
    pass


class _UnixStream(_Stream, streaming.UnixDomainSocketConnection):
    pass


_TIME = SystemClock()
