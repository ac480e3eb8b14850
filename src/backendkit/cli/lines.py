"""Reading a file line by line: plain, gzip, or standard input, and how far it is."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from backendkit.cli.loading import UsageError


class Lines:
    """The lines of a file, as bytes.

    Args:
        path: a file, plain or gzip; `-` is standard input.

    Attributes:
        read: bytes so far.
        size: bytes of the file altogether; 0 where that is not known.

    Raises:
        UsageError: there is no such file; or, while reading, its gzip data is damaged.
    """

    def __init__(self, path: str) -> None:
        self.read = 0
        self._raw: IO[bytes] = sys.stdin.buffer
        self.size = 0
        if path != "-":
            try:
                self._raw = Path(path).open("rb")  # noqa: SIM115 - closed after the last line
                self.size = Path(path).stat().st_size
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}") from error

    def __iter__(self) -> Iterator[bytes]:
        with self._raw:
            yield from self._lines()

    def _lines(self) -> Iterator[bytes]:
        first = self._raw.readline()
        if not first.startswith(b"\x1f\x8b"):
            yield first
            for line in self._raw:
                self.read += len(line)
                yield line
            return
        blocks: Any = _Again(first, self._raw, self)  # `read` is all that is asked of it
        try:
            yield from gzip.GzipFile(fileobj=blocks, mode="rb")
        except (OSError, EOFError) as error:
            raise UsageError(f"the gzip data is damaged: {error}") from error


class _Again:
    """A stream whose beginning was read already."""

    def __init__(self, head: bytes, rest: IO[bytes], lines: Lines) -> None:
        self._head = head
        self._rest = rest
        self._lines = lines

    def read(self, size: int = -1) -> bytes:
        if self._head:
            wanted = len(self._head) if size < 0 else size
            block, self._head = self._head[:wanted], self._head[wanted:]
        else:
            block = self._rest.read(size)
        self._lines.read += len(block)
        return block
