"""A hash of each legacy scheme at the cost that its makers default to: what the deadline of failures is measured by."""

from __future__ import annotations

from backendkit.core.errors import InvalidArgument
from backendkit.passwords.stored import Scheme

_ZEROS_53 = "." * 21 + "u" + "." * 31
_HEX = "0" * 64

_REPRESENTATIVES: dict[Scheme, str] = {
    "argon2id": "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "argon2i": "$argon2i$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "argon2d": "$argon2d$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "bcrypt": "$2b$12$" + _ZEROS_53,
    "bcrypt_sha256": "bcrypt_sha256$$2b$12$" + _ZEROS_53,
    "scrypt": "scrypt:32768:8:1$salt$" + _HEX,
    "pbkdf2": "pbkdf2_sha256$1000000$salt$" + "A" * 43 + "=",
    "sha512_crypt": "$6$rounds=656000$saltsalt$" + "." * 86,
}


def representative(scheme: Scheme) -> str:
    """Return a hash that no password has, at the dearest default of the scheme's makers.

    Django 5.2: a million rounds of PBKDF2; passlib: 656,000 rounds of SHA-512 crypt; bcrypt: cost 12; Werkzeug:
    scrypt of 32 MiB.
    """
    found = _REPRESENTATIVES.get(scheme)
    if found is None:
        raise InvalidArgument("legacy", f"must be of {', '.join(sorted(_REPRESENTATIVES))}", scheme)
    return found
