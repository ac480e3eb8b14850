"""Compact JWS, strictly (RFC 7515, RFC 8725): three canonical segments, a known key, that key's algorithm, a signature.

Knows no claims. Refused always: `none`, JSON serialisation, detached or unencoded payloads, `crit`, padding, a
member twice, anything over the caps. Keys come from the ring alone: `jwk`, `jku`, `x5u` and `x5c` are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from backendkit.tokens.encoding import decode, dump, encode, load_object
from backendkit.tokens.errors import InvalidToken
from backendkit.tokens.keys import Key
from backendkit.tokens.ring import KeyRing, Snapshot

LONGEST_TOKEN = 8_192
"""Characters of a token; longer ones are refused at the same cost however long."""

LONGEST_HEADER = 1_024
"""Bytes of a decoded header."""

_LONGEST_HEADER_SEGMENT = (LONGEST_HEADER * 4 + 2) // 3
_REFUSED_MEMBERS = frozenset({"crit", "b64"})


class Jws(NamedTuple):
    """A token whose signature is good: nothing is known of what its payload means."""

    header: Mapping[str, Any]
    payload: bytes
    key: Key


Parts: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""A token cut up, nothing checked: header, payload, signature, and what was signed."""


def split(token: str | bytes) -> Parts:
    """Cut a token into its segments.

    Raises:
        InvalidToken: too long, not ASCII, or not three non-empty segments.
    """
    if not isinstance(token, (str, bytes)):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a checker
        raise InvalidToken("type")
    if len(token) > LONGEST_TOKEN:
        raise InvalidToken("length")
    return split_text(token) if isinstance(token, str) else split_bytes(token)


def split_text(token: str) -> Parts:
    """Cut up a text that is no longer than a token may be; see `split`."""
    try:
        raw = token.encode("ascii")
    except UnicodeEncodeError:
        raise InvalidToken("alphabet") from None
    return split_bytes(raw)


def split_bytes(raw: bytes) -> Parts:
    """Cut up bytes that are no longer than a token may be; see `split`."""
    first, last = raw.find(b"."), raw.rfind(b".")
    if first <= 0 or last == first or last == first + 1 or last + 1 == len(raw):
        raise InvalidToken("segments")
    payload = raw[first + 1 : last]
    if b"." in payload:
        raise InvalidToken("segments")
    return raw[:first], payload, raw[last + 1 :], raw[:last]


def find_key(segment: bytes, snapshot: Snapshot) -> tuple[dict[str, Any], Key]:
    """Return a header and the key it names.

    Raises:
        InvalidToken: the header is not as it should be, or names no key of the ring, or another algorithm.
    """
    header = read_header(segment)
    kid = header.get("kid")
    key = (
        snapshot.sole
        if "kid" not in header
        else snapshot.by_kid.get(kid)
        if isinstance(kid, str)
        else None
    )
    if key is None:
        raise InvalidToken("kid")
    alg = header.get("alg")
    if not isinstance(alg, str) or not key.accepts(alg):
        raise InvalidToken("alg")
    return header, key


def read_header(segment: bytes) -> dict[str, Any]:
    """Return a header's members, refusing those that must not be there."""
    if len(segment) > _LONGEST_HEADER_SEGMENT:
        raise InvalidToken("header length")
    try:
        header = load_object(decode(segment))
    except ValueError:
        raise InvalidToken("header") from None
    if not _REFUSED_MEMBERS.isdisjoint(header):
        raise InvalidToken("header member")
    return header


def verify(token: str | bytes, ring: KeyRing, *, now_us: int | None = None) -> Jws:
    """Return header, payload and key of a token that one of the ring's keys has signed.

    A token without `kid` is tried against the ring's only key; a ring of several needs one.

    Args:
        token: compact serialisation, at most 8 KiB.
        ring: the keys.
        now_us: refuses keys whose life has ended by then; None: not looked at.

    Raises:
        InvalidToken: for whatever reason; nothing else is ever raised.
    """
    head, payload, signature, signed = split(token)
    header, key = find_key(head, ring.snapshot)
    if now_us is not None and key.until_us is not None and now_us >= key.until_us:
        raise InvalidToken("key ended")
    if not key.check(signed, signature):
        raise InvalidToken("signature")
    return Jws(header, payload_of(payload), key)


def payload_of(segment: bytes) -> bytes:
    """Return a token's decoded payload, refusing any spelling but the canonical."""
    try:
        return decode(segment)
    except ValueError:
        raise InvalidToken("payload encoding") from None


def header_segment(key: Key, typ: str | None = None) -> bytes:
    """Return the encoded header that tokens of a key carry."""
    header = (
        {"alg": key.alg, "kid": key.kid}
        if typ is None
        else {"alg": key.alg, "typ": typ, "kid": key.kid}
    )
    return encode(dump(header))


def sign(payload: bytes, key: Key, *, typ: str | None = None) -> str:
    """Return a compact JWS of `payload`; the header is `alg`, `typ` where given, and `kid`."""
    return sign_with(header_segment(key, typ), payload, key)


def sign_with(header: bytes, payload: bytes, key: Key) -> str:
    """Return a compact JWS with a header made before."""
    signed = header + b"." + encode(payload)
    return (signed + b"." + encode(key.sign(signed))).decode()
