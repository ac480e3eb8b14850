"""Reading web servers' access logs: common and combined format, plain, gzip, or standard input."""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from backendkit.cli.loading import UsageError
from backendkit.core.clock import SECOND_US


class Entry(NamedTuple):
    """One request.

    Attributes:
        at_us: when, in microseconds since 1970.
        ip: the client's address.
        user: who was logged in; `-`: nobody.
        method: `GET`, ...
        path: without the query.
        status: 200, ...
    """

    at_us: int
    ip: str
    user: str
    method: str
    path: str
    status: str


class AccessLog:
    """The lines of a log; what cannot be read is counted, not fatal.

    Args:
        path: a file, plain or gzip; `-` is standard input.

    Attributes:
        malformed: lines so far that are none of the two formats.
        read: bytes so far, and of the file altogether (0 where that is not known).

    Raises:
        UsageError: there is no such file.
    """

    def __init__(self, path: str) -> None:
        self.malformed = 0
        self.read = 0
        self._raw: IO[bytes] = sys.stdin.buffer
        self.size = 0
        if path != "-":
            try:
                self._raw = Path(path).open("rb")  # noqa: SIM115 - closed after the last line
                self.size = Path(path).stat().st_size
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}") from error

    def __iter__(self) -> Iterator[Entry]:
        with self._raw:
            for line in self._lines():
                entry = parse_line(line.decode("utf-8", "replace"))
                if entry is None:
                    self.malformed += bool(line.strip())
                else:
                    yield entry

    def _lines(self) -> Iterator[bytes]:
        first = self._raw.read(2)
        rest = self._raw.readline()
        if first != b"\x1f\x8b":
            yield first + rest
            for line in self._raw:
                self.read += len(line)
                yield line
            return
        blocks: Any = _Again(first + rest, self._raw, self)  # `read` is all that is asked of it
        try:
            yield from gzip.GzipFile(fileobj=blocks, mode="rb")
        except (OSError, EOFError) as error:
            raise UsageError(f"the gzip data is damaged: {error}") from error


def parse_line(line: str) -> Entry | None:
    """Return the request that a line tells of, or None."""
    found = _LINE.match(line)
    if found is None:
        return None
    ip, user, when, method, path, status = found.groups()
    try:
        at = datetime.strptime(when, "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None
    plain = (path or "").partition("?")[0]
    return Entry(int(at.timestamp()) * SECOND_US, ip, user, method or "-", plain or "-", status)


class _Again:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, rest: IO[bytes], log: AccessLog) -> None:
        self._head = head
        self._rest = rest
        self._log = log

    def read(self, size: int = -1) -> bytes:
        if self._head:
            wanted = len(self._head) if size < 0 else size
            block, self._head = self._head[:wanted], self._head[wanted:]
        else:
            block = self._rest.read(size)
        self._log.read += len(block)
        return block


_LINE = re.compile(
    r"(\S+) \S+ (.+?) \[([^\]]{20,40})\] "
    r'"(?:(\S+) (\S+)[^"\\]*(?:\\.[^"\\]*)*|[^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (?:\d+|-)(?: |$|\r|\n)'
)
