"""The secrets behind refresh, CSRF, one-time and purpose tokens: one in use, the older ones still honoured.

From each, HKDF (RFC 5869, SHA-256) derives a key per purpose, so that a value made for one never passes for another.
They are apart from the signing keys because ECDSA and PSS sign differently each time, and an asymmetric ring holds
no symmetric key at all.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Literal, NoReturn, TypeAlias

from backendkit.tokens.errors import KeyRefused
from backendkit.tokens.keys import LEAST_DISTINCT_BYTES, Key
from backendkit.tokens.ring import KeyRing

Purpose: TypeAlias = Literal["refresh", "csrf", "one-time", "purpose"]
"""What a derived key is for."""

LEAST_BYTES = 32
"""Of each secret."""


class SecretRing:
    """Secrets by id, the first in use. Never shows them.

    Args:
        secrets: `{id: at least 32 random bytes}`; the first signs, the others verify until they are left out.
            Ids are 1..16 letters, digits, `-` or `_`.
    """

    __slots__ = ("_derived", "active_id")

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        if not secrets:
            raise KeyRefused("a secret ring needs at least one secret")
        for name, secret in secrets.items():
            _check(name, secret)
        self.active_id = next(iter(secrets))
        self._derived = {
            purpose: KeyRing(
                Key.from_secret(hkdf(secret, _INFO[purpose]), "HS256", kid=name)
                for name, secret in secrets.items()
            )
            for purpose in _INFO
        }

    @classmethod
    def generate(cls) -> SecretRing:
        """Return a ring of one new secret, for tests and first runs: what it signs dies with the process."""
        return cls({"s1": secrets.token_bytes(LEAST_BYTES)})

    @classmethod
    def from_text(cls, text: str) -> SecretRing:
        """Read `id:hex` pairs, parted by commas or whitespace, as an environment variable holds them; first in use."""
        pairs: dict[str, bytes] = {}
        for piece in text.replace(",", " ").split():
            name, _, digits = piece.partition(":")
            try:
                secret = bytes.fromhex(digits)
            except ValueError:
                secret = b""
            if not secret or name in pairs:
                raise KeyRefused("secrets are written id:hex, each id once")
            pairs[name] = secret
        return cls(pairs)

    def keys(self, purpose: Purpose) -> KeyRing:
        """Return the derived keys of a purpose, by secret id."""
        return self._derived[purpose]

    def active(self, purpose: Purpose) -> Key:
        """Return the derived key that signs."""
        return self._derived[purpose].keys[0]

    @property
    def ids(self) -> Iterable[str]:
        """The ids, the one in use first."""
        return [key.kid for key in self._derived["refresh"].keys]

    def __repr__(self) -> str:
        return f"SecretRing({list(self.ids)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secret rings do not pickle")


def hkdf(secret: bytes, info: bytes, *, salt: bytes = b"", length: int = 32) -> bytes:
    """Return `length` bytes, at most 8,160, by HKDF with SHA-256 (RFC 5869 section 2)."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    block, out = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        out += block
    return out[:length]


def _check(name: str, secret: bytes) -> None:
    if not (
        0 < len(name) <= 16 and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    ):
        raise KeyRefused("a secret's id must be 1..16 letters, digits, - or _")
    if not isinstance(secret, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a checker
        raise KeyRefused(f"secret {name!r} must be bytes; decode the text that it is stored as")
    if len(secret) < LEAST_BYTES or len(set(secret)) < LEAST_DISTINCT_BYTES:
        raise KeyRefused(f"secret {name!r} must be at least {LEAST_BYTES} random bytes")


_INFO: dict[Purpose, bytes] = {
    "refresh": b"backendkit refresh token v1",
    "csrf": b"backendkit csrf token v1",
    "one-time": b"backendkit one-time token v1",
    "purpose": b"backendkit purpose token v1",
}
