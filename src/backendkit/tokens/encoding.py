"""Strict base64url and JSON, as tokens need them: one text per value, and no other text accepted.

RFC 7515 section 2 (base64url without padding), RFC 8259 and RFC 7515 section 4 (no member twice). Python's own
decoders skip foreign characters, ignore stray bits, keep the last of two members and read `NaN`.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FROM_URL = bytes(
    c if c in _ALPHABET else {ord("-"): ord("+"), ord("_"): ord("/")}.get(c, 0) for c in range(256)
)
_TO_URL = bytes.maketrans(b"+/", b"-_")
_PADDING = (b"", b"", b"==", b"=")
_LAST = (frozenset(range(256)), frozenset(b""), frozenset(b"AQgw"), frozenset(b"AEIMQUYcgkosw048"))
"""By length modulo 4: the last characters that leave no stray bits; a single character over is never right."""


def decode(segment: bytes) -> bytes:
    """Return the bytes of canonical, unpadded base64url; an empty segment gives none.

    Raises:
        ValueError: a foreign character, padding, stray bits or an impossible length.
    """
    if not segment:
        return b""
    over = len(segment) & 3
    if segment[-1] not in _LAST[over]:
        raise ValueError("not canonical")
    return a2b_base64(segment.translate(_FROM_URL) + _PADDING[over], strict_mode=True)


def encode(data: bytes) -> bytes:
    """Return unpadded base64url."""
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def load_object(raw: bytes) -> dict[str, Any]:
    """Return the JSON object that `raw` spells in UTF-8.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, a member twice, `NaN`, a lone surrogate, too deep.
    """
    text = raw.decode()
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if type(value) is not dict:
        raise ValueError("not an object")
    if "\\" in text:
        # An escaped lone surrogate decodes to text that nothing can encode again.
        json.dumps(value, ensure_ascii=False).encode()
    return value  # pyright: ignore[reportUnknownVariableType] - what JSON holds is Any


def dump(value: Mapping[str, Any]) -> bytes:
    """Return compact JSON in UTF-8; `NaN` and what JSON cannot say are refused with ValueError or TypeError."""
    return _ENCODER.encode(value).encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse(constant: str) -> float:
    raise ValueError(constant)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
