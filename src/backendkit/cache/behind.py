"""Work behind callers that block: a bounded number of daemon threads, each started when it is needed."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from backendkit.core.context import detach
from backendkit.core.fork import remake_after_fork

MOST_THREADS = 16
"""Loads of all caches of a Redis store, or of a cache of one tier, that run behind callers at once; beyond that nothing is refreshed behind anybody."""

MOST_BOUNDED = 64
"""Loads of one cache at once that blocking callers wait for no longer than a timeout allows, one thread each. Beyond
that a caller waits for a free one, as long as its timeout allows: never does a load run where it could not be left."""


class Behind:
    """Runs functions in threads of its own. A daemon each: a loader that hangs must not keep the process from ending."""

    __slots__ = ("__weakref__", "_most", "_room")

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._most = most
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads."""
        self._room = threading.Semaphore(self._most)

    def run(self, work: Callable[[], object], within: float = 0) -> bool:
        """Run `work` in a thread, in a copy of the caller's context that belongs to no request.

        `within` so many seconds; False: there was no room for it.
        """
        room = self._room
        if not room.acquire(timeout=max(within, 0)):
            return False
        own = contextvars.copy_context()
        own.run(detach)

        def live() -> None:
            try:
                own.run(work)
            finally:
                room.release()

        try:
            threading.Thread(target=live, name="backendkit-cache-load", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is going down
            room.release()
            return False
        return True
