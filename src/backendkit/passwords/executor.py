"""Room for hashing: as many threads as cores, a budget of memory, a bounded queue, and nobody hashed for in vain.

Argon2 is meant to be expensive: a pool of forty threads at 64 MiB each is 2.5 GiB, and a thousand queued logins are a
minute of work for clients that have long gone. Whoever cancels gives their place back at once; whoever would wait
behind too many others is told so at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.context import deadline_us
from backendkit.core.errors import Overloaded
from backendkit.core.events import Hooks
from backendkit.core.fork import remake_after_fork
from backendkit.passwords.events import HashingOverloaded

T = TypeVar("T")


class _Job:
    """One hash to be computed."""

    __slots__ = ("future", "memory", "work")

    def __init__(self, work: Callable[[], Any], memory: int) -> None:
        self.work = work
        self.memory = memory
        self.future: Future[Any] = Future()


class HashExecutor:
    """Runs hashes in threads of its own, made on first use and anew in each forked child.

    Args:
        workers: threads, from 1.
        memory_kib: what all running hashes may take together; one alone always may.
        max_pending: how many may wait.
        queue_us: how long each may wait.
        clock: measures waiting.
        hooks: told of those who are turned away.
    """

    def __init__(
        self,
        *,
        workers: int,
        memory_kib: int,
        max_pending: int,
        queue_us: int,
        clock: Clock,
        hooks: Hooks,
    ) -> None:
        self.workers = workers
        self.memory_kib = memory_kib
        self._max_pending = max_pending
        self._queue_us = queue_us
        self._clock = clock
        self._hooks = hooks
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin empty: the parent's threads and callers are not here."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._taken_kib = 0

    @property
    def pending(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def run(self, work: Callable[[], T], memory_kib: int) -> T:
        """Do `work` in a thread once there is room for it.

        Raises:
            Overloaded: too many wait already (at once), or the wait grew too long.
        """
        job = self._enter(work, memory_kib)
        # `cancel` does nothing to a job that runs already, and is how one that waits too long ends.
        patience = asyncio.get_running_loop().call_later(self._patience(), job.future.cancel)
        try:
            result: T = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._leave(job)
            if _is_cancelled():
                raise
            raise self._overloaded() from None
        finally:
            patience.cancel()
        return result

    def close(self) -> None:
        """Finish what runs, drop what waits. A later use begins anew."""
        with self._lock:
            pool, self._pool = self._pool, None
            waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.future.cancel()
        if pool is not None:
            pool.shutdown(wait=True)

    def _enter(self, work: Callable[[], Any], memory_kib: int) -> _Job:
        job = _Job(work, min(memory_kib, self.memory_kib))
        with self._lock:
            if len(self._waiting) >= self._max_pending and not self._fits(job):
                full = True
            else:
                full = False
                self._waiting.append(job)
                self._start()
        if full:
            raise self._overloaded()
        return job

    def _leave(self, job: _Job) -> None:
        job.future.cancel()
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)

    def _patience(self) -> float:
        """Return how long to wait for a place, in seconds: no longer than the request itself has."""
        deadline = deadline_us()
        left = self._queue_us if deadline is None else deadline - self._clock.mono_us()
        return max(min(left, self._queue_us), 0) / SECOND_US

    def _overloaded(self) -> Overloaded:
        self._hooks.emit(HashingOverloaded(len(self._waiting)))
        return Overloaded(
            "too many passwords to hash", retry_after=max(self._queue_us / SECOND_US, 1)
        )

    def _fits(self, job: _Job) -> bool:
        free = self._running < self.workers and self._taken_kib + job.memory <= self.memory_kib
        return (free or not self._running) and not self._waiting

    def _start(self) -> None:
        """Start what fits, in order; called with the lock held."""
        while self._waiting:
            job = self._waiting[0]
            if self._running and (
                self._running >= self.workers or self._taken_kib + job.memory > self.memory_kib
            ):
                return
            self._waiting.popleft()
            if job.future.set_running_or_notify_cancel():
                self._running += 1
                self._taken_kib += job.memory
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(
                        self.workers, thread_name_prefix="backendkit-hash"
                    )
                self._pool.submit(self._work, job)

    def _work(self, job: _Job) -> None:
        try:
            result = job.work()
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            self._done(job)
            job.future.set_exception(error)
        else:
            self._done(job)
            job.future.set_result(result)

    def _done(self, job: _Job) -> None:
        with self._lock:
            self._running -= 1
            self._taken_kib -= job.memory
            self._start()


def _is_cancelled() -> bool:
    """Tell whether somebody cancelled the running task, as opposed to its hash."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
