"""Whose turn it is: first come, first served among the threads and tasks of this process, per key.

Whoever waits for room stands in a line; only its head asks the store. A synchronous caller blocks on an event, an
asynchronous one on a future of its own loop; both leave the line however they end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TypeAlias

from backendkit.core.clock import SECOND_US
from backendkit.core.fork import remake_after_fork

Key: TypeAlias = tuple[bytes, ...]


class Turn:
    """A place in a line."""

    __slots__ = ("_event", "_future", "_loop", "came", "key")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.came = False
        self._event: threading.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._future: asyncio.Future[None] | None = None

    def wait_sync(self, us: int) -> bool:
        """Block until it is this one's turn; return whether it is."""
        self._event = event = threading.Event()
        return self.came or event.wait(us / SECOND_US)

    async def wait_async(self, us: int) -> bool:
        """Suspend until it is this one's turn; return whether it is."""
        self._loop = asyncio.get_running_loop()
        self._future = future = self._loop.create_future()
        if not self.came:
            await asyncio.wait([future], timeout=us / SECOND_US)
        return self.came

    def come(self) -> None:
        """Say that it is this one's turn; from any thread."""
        self.came = True
        if self._event is not None:
            self._event.set()
        if self._loop is not None and self._future is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_settle, self._future)


class Turns:
    """The lines of one limiter."""

    __slots__ = ("__weakref__", "_lines", "_lock")

    def __init__(self) -> None:
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget who waits in the parent process."""
        self._lock = threading.Lock()
        self._lines: dict[Key, deque[Turn]] = {}

    def __len__(self) -> int:
        """Return how many lines there are."""
        return len(self._lines)

    def join(self, key: Key) -> Turn:
        """Stand at the end of the line for a key."""
        turn = Turn(key)
        with self._lock:
            line = self._lines.setdefault(key, deque())
            line.append(turn)
            turn.came = len(line) == 1
        return turn

    def leave(self, turn: Turn) -> None:
        """Go, and let the next one come if it was this one's turn."""
        with self._lock:
            line = self._lines.get(turn.key)
            if line is None or turn not in line:
                return  # a line of the parent process
            was_first = line[0] is turn
            line.remove(turn)
            if not line:
                del self._lines[turn.key]
            following = line[0] if line and was_first else None
        if following is not None:
            following.come()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
