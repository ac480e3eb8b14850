"""What this store uses of redis-py's connections, and their types; `dial` alone reaches below these names.

redis-py leaves most of these untyped. A release that renames one fails the type check of `dial`, or the first
test, and this page says what to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class BlockingConnection(Protocol):
    """A `redis.connection.Connection` or one of its kin."""

    @property
    def is_connected(self) -> bool:
        """Whether a socket is open, as far as this side knows."""
        ...

    def connect(self) -> None:
        """Connect, authenticate and select the database; raises `RedisError`."""
        ...

    def disconnect(self) -> None:
        """Close the socket; harmless where there is none."""
        ...

    def can_read(self, timeout: float = 0) -> bool:
        """Return whether something lies in the socket; raises `RedisError` where the other side has closed it."""
        ...

    def fileno(self) -> int:
        """Return the socket's number; raises `RedisError` where there is none."""
        ...

    def send_command(self, *words: str, check_health: bool = True) -> None:
        """Pack a command and send it."""
        ...

    def send_packed_command(self, command: Sequence[bytes], *, check_health: bool = True) -> None:
        """Send packed commands as they are."""
        ...

    def read_response(
        self,
        *,
        disable_decoding: bool = False,
        timeout: float = 0,
        disconnect_on_error: bool = True,
    ) -> Any:
        """Read one reply; raises what a server's error reply stands for, or `RedisError`."""
        ...


class StreamingConnection(Protocol):
    """A `redis.asyncio.connection.Connection` or one of its kin."""

    async def connect(self) -> None:
        """Connect, authenticate and select the database; raises `RedisError`."""
        ...

    def abort(self) -> None:
        """Close the transport at once, throwing away what it holds; harmless where there is none."""
        ...

    async def send_command(self, *words: str, check_health: bool = True) -> None:
        """Pack a command and send it."""
        ...

    async def write(self, payload: bytes) -> None:
        """Write packed commands; suspends only where the transport's buffer is full."""
        ...

    async def read_response(
        self,
        *,
        disable_decoding: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - redis-py's own signature
        disconnect_on_error: bool = True,
    ) -> Any:
        """Read one reply; `math.inf` waits for ever."""
        ...
