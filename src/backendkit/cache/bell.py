"""Something that rings once, for threads and tasks that wait for it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from backendkit.core.clock import SECOND_US


class Bell:
    """Rings once; whoever waits afterwards does not wait."""

    __slots__ = ("_event", "_futures", "_lock")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.RLock()  # a finalizer that runs within may ring it
        self._futures: set[asyncio.Future[None]] = set()

    def wait_sync(self, us: int) -> None:
        """Block until it rings, or for `us` microseconds."""
        self._event.wait(us / SECOND_US)

    async def wait_async(self, us: int) -> None:
        """Suspend until it rings, or for `us` microseconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._futures.add(future)
        try:
            if not self._event.is_set():
                await asyncio.wait([future], timeout=us / SECOND_US)
        finally:
            with self._lock:
                self._futures.discard(future)

    def ring(self) -> None:
        """Ring; from any thread."""
        self._event.set()
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            with suppress(RuntimeError):  # its loop has been closed, and nobody waits there
                future.get_loop().call_soon_threadsafe(_settle, future)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
