"""A connection that listens: subscribed to channels of one primary, with a heartbeat of its own.

A server answers a `PING` after all that it published to the connection before: who has the answer has all messages
that were published before the question was sent. RESP2 always, whatever the store speaks: messages and answers then
come in one form from every server since Redis 6.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from backendkit.core.errors import StoreUnavailable
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.dial import Dial


class Line:
    """Listens to one server.

    Args:
        dial: how to connect.
        address: of the server.

    Attributes:
        server: its address, as text.
        identity: changes when another server, or the same one with other data, answers at the address.
        eviction: what the server drops when it is full, like `noeviction`.
        pending: whether more may have come than the last `read` has returned.

    Raises:
        StoreUnavailable: it cannot be reached, or is no primary.
    """

    __slots__ = ("_connection", "eviction", "identity", "pending", "server")

    def __init__(self, dial: Dial, address: Address) -> None:
        self.server = str(address)
        self.pending = False
        self._connection = replace(dial, protocol=2).blocking(address)
        try:
            self._connection.connect()
            self.identity = self._identified()
            self.eviction = self._info("memory").get(b"maxmemory_policy", b"").decode()
        except (RedisError, KeyError) as error:
            self.close()
            raise StoreUnavailable(f"{address} cannot be listened to: {error}") from error
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the socket to wait on.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        try:
            return self._connection.fileno()
        except RedisError as error:
            raise StoreUnavailable(f"{self.server}: {error}") from error

    def subscribe(self, channel: bytes) -> None:
        """Ask for a channel; raises as `ping`."""
        self._send("SUBSCRIBE", channel.decode())

    def unsubscribe(self, channel: bytes) -> None:
        """Ask for a channel no more; raises as `ping`."""
        self._send("UNSUBSCRIBE", channel.decode())

    def ping(self, number: int) -> None:
        """Send a heartbeat.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        self._send("PING", f"{number}")

    def read(self) -> tuple[list[tuple[bytes, bytes | None]], int | None]:
        """Return what has come, at most a thousand items of it; see `core.store.Listener`.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        heard: list[tuple[bytes, bytes | None]] = []
        beat: int | None = None
        connection = self._connection
        self.pending = False
        try:
            while connection.can_read(0):
                reply: Any = connection.read_response(disable_decoding=True)
                match reply[0]:
                    case b"message":
                        heard.append((reply[1], reply[2]))
                    case b"subscribe":
                        heard.append((reply[1], None))
                    case b"pong":
                        beat = int(reply[1])
                    case _:
                        continue  # no longer subscribed, as was asked for
                if len(heard) >= _AT_ONCE:
                    self.pending = True
                    break
        except RedisError as error:
            raise StoreUnavailable(f"{self.server}: {error}") from error
        return heard, beat

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _send(self, *words: str) -> None:
        try:
            self._connection.send_command(*words, check_health=False)
        except RedisError as error:
            raise StoreUnavailable(f"{self.server}: {error}") from error

    def _identified(self) -> bytes:
        facts = {**self._info("server"), **self._info("replication")}
        if facts[b"role"] != b"master":
            raise StoreUnavailable(f"{self.server} is no primary")
        return b"/".join((facts[b"run_id"], facts.get(b"master_replid", b"")))

    def _info(self, section: str) -> dict[bytes, bytes]:
        self._connection.send_command("INFO", section, check_health=False)
        text: bytes = self._connection.read_response(disable_decoding=True)
        lines = (line.partition(b":") for line in text.splitlines())
        return {name: value for name, _, value in lines}


_AT_ONCE = 1_000
"""Messages after which `read` returns, though more may have come."""
