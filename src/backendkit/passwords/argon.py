"""Argon2 (RFC 9106) through argon2-cffi's low level: hashing, and reading stored hashes without obeying them blindly."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from argon2.exceptions import VerificationError
from argon2.low_level import Type, hash_secret, verify_secret

from backendkit.passwords.profiles import Profile
from backendkit.passwords.stored import (
    LARGEST_ITERATIONS,
    LARGEST_LANES,
    LARGEST_MEMORY_KIB,
    OVER_THE_CAPS,
    Refused,
    Stored,
    number,
)

if TYPE_CHECKING:
    from backendkit.passwords.stored import Scheme

_VERSION = 19
"""1.3, RFC 9106's; the older 1.0 was weaker."""

_PATTERN = re.compile(
    r"\$(argon2(?:id|i|d))(?:\$v=(\d+))?\$m=(\d+),t=(\d+),p=(\d+)"
    r"\$([A-Za-z0-9+/]{8,128})\$([A-Za-z0-9+/]{6,172})"
)
_TYPES: dict[str, tuple[Type, Scheme]] = {
    "argon2id": (Type.ID, "argon2id"),
    "argon2i": (Type.I, "argon2i"),
    "argon2d": (Type.D, "argon2d"),
}


def make(secret: bytes, profile: Profile, salt: bytes) -> str:
    """Return the encoded argon2id hash. Blocks for as long as the profile takes; releases the interpreter's lock."""
    return hash_secret(
        secret, salt, profile.iterations, profile.memory_kib, profile.parallelism,
        profile.hash_bytes, Type.ID,
    ).decode()  # fmt: skip


def read(text: str, policy: Profile) -> Stored:
    """Return what an encoded argon2 hash is; see `stored.read`."""
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise Refused("argon2", "format")
    kind, scheme = _TYPES[found[1]]
    version = int((found[2] or "16")[:4])
    most_kib = max(4 * policy.memory_kib, LARGEST_MEMORY_KIB)
    lanes = number(scheme, found, 5, most=LARGEST_LANES)
    memory = number(scheme, found, 3, most=most_kib, least=8 * lanes)
    passes = number(scheme, found, 4, most=max(4 * policy.iterations, LARGEST_ITERATIONS))
    if memory * passes > 4 * max(policy.work, LARGEST_MEMORY_KIB * 4):
        raise Refused(scheme, OVER_THE_CAPS)
    profile = Profile(memory_kib=memory, iterations=passes, parallelism=lanes)
    return Stored(
        scheme,
        _checker(text.encode(), kind),
        memory_kib=memory,
        profile=profile,
        current=scheme == "argon2id" and version == _VERSION,
    )


def _checker(encoded: bytes, kind: Type) -> Callable[[bytes], bool]:
    def check(password: bytes) -> bool:
        try:
            return verify_secret(encoded, password, kind)
        except VerificationError:
            return False

    return check
