"""A writer that never lets the caller wait: a bounded queue, and one thread that writes.

Lines are rendered before they are queued, by the thread that logs: what a record says is what was true then. When the
queue is full, new lines are dropped and counted, and the count is told as soon as there is room. A killed process loses
what is queued: that is the price, and why this is not the default.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from weakref import finalize

from backendkit.core.fork import remake_after_fork
from backendkit.logging.writers import Writer


class QueuedWriter:
    """Hands lines to a thread of its own, which starts with the first line, and again after a fork.

    What is queued is written when the interpreter exits in order; call `close` where it does not, as in workers that end
    by `os._exit`.

    Args:
        writer: what writes them.
        capacity: lines that may wait.
        said: renders the line that tells how many were dropped.
    """

    __slots__ = ("__weakref__", "_capacity", "_queue", "_said", "_writer")

    def __init__(self, writer: Writer, capacity: int, said: Callable[[int], bytes]) -> None:
        self._writer = writer
        self._capacity = capacity
        self._said = said
        self._queue = _Queue()
        finalize(self, _end, self._queue, writer)
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Start anew: what waits in the parent's queue the parent writes."""
        self._queue.begin()

    @property
    def lost(self) -> int:
        """Lines that had no room or could not be written."""
        return self._queue.dropped + self._writer.lost

    def write(self, line: bytes) -> bool:
        """Queue one line; False if there is no room."""
        queue = self._queue
        if queue.ended:
            return self._writer.write(line)
        if queue.lines.qsize() >= self._capacity:
            with queue.lock:
                queue.dropped += 1
            return False
        queue.lines.put(line)
        if queue.thread is None:
            self._start()
        return True

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what is queued now is written, at most `timeout` seconds; False if it was not."""
        queue = self._queue
        if queue.thread is None or queue.thread is threading.current_thread():
            return queue.lines.empty()
        done = threading.Event()
        queue.lines.put(done)
        return done.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued and end the thread; what comes later is written directly."""
        _end(self._queue, self._writer, timeout)

    def _start(self) -> None:
        queue = self._queue
        with queue.lock:
            if queue.ended:  # in the meantime: nobody else takes the line out
                _drain(queue, self._writer)
            elif queue.thread is None:
                arguments = (queue, self._writer, self._said)
                # A daemon: a thread that is waited for at exit would have to be told, and nobody tells it.
                thread = threading.Thread(
                    target=_work, args=arguments, name="backendkit-log-writer", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the interpreter ends, or the system has no room for a thread
                    _drain(queue, self._writer)
                else:
                    queue.thread = thread


class _Queue:
    """What a writer and its thread share; the thread holds no writer, so that one which is dropped can go."""

    __slots__ = ("dropped", "ended", "lines", "lock", "thread")

    def __init__(self) -> None:
        self.ended = False
        self.begin()

    def begin(self) -> None:
        # SimpleQueue may be written to from a signal handler or a finalizer, where Queue would wait for itself.
        self.lines: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self.lock = threading.RLock()
        self.thread: threading.Thread | None = None
        self.dropped = 0


def _work(queue: _Queue, writer: Writer, said: Callable[[int], bytes]) -> None:
    told = 0
    lines = queue.lines
    while True:
        line = lines.get()
        if line is None:
            return
        if isinstance(line, threading.Event):
            line.set()
            continue
        writer.write(line)
        dropped = queue.dropped
        if dropped > told:
            writer.write(said(dropped - told))
            told = dropped


def _end(queue: _Queue, writer: Writer, timeout: float = 5.0) -> None:
    """Let the thread write what it has, for at exit it would be cut off between taking a line and writing it."""
    with queue.lock:
        queue.ended = True
        thread, queue.thread = queue.thread, None
    if thread is not None and thread is not threading.current_thread():
        queue.lines.put(None)
        thread.join(timeout)
    _drain(queue, writer)


def _drain(queue: _Queue, writer: Writer) -> None:
    """Write what is still queued, from the thread that ends the writer."""
    while True:
        try:
            line = queue.lines.get_nowait()
        except Empty:
            return
        if isinstance(line, threading.Event):
            line.set()
        elif line is not None:
            writer.write(line)
