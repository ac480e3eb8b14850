"""A connection that listens: subscribed to one channel of one primary, with a heartbeat of its own.

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
        channel: what to subscribe to.

    Attributes:
        server: its address, as text.
        identity: changes when another server, or the same one with other data, answers at the address.

    Raises:
        StoreUnavailable: it cannot be reached, or is no primary.
    """

    __slots__ = ("_connection", "identity", "server")

    def __init__(self, dial: Dial, address: Address, channel: bytes) -> None:
        self.server = str(address)
        self._connection = replace(dial, protocol=2).blocking(address)
        try:
            self._connection.connect()
            self.identity = self._identified()
            self._connection.send_command("SUBSCRIBE", channel.decode(), check_health=False)
            self._connection.read_response(disable_decoding=True)
        except (RedisError, KeyError) as error:
            self.close()
            raise StoreUnavailable(f"{address} cannot be listened to: {error}") from error
        except BaseException:
            self.close()
            raise

    def ping(self, number: int) -> None:
        """Send a heartbeat.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        try:
            self._connection.send_command("PING", f"{number}", check_health=False)
        except RedisError as error:
            raise StoreUnavailable(f"{self.server}: {error}") from error

    def read(self, seconds: float) -> tuple[list[bytes], int | None]:
        """Return the messages that have come, and the number of the last heartbeat among them that was answered.

        Waits for the first for `seconds` at the most.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        messages: list[bytes] = []
        beat: int | None = None
        try:
            while len(messages) < _AT_ONCE and self._connection.can_read(seconds):
                reply: Any = self._connection.read_response(disable_decoding=True)
                seconds = 0
                if reply[0] == b"message":
                    messages.append(reply[2])
                elif reply[0] == b"pong":
                    beat = int(reply[1])
        except RedisError as error:
            raise StoreUnavailable(f"{self.server}: {error}") from error
        return messages, beat

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

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
