"""Work behind callers that block: a bounded number of daemon threads, each started when it is needed."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from backendkit.core.context import detach
from backendkit.core.fork import remake_after_fork

MOST_THREADS = 16
"""Loads of one cache that run behind callers at once; beyond that callers run theirs, or serve what is stale."""


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

    def run(self, work: Callable[[], object]) -> bool:
        """Run `work` in a thread, in a copy of the caller's context that belongs to no request; False: no room."""
        room = self._room
        if not room.acquire(blocking=False):
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
