"""Reading web servers' access logs: common and combined format, plain, gzip, or standard input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from backendkit.cli.lines import Lines
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
        query: of the URL; empty without one.
        size: bytes of the response's body.
    """

    at_us: int
    ip: str
    user: str
    method: str
    path: str
    status: str
    query: str = ""
    size: int = 0


class AccessLog(Lines):
    """The requests of a log; what cannot be read is counted, not fatal.

    Attributes:
        malformed: lines so far that are none of the two formats.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.malformed = 0

    def requests(self) -> Iterator[Entry]:
        """Yield one request after another."""
        for line in self:
            entry = parse_line(line.decode("utf-8", "replace"))
            if entry is None:
                self.malformed += bool(line.strip())
            else:
                yield entry


def parse_line(line: str) -> Entry | None:
    """Return the request that a line tells of, or None."""
    found = _LINE.match(line)
    if found is None:
        return None
    ip, user, when, method, target, status, size = found.groups()
    try:
        at = datetime.strptime(when, "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None
    path, _, query = (target or "").partition("?")
    at_us = int(at.timestamp()) * SECOND_US
    size = 0 if size == "-" else int(size)
    return Entry(at_us, ip, user, method or "-", path or "-", status, query, size)


_LINE = re.compile(
    r"(\S+) \S+ (.+?) \[([^\]]{20,40})\] "
    r'"(?:(\S+) (\S+)[^"\\]*(?:\\.[^"\\]*)*|[^"\\]*(?:\\.[^"\\]*)*)" (\d{3}) (\d+|-)(?: |$|\r|\n)'
)
