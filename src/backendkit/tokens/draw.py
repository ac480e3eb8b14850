"""Drawing new key material, by algorithm."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


def _draw(length: int) -> Callable[[], bytes]:
    return lambda: secrets.token_bytes(length)


MAKERS: dict[str, Callable[[], object]] = {
    **{f"HS{bits}": _draw(bits // 8) for bits in (256, 384, 512)},
    **{
        f"{family}{bits}": lambda: rsa.generate_private_key(65537, 3072)
        for family in ("RS", "PS")
        for bits in (256, 384, 512)
    },
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}
"""What draws a key for an algorithm; RSA draws 3,072 bits (NIST SP 800-57: good beyond 2030)."""
