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
from redis.maint_notifications import MaintNotificationsConfig

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

    __slots__ = ("_context", "_lock", "_options")

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
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

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
            make, place = blocking.UnixDomainSocketConnection, {"path": address.host}
        elif self.tls is not None:
            make, place = _TlsConnection, {"tls": self.tls, **place}
        else:
            make = blocking.Connection
        options = {**self._common(), "socket_timeout": self.timeout}
        return cast("BlockingConnection", make(**place, **options))

    def streaming(self, address: Address) -> StreamingConnection:
        """Return a connection, not yet connected, for an event loop; its reads have no timeout of their own.

        With TLS, the context must have been built before.
        """
        options = self._common()
        connection: Any
        if address.port == 0:
            connection = streaming.UnixDomainSocketConnection(path=address.host, **options)
        elif self.tls is not None:
            connection = streaming.SSLConnection(host=address.host, port=address.port, **options)
            connection.ssl_context.context = self.tls.context()
        else:
            connection = streaming.Connection(host=address.host, port=address.port, **options)
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


class _TlsConnection(blocking.Connection):
    """redis-py's plain connection in our TLS context: its own TLS class builds one each time it connects.

    `_connect` is where redis-py's own classes differ from one another.
    """

    def __init__(self, tls: Tls, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        self._tls = tls

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        try:
            return self._tls.context().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
