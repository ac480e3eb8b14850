"""What each signature algorithm needs of a key (RFC 7518 section 3, RFC 8037, RFC 9864)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["oct", "RSA", "EC", "OKP"]
"""A key's type, as JWK names it."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm.

    Attributes:
        name: as headers spell it.
        kind: the type of key it takes.
        hash: for HMAC: the digest.
        curve: for EC: the curve as JWK names it.
        accepts: the header spellings that a key of this algorithm verifies.
    """

    name: str
    kind: Kind
    hash: Callable[..., Any] | None = None
    curve: str = ""
    accepts: frozenset[str] = frozenset()


_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
_CURVES = {"256": "P-256", "384": "P-384", "512": "P-521"}


def _all() -> dict[str, Algorithm]:
    found: list[Algorithm] = []
    for bits in ("256", "384", "512"):
        found.append(Algorithm(f"HS{bits}", "oct", hash=_HASHES[bits]))
        found.extend(Algorithm(f"{family}{bits}", "RSA") for family in ("RS", "PS"))
        found.append(Algorithm(f"ES{bits}", "EC", curve=_CURVES[bits]))
    both = frozenset({"EdDSA", "Ed25519"})  # RFC 9864 names what RFC 8037 left to the key
    found.extend(Algorithm(name, "OKP", accepts=both) for name in both)
    return {one.name: one for one in found}


ALGORITHMS = _all()
"""By name: HS, RS, PS, ES with 256, 384 and 512 bits, EdDSA and Ed25519."""

BY_CURVE = {
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "Ed25519": "EdDSA",
    "Ed448": "EdDSA",
}
"""The algorithm of a key that names none: its curve leaves one."""

_ROCA_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73,
    79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip


def is_roca(modulus: int) -> bool:
    """Tell whether an RSA modulus bears the fingerprint of CVE-2017-15361: powers of 65537 modulo small primes."""
    for prime in _ROCA_PRIMES:
        powers = {1}
        power = 65537 % prime
        while power not in powers:
            powers.add(power)
            power = power * 65537 % prime
        if modulus % prime not in powers:
            return False
    return True
