"""The formats that applications come from: Django, Werkzeug, passlib, crypt(3). Verified, never made.

Each reader takes a matched pattern and returns what can be checked; parameters are capped before any work.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable

from backendkit.core.errors import MissingExtra
from backendkit.passwords.sha512_crypt import sha512_crypt
from backendkit.passwords.stored import (
    LARGEST_BCRYPT,
    LARGEST_MEMORY_KIB,
    LARGEST_PBKDF2,
    LARGEST_SHA512,
    OVER_THE_CAPS,
    Refused,
    Stored,
    number,
)

BCRYPT_BYTES = 72
"""bcrypt uses no more of a password."""

_BCRYPT = r"(?P<mcf>\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53})"
_SALT = r"(?P<salt>[^$]{1,128})"
_B64 = r"(?P<b64>[A-Za-z0-9+/]{16,128}={0,2})"
_AB64 = r"\$(?P<salt>[A-Za-z0-9./+]{0,128})\$(?P<b64>[A-Za-z0-9./+]{16,128})"
_HEX = r"(?P<hex>[0-9a-f]{32,128})"


def _bcrypt(found: re.Match[str]) -> Stored:
    return _with_bcrypt(
        found, "bcrypt", found["mcf"].encode(), lambda password: password[:BCRYPT_BYTES]
    )


def _django_bcrypt_sha256(found: re.Match[str]) -> Stored:
    def prehash(password: bytes) -> bytes:
        return hashlib.sha256(password).hexdigest().encode()

    return _with_bcrypt(found, "bcrypt_sha256", found["mcf"].encode(), prehash)


def _passlib_bcrypt_sha256(found: re.Match[str]) -> Stored:
    salt = found["salt"].encode()

    def first(password: bytes) -> bytes:
        return b64encode(hashlib.sha256(password).digest())

    def second(password: bytes) -> bytes:
        return b64encode(hmac.digest(salt, password, "sha256"))

    mcf = f"${found['type']}${found['cost']:0>2}${found['salt']}{found['digest']}".encode()
    return _with_bcrypt(found, "bcrypt_sha256", mcf, second if found["v2"] else first)


def _with_bcrypt(
    found: re.Match[str], scheme: str, mcf: bytes, prehash: Callable[[bytes], bytes]
) -> Stored:
    number(scheme, found, "cost", most=LARGEST_BCRYPT, least=4)

    def check(password: bytes) -> bool:
        try:
            import bcrypt  # noqa: PLC0415 - an extra, only needed where such rows are
        except ModuleNotFoundError:
            raise MissingExtra("verifying bcrypt hashes", "bcrypt", "bcrypt") from None
        try:
            return bcrypt.checkpw(prehash(password), mcf)
        except ValueError:  # a salt that decodes to no valid setting
            return False

    limit = BCRYPT_BYTES if scheme == "bcrypt" else None
    return Stored("bcrypt" if limit else "bcrypt_sha256", check, memory_kib=4, bytes_limit=limit)


def _pbkdf2(found: re.Match[str]) -> Stored:
    """Django: `pbkdf2_sha256$rounds$salt$base64`."""
    return _with_pbkdf2(found, found["salt"].encode(), _from_base64("pbkdf2", found["b64"]))


def _werkzeug_pbkdf2(found: re.Match[str]) -> Stored:
    return _with_pbkdf2(found, found["salt"].encode(), bytes.fromhex(found["hex"]))


def _passlib_pbkdf2(found: re.Match[str]) -> Stored:
    salt = _from_base64("pbkdf2", found["salt"].replace(".", "+"))
    return _with_pbkdf2(found, salt, _from_base64("pbkdf2", found["b64"].replace(".", "+")))


def _with_pbkdf2(found: re.Match[str], salt: bytes, digest: bytes) -> Stored:
    rounds = number("pbkdf2", found, "rounds", most=LARGEST_PBKDF2)
    name = found["hash"] or "sha1"

    def check(password: bytes) -> bool:
        return hmac.compare_digest(
            hashlib.pbkdf2_hmac(name, password, salt, rounds, len(digest)), digest
        )

    return Stored("pbkdf2", check)


def _django_scrypt(found: re.Match[str]) -> Stored:
    return _with_scrypt(found, found["salt"].encode(), _from_base64("scrypt", found["b64"]))


def _werkzeug_scrypt(found: re.Match[str]) -> Stored:
    return _with_scrypt(found, found["salt"].encode(), bytes.fromhex(found["hex"]))


def _passlib_scrypt(found: re.Match[str]) -> Stored:
    power = number("scrypt", found, "ln", most=24)
    salt = _from_base64("scrypt", found["salt"].replace(".", "+"))
    return _with_scrypt(
        found, salt, _from_base64("scrypt", found["b64"].replace(".", "+")), 1 << power
    )


def _with_scrypt(found: re.Match[str], salt: bytes, digest: bytes, cost: int = 0) -> Stored:
    cost = cost or number("scrypt", found, "n", most=1 << 24, least=2)
    block = number("scrypt", found, "r", most=64)
    lanes = number("scrypt", found, "p", most=16)
    memory = 128 * cost * block
    if (
        cost & (cost - 1)
        or memory > LARGEST_MEMORY_KIB << 10
        or memory * lanes > LARGEST_MEMORY_KIB << 12
    ):
        raise Refused("scrypt", OVER_THE_CAPS)

    def check(password: bytes) -> bool:
        made = hashlib.scrypt(
            password,
            salt=salt,
            n=cost,
            r=block,
            p=lanes,
            maxmem=memory + (4 << 20),
            dklen=len(digest),
        )
        return hmac.compare_digest(made, digest)

    return Stored("scrypt", check, memory_kib=memory >> 10)


def _sha512(found: re.Match[str]) -> Stored:
    rounds = 5_000
    if found["rounds"] is not None:
        rounds = number("sha512_crypt", found, "rounds", most=LARGEST_SHA512, least=1_000)
    salt, digest = found["salt"].encode(), found["digest"].encode()

    def check(password: bytes) -> bool:
        return hmac.compare_digest(sha512_crypt(password, salt, rounds), digest)

    return Stored("sha512_crypt", check)


def _from_base64(scheme: str, text: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except Error:
        raise Refused(scheme, "format") from None


def _compiled(
    *rows: tuple[str, Callable[[re.Match[str]], Stored]],
) -> tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Stored]], ...]:
    return tuple((re.compile(pattern), reader) for pattern, reader in rows)


READERS = _compiled(
    (r"(?:bcrypt\$)?" + _BCRYPT, _bcrypt),
    (r"bcrypt_sha256\$" + _BCRYPT, _django_bcrypt_sha256),
    (
        (
            r"\$bcrypt-sha256\$(?:(?P<v2>v=2,t=)(?P<type>2b),r=(?P<cost>\d{1,2}))"
            r"\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _passlib_bcrypt_sha256,
    ),
    (
        (
            r"\$bcrypt-sha256\$(?P<v2>\b\B)?(?P<type>2[aby]),(?P<cost>\d\d)"
            r"\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})"
        ),
        _passlib_bcrypt_sha256,
    ),
    (r"pbkdf2_(?P<hash>sha1|sha256)\$(?P<rounds>\d+)\$" + _SALT + r"\$" + _B64, _pbkdf2),
    (
        r"pbkdf2:(?P<hash>sha1|sha256|sha512):(?P<rounds>\d+)\$" + _SALT + r"\$" + _HEX,
        _werkzeug_pbkdf2,
    ),
    (r"\$pbkdf2(?:-(?P<hash>sha1|sha256|sha512))?\$(?P<rounds>\d+)" + _AB64, _passlib_pbkdf2),
    (
        r"scrypt\$(?P<n>\d+)\$" + _SALT + r"\$(?P<r>\d+)\$(?P<p>\d+)\$" + _B64,
        _django_scrypt,
    ),
    (r"scrypt:(?P<n>\d+):(?P<r>\d+):(?P<p>\d+)\$" + _SALT + r"\$" + _HEX, _werkzeug_scrypt),
    (r"\$scrypt\$ln=(?P<ln>\d+),r=(?P<r>\d+),p=(?P<p>\d+)" + _AB64, _passlib_scrypt),
    (
        r"\$6\$(?:rounds=(?P<rounds>\d+)\$)?(?P<salt>[^$]{0,16})\$(?P<digest>[./A-Za-z0-9]{86})",
        _sha512,
    ),
)
"""Patterns and their readers, the first that fits."""
