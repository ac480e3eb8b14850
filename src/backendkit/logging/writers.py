"""Where lines go: straight to a file descriptor, whole, or to whatever else can be written to. Never raises.

One `write` call of the system a line. For files that is enough: the kernel lets nobody else's bytes into it. A pipe keeps only
4,096 bytes together (POSIX `PIPE_BUF`), and a server's workers share one, so that on a pipe each line is written under a
lock that the workers see; it costs 1.5 us, and costs nothing where the output is a file or a terminal.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import threading
from typing import Any, Protocol

from backendkit.core.fork import remake_after_fork

if sys.platform == "win32":  # pragma: no cover  # it has no pipes that are shared like this

    def _hold(descriptor: int) -> None: ...

    def _release(descriptor: int) -> None: ...

else:
    import fcntl

    def _hold(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)

    def _release(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


_PATIENCE_S = 5.0
"""Seconds that a line waits for a full pipe that is set not to block, before the rest of it is given up."""


class Writer(Protocol):
    """Takes whole lines."""

    def write(self, line: bytes) -> bool:
        """Write one line, or several, each ended by a newline; False if they were lost. Never raises."""
        ...

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait, at most `timeout` seconds, until all that was taken is written; False if it was not."""
        ...

    def close(self, timeout: float = 5.0) -> None:
        """Flush and let go; what is written later is written directly."""
        ...

    @property
    def lost(self) -> int:
        """Lines that could not be written, or had no room."""
        ...


class DirectWriter:
    """Writes each line at once, from whichever thread brings it.

    Args:
        stream: a file descriptor, or a file object of text or bytes; None: standard output. One that has a descriptor is
            written through that; what it had buffered is flushed first. It stays open.

    Attributes:
        lost: lines that could not be written: a full disk, a closed pipe.
    """

    __slots__ = (
        "__weakref__",
        "_descriptor",
        "_lock",
        "_locked_by_all",
        "_stream",
        "_text",
        "lost",
    )

    def __init__(self, stream: Any = None) -> None:
        self._stream: Any = sys.stdout if stream is None else stream
        self._descriptor = _descriptor(self._stream)
        self._text = isinstance(self._stream, io.TextIOBase) or _takes_text(self._stream)
        self._locked_by_all = self._descriptor is not None and _is_pipe(self._descriptor)
        self.lost = 0
        # Reentrant, because a signal handler or a finalizer may log while its thread does.
        self._lock = threading.RLock()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget a lock that another thread of the parent may hold."""
        self._lock = threading.RLock()

    @property
    def is_terminal(self) -> bool:
        """Whether somebody reads this on a screen."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, line: bytes) -> bool:
        """Write one line; False if it was lost."""
        try:
            descriptor = self._descriptor
            if descriptor is not None and not self._locked_by_all:
                # The kernel keeps one call's bytes together; less than all of them it takes only when a disk is full.
                done = os.write(descriptor, line)
                return done == len(line) or self._rest(descriptor, line[done:])
            with self._lock:
                if descriptor is None:
                    self._to_stream(line)
                else:
                    self._to_pipe(descriptor, line)
        except Exception:  # noqa: BLE001 - a full disk, a closed stream: the work that logs goes on
            self.lost += 1
            return False
        return True

    def flush(self, timeout: float = 5.0) -> bool:
        """Return True: nothing waits here."""
        return True

    def close(self, timeout: float = 5.0) -> None:
        """Do nothing: the stream belongs to whoever opened it."""

    def _rest(self, descriptor: int, rest: bytes) -> bool:
        with self._lock:
            _write_all(descriptor, rest)
        return True

    def _to_pipe(self, descriptor: int, line: bytes) -> None:
        # Each process locks for itself; its own threads the lock above keeps apart.
        try:
            _hold(descriptor)
        except (
            OSError
        ):  # macOS and the BSDs lock no pipes (EBADF): better a line that may be torn than none
            self._locked_by_all = False
            _write_all(descriptor, line)
            return
        try:
            _write_all(descriptor, line)
        finally:
            _release(descriptor)

    def _to_stream(self, line: bytes) -> None:
        self._stream.write(line.decode("utf-8", "replace") if self._text else line)
        flush = getattr(self._stream, "flush", None)
        if flush is not None:
            flush()


def _write_all(descriptor: int, line: bytes) -> None:
    """Write the whole line; the kernel takes less than all of it only where a pipe or disk is full."""
    done = 0
    while done < len(line):
        try:
            done += os.write(descriptor, line[done:] if done else line)
        except BlockingIOError:
            if not select.select((), (descriptor,), (), _PATIENCE_S)[1]:
                raise


def _descriptor(stream: Any) -> int | None:
    if isinstance(stream, int):
        return stream
    try:
        stream.flush()
        descriptor = stream.fileno()
    except Exception:  # noqa: BLE001 - in-memory and captured streams have none, and say so in many ways
        return None
    return descriptor if isinstance(descriptor, int) else None


def _takes_text(stream: Any) -> bool:
    return not isinstance(stream, io.RawIOBase | io.BufferedIOBase) and hasattr(stream, "encoding")


def _is_pipe(descriptor: int) -> bool:
    try:
        return sys.platform != "win32" and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
