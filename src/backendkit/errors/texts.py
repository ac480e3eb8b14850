"""Reading what may be anything: text of any value, bytes of any text, and the parts of foreign JSON. All total."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

LONGEST_TEXT = 10_000
"""Characters of a value shown that is not a text itself."""


def text_of(value: object) -> str:
    """Return a text for any value at all, at most 10,000 characters where it is not a text itself."""
    if type(value) is str:
        return value
    try:
        return str.__getitem__(
            str(value), slice(LONGEST_TEXT)
        )  # a plain str, whatever __str__ gave
    except Exception:  # noqa: BLE001 - a foreign object's __str__ may raise anything
        return type(value).__name__


def to_bytes(json: str) -> bytes:
    """Return JSON text as UTF-8; a lone surrogate, which UTF-8 cannot say, becomes U+FFFD."""
    try:
        return json.encode()
    except UnicodeEncodeError:
        return json.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def mapping(value: Any) -> Mapping[Any, Any]:
    """Return `value` if it is a mapping, else an empty one."""
    return cast("Mapping[object, Any]", value) if isinstance(value, Mapping) else _NOTHING


def listing(value: Any) -> list[Any]:
    """Return `value` if it is a list, else an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []


_NOTHING: Mapping[Any, Any] = MappingProxyType({})
