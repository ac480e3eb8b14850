"""Strict base64url and JSON, as tokens need them: one text per value, and no other text accepted.

RFC 7515 section 2 (base64url without padding), RFC 8259 and RFC 7515 section 4 (no member twice). Python's own
decoders skip foreign characters, ignore stray bits, keep the last of two members and read `NaN`.
"""

from __future__ import annotations

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from typing import Any, cast

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
        value = _parsed(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if type(value) is not dict:
        raise ValueError("not an object")
    if "\\" in text:
        # An escaped lone surrogate decodes to text that nothing can encode again.
        json.dumps(value, ensure_ascii=False).encode()
    return cast("dict[str, Any]", value)


def dump(value: Mapping[str, Any]) -> bytes:
    """Return compact JSON in UTF-8; `NaN` and what JSON cannot say are refused with ValueError or TypeError."""
    return _ENCODER.encode(value).encode()


def encoder() -> Callable[[Mapping[str, Any]], str]:
    """Return a function that writes compact JSON, made ready once: the usual one makes itself anew at each call."""
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # another Python than CPython
        return _ENCODER.encode
    # No `markers`: claims hold no circles, for they were copied from arguments or read from JSON.
    ready = make(
        None, _ENCODER.default, json.encoder.encode_basestring_ascii, None, ":", ",", *_STRICT
    )  # fmt: skip
    return lambda value: "".join(ready(value, 0))


def _parsed(text: str) -> Any:
    """Return what JSON says: quickly where that is safe, else member by member."""
    try:
        # Without `decode`, whose search for white space around takes half as long as the parsing.
        value, end = _SCAN(text, 0)
    except StopIteration:
        return _DECODER.decode(text)
    if type(value) is dict and end == len(text) and _is_surely_unique(text, len(value)):  # pyright: ignore[reportUnknownArgumentType] - an Any's
        return value  # pyright: ignore[reportUnknownVariableType] - as above
    return _DECODER.decode(text)


def _is_surely_unique(text: str, members: int) -> bool:
    """Tell whether an object holds each member once, as far as counting shows; a no means: look closely.

    Collecting members one by one takes as long as all the rest of parsing. But where there is one brace, and nothing
    stands between a quote and its colon, then each member spelled is one `":` at least: if there are no more of those
    than members kept, none was spelled twice.
    """
    return (
        text.count('":') == members
        and text.count("{") == 1
        and " :" not in text
        and "\n:" not in text
        and "\r:" not in text
        and "\t:" not in text
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _refuse(constant: str) -> float:
    raise ValueError(constant)


_STRICT = (False, False, False)
"""Neither sorted, nor skipping what is no key, nor `NaN`."""
_PLAIN: Any = json.JSONDecoder(parse_constant=_refuse)
_SCAN: Callable[[str, int], tuple[Any, int]] = _PLAIN.scan_once
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
