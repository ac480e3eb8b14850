"""Uses that a type checker must refuse. Each is silenced by the code it must give: an ignore too many is an error."""

from __future__ import annotations

from backendkit.core.operation import Operation, Reply, Script


def first(reply: Reply) -> int:
    """Read a count."""
    return int(reply[0])


def text(script: Script) -> Operation[str]:
    """A reader of numbers makes no operation of text."""
    return Operation(script, (b"key",), [1], first)  # type: ignore[arg-type]  # refused on purpose


def key(script: Script) -> Operation[int]:
    """Keys are bytes, never text."""
    return Operation(script, ("key",), [1], first)  # type: ignore[arg-type]  # refused on purpose


def argument(script: Script) -> Operation[int]:
    """Arguments have no float: it would not survive the way to Redis and back."""
    return Operation(script, (b"key",), [1.5], first)  # type: ignore[list-item]  # refused on purpose
