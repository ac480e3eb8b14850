"""One-time codes of an authenticator app (TOTP, RFC 6238, over HOTP, RFC 4226) and recovery codes.

A code is accepted once: its step must lie above the last accepted one, and that is kept by compare-and-set. Attempts
are counted before they are compared, so that many at once gain nothing. The seed is stored through a hook that
encrypts it; the records belong into the application's database (`FactorRepository`).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import threading
from base64 import b32encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, NoReturn, Protocol
from urllib.parse import quote

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import RateLimited
from backendkit.tokens.errors import AlreadyEnrolled

Digest = Literal["sha1", "sha256", "sha512"]
"""Most authenticator apps know sha1 only; HMAC is sound with it."""

STEP_S = 30
"""RFC 6238 section 5.2; ASVS 5.0 6.5.5 allows no more."""

SEED_BYTES = 20
"""RFC 4226 section 4, R6: 160 bits."""

ATTEMPTS = 5
"""Wrong codes before a pause."""

PAUSE_US = 300 * SECOND_US
"""The pause."""

RETRIES = 64
"""Compare-and-sets that others may come before."""

RECOVERY_CODES = 10
RECOVERY_LENGTH = 24
"""Characters, 118 bits: from 112 on a plain hash will do at rest (ASVS 5.0 6.5.2)."""

_RECOVERY_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def hotp(seed: bytes, counter: int, *, digits: int = 6, digest: Digest = "sha1") -> str:
    """Return the code of a counter (RFC 4226 section 5.3)."""
    mac = hmac.digest(seed, counter.to_bytes(8, "big"), digest)
    offset = mac[-1] & 15
    value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(value % 10**digits).zfill(digits)


def totp(seed: bytes, now_s: int, *, digits: int = 6, digest: Digest = "sha1") -> str:
    """Return the code of a time in seconds since 1970 (RFC 6238 section 4.2)."""
    return hotp(seed, now_s // STEP_S, digits=digits, digest=digest)


@dataclass(frozen=True, slots=True)
class Factor:
    """What is stored of a user's second factor.

    Attributes:
        user: whose.
        seed: as the encryption hook made it.
        confirmed: whether the user has shown a code yet.
        last_step: the step of the last accepted code.
        attempts: wrong ones since the last right one.
        paused_until_us: no attempt is looked at before.
        recovery: SHA-256 of the recovery codes that are left, hex.
        version: raised at each write; what compare-and-set compares.
    """

    user: str
    seed: bytes = field(repr=False)
    confirmed: bool = False
    last_step: int = -1
    attempts: int = 0
    paused_until_us: int = 0
    recovery: frozenset[str] = field(default=frozenset(), repr=False)
    version: int = 0


class FactorRepository(Protocol):
    """What the application's database does for second factors."""

    def get(self, user: str) -> Factor | None:
        """Return a user's factor, or None."""
        ...

    def put(self, factor: Factor, *, if_version: int | None) -> bool:
        """Store a factor if the stored one has this version (None: if there is none, or whatever is there).

        In SQL: `UPDATE ... WHERE user = ? AND version = ?`, and whether it changed a row.
        """
        ...

    def remove(self, user: str) -> bool:
        """Forget a user's factor; tell whether it was there."""
        ...


