"""SHA-512 crypt, as Ulrich Drepper specified it in 2007 (`$6$`); Python 3.13 dropped the module that had it."""

from __future__ import annotations

from hashlib import sha512

_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def sha512_crypt(password: bytes, salt: bytes, rounds: int) -> bytes:
    """Return the 86 characters that follow the salt. 5,000 rounds take a few milliseconds."""
    mixed = sha512(password + salt + password).digest()
    start = sha512(password + salt + _repeat(mixed, len(password)))
    length = len(password)
    while length:
        start.update(mixed if length & 1 else password)
        length >>= 1
    digest = start.digest()
    by_password = _repeat(sha512(password * len(password)).digest(), len(password))
    by_salt = _repeat(sha512(salt * (16 + digest[0])).digest(), len(salt))
    for number in range(rounds):
        text = by_password if number & 1 else digest
        if number % 3:
            text += by_salt
        if number % 7:
            text += by_password
        digest = sha512(text + (digest if number & 1 else by_password)).digest()
    return _encode(digest)


def _repeat(block: bytes, length: int) -> bytes:
    return (block * (length // 64 + 1))[:length]


def _encode(digest: bytes) -> bytes:
    out = bytearray()
    first, second, third = 0, 21, 42
    for _ in range(21):
        out += _four(digest[first] << 16 | digest[second] << 8 | digest[third], 4)
        first, second, third = second + 1, third + 1, first + 1
    return bytes(out + _four(digest[63], 2))


def _four(value: int, count: int) -> bytes:
    return bytes(_ALPHABET[value >> shift & 63] for shift in range(0, 6 * count, 6))
