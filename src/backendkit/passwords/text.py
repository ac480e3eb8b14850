"""What of a password is hashed: its length capped before anything touches it, its form NFC (RFC 8265)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from backendkit.passwords.errors import PasswordRefused

LONGEST_POINTS = 1_024
"""Code points; NIST SP 800-63B-4 wants at least 64 allowed."""

LONGEST_BYTES = 4_096
"""UTF-8 bytes: normalising a megabyte of combining marks takes 49 ms."""


def too_long(password: str) -> bool:
    """Tell whether a password is over the caps; the cost does not grow with its length."""
    if len(password) > LONGEST_POINTS:
        return True
    return (
        len(password) * 4 > LONGEST_BYTES
        and len(password.encode("utf-8", "replace")) > LONGEST_BYTES
    )


def normalised(password: str) -> bytes:
    """Return the bytes of a new password: its NFC form in UTF-8. Never shortened.

    Raises:
        PasswordRefused: over the caps, or with lone surrogates, which no client can send twice alike.
    """
    if too_long(password):
        limit = {
            "field": "password",
            "issue": f"must be at most {LONGEST_POINTS} characters",
            "code": "too_long",
        }
        raise PasswordRefused("too long", details=[limit])
    data = _encoded(unicodedata.normalize("NFC", password))
    if data is None:
        line = {"field": "password", "issue": "must be valid text", "code": "not_text"}
        raise PasswordRefused("not encodable", details=[line])
    return data


def candidates(password: str, *, own: bool) -> Iterator[bytes]:
    """Yield what a stored hash may have been made of.

    Args:
        password: the attempt, within the caps.
        own: whether the hash is probably ours, made of the NFC form; others hashed what they were given.
    """
    given, composed = _encoded(password), _encoded(unicodedata.normalize("NFC", password))
    first, second = (composed, given) if own else (given, composed)
    if first is not None:
        yield first
    if second is not None and second != first:
        yield second


def _encoded(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None
