"""Sealing: what is stored in Redis is read and believed only by who has the key, and only where it was written.

AES-256-GCM, and nothing else: an algorithm that the stored bytes could choose would be chosen by an attacker. Each
value is sealed with a key of its own, derived from the ring's by HKDF-Expand (RFC 5869 section 2.3) and 16 random
bytes; with one key for all, random nonces of 96 bits would be safe for 2**32 values only (NIST SP 800-38D section
8.3), which a busy cache writes in days.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backendkit.cache.errors import Corrupt
from backendkit.core.errors import InvalidArgument

KEY_BYTES = 32
"""Of each key, at least."""

SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16


class SealKeys:
    """Keys by id: the first seals, all open. Never shows them. Safe to share between threads.

    Args:
        keys: `{id: at least 32 random bytes}`; ids are 1..16 letters, digits, `-` or `_`. To rotate, deploy the new one
            behind the old one first, then before it, then without the old.

    Raises:
        InvalidArgument: naming the rule and the id.
    """

    __slots__ = ("_active", "_keys")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise InvalidArgument("keys", "must have at least one key", 0)
        for name, key in keys.items():
            _check(name, key)
        self._keys = {name.encode(): bytes(key) for name, key in keys.items()}
        self._active = next(iter(self._keys))

    @classmethod
    def generate(cls) -> SealKeys:
        """Return one new key, for tests and first runs: what it seals, no other process opens."""
        return cls({"k1": secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def from_text(cls, text: str) -> SealKeys:
        """Read `id:hex` pairs, parted by commas or whitespace, as an environment variable holds them; the first seals."""
        pairs: dict[str, bytes] = {}
        for piece in text.replace(",", " ").split():
            name, _, digits = piece.partition(":")
            try:
                key = bytes.fromhex(digits)
            except ValueError:
                key = b""
            if not key or name in pairs:
                raise InvalidArgument("keys", "must be written id:hex, each id once", "...")
            pairs[name] = key
        return cls(pairs)

    def seal(self, data: bytes, about: bytes) -> bytes:
        """Return `data` sealed by the first key, together with `about`, which is not stored.

        Cost: about 5 us, and 1 us for each 2 KiB.
        """
        salt = secrets.token_bytes(SALT_BYTES + NONCE_BYTES)
        cipher = _cipher(self._keys[self._active], salt)
        head = bytes([len(self._active)]) + self._active + salt
        return head + cipher.encrypt(salt[SALT_BYTES:], data, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Return what was sealed together with the same `about`.

        Raises:
            Corrupt: it was not; or by a key that is not here.
        """
        start = 1 + (sealed[0] if sealed else 0)
        key = self._keys.get(sealed[1:start])
        end = start + SALT_BYTES + NONCE_BYTES
        if key is None or len(sealed) < end + TAG_BYTES:
            raise Corrupt("sealed by a key that is not here")
        salt = sealed[start:end]
        try:
            return _cipher(key, salt).decrypt(salt[SALT_BYTES:], sealed[end:], about)
        except InvalidTag:
            raise Corrupt("the seal is broken, or was made for another key") from None

    def __repr__(self) -> str:
        return f"SealKeys({[name.decode() for name in self._keys]!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("seal keys do not pickle")


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, b"backendkit cache v1" + salt[:SALT_BYTES] + b"\x01", "sha256"))


def _check(name: str, key: bytes) -> None:
    plain = name.replace("-", "").replace("_", "")
    if not (1 <= len(name) <= 16 and name.isascii() and (plain.isalnum() or not plain)):
        rule = "must have ids of 1..16 letters, digits, - or _"
        raise InvalidArgument("keys", rule, "...")  # it may be a key that was written in its place
    if len(key) < KEY_BYTES or len(set(key)) < 8:
        rule = f"must each be at least {KEY_BYTES} random bytes"
        raise InvalidArgument("keys", rule, f"{len(key)} bytes under {name!r}")
