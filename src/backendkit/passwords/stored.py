"""Stored hashes: whose format, what they cost, and how they are checked. Reading one does no work.

Parameters are capped here, before anything is computed: a library that obeys whatever a row says can be kept busy
for minutes by one row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from backendkit.passwords.profiles import Profile

Scheme: TypeAlias = Literal[
    "argon2id", "argon2i", "argon2d", "bcrypt", "bcrypt_sha256", "scrypt", "pbkdf2", "sha512_crypt"
]
"""The families of formats; each covers the spellings of Django, Werkzeug and passlib."""

Check: TypeAlias = Callable[[bytes], bool]
"""Tells whether some bytes are the password; the expensive part."""

LONGEST_STORED = 1_024
"""Characters; no format comes near."""

LARGEST_MEMORY_KIB = 256 << 10
"""What a stored hash may ask for where policy asks for less than a quarter of it."""

LARGEST_ITERATIONS = 64
LARGEST_LANES = 64
LARGEST_BCRYPT = 15
LARGEST_PBKDF2 = 5_000_000
LARGEST_SHA512 = 1_000_000

OVER_THE_CAPS = "cost"
"""Why a hash is refused that asks for too much."""


class Refused(ValueError):
    """A stored hash that is not worked on; `reason` is a short word."""

    def __init__(self, scheme: str, reason: str) -> None:
        super().__init__(reason)
        self.scheme = scheme
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored hash that was read and may be worked on.

    Attributes:
        scheme: its family.
        check: the expensive part.
        memory_kib: what checking takes.
        profile: of argon2; None for the others.
        current: whether it is argon2id of the newest version.
        bytes_limit: the maker used no more of the password than this; None: all.
    """

    scheme: Scheme
    check: Check
    memory_kib: int = 0
    profile: Profile | None = None
    current: bool = False
    bytes_limit: int | None = None

    def __repr__(self) -> str:
        return f"Stored({self.scheme!r})"


def read(stored: str, policy: Profile) -> Stored:
    """Return what a stored hash is.

    Raises:
        Refused: unknown, malformed, or over the caps.
    """
    from backendkit.passwords import argon, legacy  # noqa: PLC0415 - they read this module's names

    if len(stored) > LONGEST_STORED or not stored.isascii():
        raise Refused("unknown", "length")
    text = stored.removeprefix("argon2") if stored.startswith("argon2$argon2") else stored
    if text.startswith("$argon2"):
        return argon.read(text, policy)
    for pattern, reader in legacy.READERS:
        found = pattern.fullmatch(stored)
        if found is not None:
            return reader(found)
    raise Refused("unknown", "format")


def number(
    scheme: str, found: re.Match[str], group: str | int, *, most: int, least: int = 1
) -> int:
    """Return a parameter within its bounds.

    Raises:
        Refused: it is beyond them.
    """
    digits = found[group]
    if not least <= int(digits) <= most:  # few enough digits: the row is capped
        raise Refused(scheme, OVER_THE_CAPS)
    return int(digits)
