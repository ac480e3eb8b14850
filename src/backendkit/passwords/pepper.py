"""Peppers: secrets outside the database, without which stolen hashes cannot be guessed at.

The password is keyed before it is hashed: HMAC-SHA-256 with the pepper, its digest as base64 text. The stored string
begins with `$bk1$k=<id>`, so that any pepper of the ring verifies and the newest one is asked for.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from typing import NoReturn

from backendkit.core.errors import InvalidArgument

LEAST_BYTES = 32
"""Of each pepper."""


class PepperRing:
    """Peppers by id, the first in use. Never shows them.

    Args:
        peppers: `{id: at least 32 random bytes}`; ids are 1..16 letters, digits, `-` or `_`.
    """

    __slots__ = ("_peppers", "active_id")

    def __init__(self, peppers: Mapping[str, bytes]) -> None:
        if not peppers:
            raise InvalidArgument("peppers", "must not be empty", 0)
        for name, pepper in peppers.items():
            plain = name.replace("-", "").replace("_", "")
            if not (0 < len(name) <= 16 and name.isascii() and plain.isalnum()):
                raise InvalidArgument(
                    "peppers", "must have ids of 1..16 letters, digits, - or _", name
                )
            if not isinstance(pepper, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a checker
                raise InvalidArgument("peppers", "must be bytes, at least 32 bytes each", name)
            if len(pepper) < LEAST_BYTES:
                raise InvalidArgument(
                    "peppers", f"must have at least {LEAST_BYTES} bytes each", name
                )
        self._peppers = dict(peppers)
        self.active_id = next(iter(peppers))

    def key(self, password: bytes, pepper_id: str) -> bytes | None:
        """Return the text that is hashed in the password's place; None: there is no such pepper."""
        pepper = self._peppers.get(pepper_id)
        return None if pepper is None else b64encode(hmac.digest(pepper, password, "sha256"))

    def __repr__(self) -> str:
        return f"PepperRing({list(self._peppers)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("pepper rings do not pickle")