class MemoryFactors:
    """Factors in memory, for tests."""

    def __init__(self) -> None:
        self._factors: dict[str, Factor] = {}
        self._lock = threading.Lock()

    def get(self, user: str) -> Factor | None:
        """Return a user's factor, or None."""
        return self._factors.get(user)

    def put(self, factor: Factor, *, if_version: int | None) -> bool:
        """Store a factor, compare-and-set."""
        with self._lock:
            old = self._factors.get(factor.user)
            if if_version is not None and (old is None or old.version != if_version):
                return False
            self._factors[factor.user] = factor
            return True

    def remove(self, user: str) -> bool:
        """Forget a user's factor."""
        with self._lock:
            return self._factors.pop(user, None) is not None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a user is shown once: the link for the app, and the recovery codes."""

    uri: str = field(repr=False)
    recovery_codes: tuple[str, ...] = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("enrolments do not pickle: show them to their user")


class SecondFactor:
    """Enrols and checks TOTP codes and recovery codes.

    Args:
        repository: where the factors are.
        issuer: shown in the app.
        encrypt: makes of a seed what is stored.
        decrypt: makes it a seed again.
        window: steps before and after now that are accepted, 0..2.
        clock: the source of now: the server's, never the client's (ASVS 5.0 6.5.8).
    """

    def __init__(
        self,
        repository: FactorRepository,
        *,
        issuer: str,
        encrypt: Callable[[bytes], bytes] = bytes,
        decrypt: Callable[[bytes], bytes] = bytes,
        window: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self._repository = repository
        self._issuer = issuer
        self._encrypt = encrypt
        self._decrypt = decrypt
        self._window = checks.whole("window", window, most=2)
        self._clock: Clock = clock or SystemClock()

    def enrol(self, user: str, *, label: str = "", replace: bool = False) -> Enrolment:
        """Draw a seed and recovery codes; the factor counts once `verify` has seen a code of it.

        Args:
            user: whose.
            label: what apps show beside the issuer; empty: the user.
            replace: whether a confirmed factor gives way. Until the new one is confirmed the user has none: demand
                a fresh login and a code of the old one first.

        Raises:
            AlreadyEnrolled: there is a confirmed factor, and `replace` is false.
        """
        if not replace and self.is_enrolled(user):
            raise AlreadyEnrolled
        seed = secrets.token_bytes(SEED_BYTES)
        codes = tuple(_recovery_code() for _ in range(RECOVERY_CODES))
        factor = Factor(user, self._encrypt(seed), recovery=frozenset(map(_digest, codes)))
        self._repository.put(factor, if_version=None)
        name = quote(f"{self._issuer}:{label or user}", safe="")
        secret = b32encode(seed).decode().rstrip("=")
        uri = f"otpauth://totp/{name}?secret={secret}&issuer={quote(self._issuer, safe='')}"
        return Enrolment(uri, codes)

    def is_enrolled(self, user: str) -> bool:
        """Tell whether a user has a confirmed factor."""
        factor = self._repository.get(user)
        return factor is not None and factor.confirmed

    def verify(self, user: str, code: str) -> bool:
        """Tell whether a code is right, and was not used before; of two at the same moment one is.

        Raises:
            RateLimited: 429: too many wrong ones; `retry_after` says how long the pause is.
        """
        counted = self._count(user)
        step = None if counted is None else self._step_of(counted, code)
        if step is None:
            return False

        def accept(factor: Factor) -> Factor | None:
            return (
                replace(factor, confirmed=True, last_step=step) if step > factor.last_step else None
            )

        return self._accept(user, accept)

    def recover(self, user: str, code: str) -> bool:
        """Tell whether a recovery code is right, and spend it.

        Raises:
            RateLimited: 429.
        """
        counted = self._count(user)
        digest = _digest(code)
        if counted is None or not counted.confirmed:
            return False

        def accept(factor: Factor) -> Factor | None:
            left = factor.recovery - {digest}
            return replace(factor, recovery=left) if left != factor.recovery else None

        return self._accept(user, accept)

    async def verify_async(self, user: str, code: str) -> bool:
        """Tell whether a code is right; the repository is asked in a thread."""
        return await asyncio.to_thread(self.verify, user, code)

    async def recover_async(self, user: str, code: str) -> bool:
        """Spend a recovery code; the repository is asked in a thread."""
        return await asyncio.to_thread(self.recover, user, code)

    def remove(self, user: str) -> bool:
        """Forget a user's factor."""
        return self._repository.remove(user)

    def _count(self, user: str) -> Factor | None:
        """Count an attempt before it is compared; None: there is no factor.

        Raises:
            RateLimited: the pause has begun.
        """
        for _ in range(RETRIES):
            factor = self._repository.get(user)
            if factor is None:
                return None
            now = self._clock.wall_us()
            if now < factor.paused_until_us:
                left = (factor.paused_until_us - now) / SECOND_US
                raise RateLimited("too many codes", retry_after=left)
            attempts = factor.attempts + 1
            if attempts >= ATTEMPTS:
                counted = replace(factor, attempts=0, paused_until_us=now + PAUSE_US)
            else:
                counted = replace(factor, attempts=attempts)
            if self._put(factor, counted):
                return counted
        raise RateLimited("too many codes at once", retry_after=1)

    def _accept(self, user: str, change: Callable[[Factor], Factor | None]) -> bool:
        """Write what a right code changes, and end the count; False: somebody else has used it meanwhile."""
        for _ in range(RETRIES):
            factor = self._repository.get(user)
            changed = None if factor is None else change(factor)
            if factor is None or changed is None:
                return False
            if self._put(factor, replace(changed, attempts=0, paused_until_us=0)):
                return True
        return False

    def _put(self, old: Factor, new: Factor) -> bool:
        return self._repository.put(replace(new, version=old.version + 1), if_version=old.version)

    def _step_of(self, factor: Factor, code: str) -> int | None:
        """Return the step that a code belongs to, if it lies above the last accepted one."""
        plain = code.replace(" ", "")
        if not (len(plain) == 6 and plain.isascii() and plain.isdigit()):
            return None
        seed = self._decrypt(factor.seed)
        now = self._clock.wall_us() // SECOND_US // STEP_S
        found = None
        for step in range(now - self._window, now + self._window + 1):
            if (
                step >= 0
                and hmac.compare_digest(hotp(seed, step), plain)
                and step > factor.last_step
            ):
                found = step
        return found


def _recovery_code() -> str:
    drawn = "".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(RECOVERY_LENGTH))
    return "-".join(drawn[i : i + 4] for i in range(0, RECOVERY_LENGTH, 4))


def _digest(code: str) -> str:
    plain = "".join(c for c in code.lower() if c in _RECOVERY_ALPHABET)
    return sha256(plain.encode()).hexdigest()
