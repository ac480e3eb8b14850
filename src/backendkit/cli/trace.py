"""Traces of a cache: which key was asked for, in order, and how large its value is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from backendkit.cli.access_log import parse_line
from backendkit.cli.lines import Lines

Format: TypeAlias = Literal["auto", "keys", "csv", "log"]


class Look(NamedTuple):
    """One look-up.

    Attributes:
        key: what was asked for.
        size: bytes of its value.
        at_us: when, in microseconds since 1970; 0 where the trace does not tell.
    """

    key: str
    size: int = 0
    at_us: int = 0


class Trace(Lines):
    """The look-ups of a trace, in order.

    Args:
        path: a file, plain or gzip; `-` is standard input.
        kind: `keys`, one a line; `csv`, key and bytes; `log`, a web server's access log, of which GET and HEAD count that
            were answered below 400; `auto` takes the first line for a sample.

    Attributes:
        malformed: lines so far that are none of that format.
    """

    def __init__(self, path: str, kind: Format = "auto") -> None:
        super().__init__(path)
        self.malformed = 0
        self._kind: Format = kind

    def looks(self) -> Iterator[Look]:
        """Yield one look-up after another; those of a log stand in the order in which they were written."""
        for raw in self:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                continue
            if self._kind == "auto":
                self._kind = _kind_of(line)
            look = _READERS[self._kind](line)
            if look is None:
                self.malformed += 1
            elif look is not _OTHER:
                yield look


def _kind_of(line: str) -> Format:
    if parse_line(line) is not None:
        return "log"
    _, comma, last = line.rpartition(",")
    return "csv" if comma and (_is_size(last) or line.lower() == "key,size") else "keys"


def _is_size(text: str) -> bool:
    text = text.strip()
    return text.isascii() and text.isdigit()


def _csv(line: str) -> Look | None:
    key, comma, size = line.rpartition(",")
    if line.lower() == "key,size":
        return _OTHER
    return Look(key, int(size)) if comma and _is_size(size) else None


def _log(line: str) -> Look | None:
    entry = parse_line(line)
    if entry is None:
        return None
    if entry.method not in ("GET", "HEAD") or entry.status >= "400":
        return _OTHER
    return Look(f"{entry.path}?{entry.query}", entry.size, entry.at_us)


_OTHER = Look("")
"""A line that tells of no look-up."""

_READERS: Mapping[Format, Callable[[str], Look | None]] = {"keys": Look, "csv": _csv, "log": _log}
