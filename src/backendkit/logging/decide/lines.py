"""A plain record as one line: JSON for machines, or text for eyes. A line never holds a raw control character.

Both escape what would end a line, move a cursor or turn the direction of text: C0, DEL, C1, U+2028/9 and the bidirectional
controls (CWE-117, CVE-2021-42574). A line that would be too long is told shorter, and says so in `cut_bytes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from backendkit.logging.decide.values import Plain, is_dict, is_list

HEAD = ("timestamp", "level", "event", "logger", "request_id", "trace_id", "span_id")
"""The fields that come first, and that the shortest form of a record still has."""

Dump = Callable[[Mapping[str, Plain]], bytes]
"""Renders a plain record as one line of JSON without its newline."""

_UNSAFE = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbb\xbf"
)
_BARE = re.compile(r"[^\s\"'=\\]+")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_SPACED = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def dump_json(record: Mapping[str, Plain]) -> bytes:
    """Render with the standard library; pure ASCII."""
    return _ENCODER.encode(record).encode().replace(b"\x7f", rb"\u007f")


def fastest_dump() -> Dump:
    """Return a renderer by orjson where it is installed, which takes a tenth of the time, else `dump_json`."""
    try:
        import orjson  # noqa: PLC0415 - optional: detected, never required
    except ImportError:
        return dump_json
    dumps = orjson.dumps

    def dump(record: Mapping[str, Plain]) -> bytes:
        line = dumps(record)
        if line.isascii() and b"\x7f" not in line:
            return line
        return _UNSAFE.sub(_escaped, line)

    return dump


class JsonLine:
    """Renders plain records as JSON lines.

    Args:
        most: bytes of a line, its newline included.
        dump: how; None: the fastest there is.
    """

    __slots__ = ("_most", "dump")

    def __init__(self, most: int, dump: Dump | None = None) -> None:
        self._most = most - 1
        self.dump = dump or fastest_dump()

    def __call__(self, record: Mapping[str, Plain]) -> bytes:
        """Return the line, newline included."""
        line = self.dump(record)
        if len(line) > self._most:
            line = self._cut(record, len(line))
        return line + b"\n"

    def _cut(self, record: Mapping[str, Plain], size: int) -> bytes:
        for share in (4, 16, 64):
            most = self._most // share
            shorter = {key: _shortened(value, most) for key, value in record.items()}
            line = self.dump({**shorter, "cut_bytes": size})
            if len(line) <= self._most:
                return line
        head = {key: _shortened(record[key], 64) for key in HEAD if key in record}
        return self.dump({**head, "cut_bytes": size})


class ConsoleLine:
    """Renders plain records for eyes: time, level, event, then `key=value`.

    Args:
        most: bytes of a line.
        colours: whether the level and the keys are coloured, for a terminal.
        blocks: whether a traceback follows on lines of its own, each behind `  | `, which nothing else begins with.
    """

    __slots__ = ("_blocks", "_colours", "_most")

    def __init__(self, most: int, *, colours: bool = False, blocks: bool = False) -> None:
        self._most = most - 1
        self._colours = colours
        self._blocks = blocks

    def __call__(self, record: Mapping[str, Plain]) -> bytes:
        """Return the line, newline included; with `blocks`, the traceback's lines behind it."""
        rest = dict(record)
        level = str(rest.pop("level", "info"))
        head = f"{escape(str(rest.pop('timestamp', '')))} {self._level(level)} {escape(str(rest.pop('event', '')))}"
        stack = self._stack(rest)
        pairs = "".join(f" {self._key(key)}={_value(value)}" for key, value in rest.items())
        line = (head + pairs).encode("utf-8", "backslashreplace")
        if len(line) > self._most:
            said = f"... [cut, {len(line)} bytes]".encode()
            line = line[: self._most - len(said)].decode("utf-8", "ignore").encode() + said
        return line + b"\n" + stack

    def _level(self, level: str) -> str:
        code = _COLOURS.get(level)
        padded = f"{escape(level):<8}"
        return f"\x1b[{code}m{padded}\x1b[0m" if self._colours and code else padded

    def _key(self, key: str) -> str:
        shown = key if _BARE.fullmatch(key) and key.isprintable() else _quoted(key)
        return f"\x1b[36m{shown}\x1b[0m" if self._colours else shown

    def _stack(self, rest: dict[str, Any]) -> bytes:
        exception: Plain = rest.get("exception")
        if not self._blocks or not is_dict(exception):
            return b""
        told: dict[str, Plain] = dict(exception)
        stack = str(told.pop("stacktrace", ""))
        rest["exception"] = told
        text = "".join(f"  | {escape(line)}\n" for line in stack.split("\n"))
        return text.encode("utf-8", "backslashreplace")


def escape(text: str) -> str:
    """Return `text` with what cannot be printed written out as Python writes it: escapes for newlines, ESC, U+2028."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _value(value: Plain) -> str:
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value.isprintable() else _quoted(value)
    return escape(_SPACED.encode(value))


def _quoted(text: str) -> str:
    return escape(_SPACED.encode(text))


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def _shortened(value: Plain, most: int) -> Plain:
    """Return `value` in about `most` characters: texts keep both ends, for a traceback's end says most."""
    if isinstance(value, str):
        half = max(most // 2, 8)
        return value if len(value) <= 2 * half else f"{value[:half]} ... {value[-half:]}"
    if is_dict(value) and len(value) <= 8:
        return {_shortened(key, 64): _shortened(member, most // 2) for key, member in value.items()}
    if is_dict(value) or is_list(value):
        return value if len(_ENCODER.encode(value)) <= most else f"<{len(value)} items, cut>"
    return value
