"""API keys: `<prefix>_<id 12>_<secret 43>_<checksum 6>`, found by id, told apart from typing errors without a look-up.

At rest there is only the SHA-256 of the secret: with 256 random bits a slow hash would add nothing. The records
belong into the application's database; `ApiKeyRepository` says what is needed of it.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Protocol
from zlib import crc32

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.tokens.errors import InvalidToken, TokenExpired

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"([a-z][a-z0-9]{0,15})_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")

USE_NOTED_EVERY_US = 60 * SECOND_US
"""`used_us` is written at most so often: a key that is used a thousand times a second is one write a minute."""


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """What is stored of a key; times in microseconds since 1970.

    Attributes:
        id: the key's 12 characters, in clear; the look-up key.
        digest: hex SHA-256 of the secret.
        owner: whose it is.
        scopes: what it may be used for.
        created_us: when it was made.
        expires_us: when it ends; None: never.
        used_us: when it was last used, to the minute; None: never.
        name: for its owner.
    """

    id: str
    digest: str = field(repr=False)
    owner: str
    scopes: tuple[str, ...] = ()
    created_us: int = 0
    expires_us: int | None = None
    used_us: int | None = None
    name: str = ""


class ApiKeyRepository(Protocol):
    """What the application's database does for API keys. Called in the caller's thread."""

    def add(self, record: ApiKeyRecord) -> None:
        """Store a new record."""
        ...

    def get(self, key_id: str) -> ApiKeyRecord | None:
        """Return a record, or None."""
        ...

    def update(self, record: ApiKeyRecord) -> None:
        """Store a record in the place of the one with its id; nothing where there is none any more."""
        ...

    def note_use(self, key_id: str, used_us: int) -> None:
        """Change `used_us` of a record and nothing else; nothing where there is none any more.

        In SQL: `UPDATE ... SET used_us = ? WHERE id = ?`. Writing a whole record, read a moment before, would undo a
        revocation or a rotation of that moment.
        """
        ...

    def remove(self, key_id: str) -> bool:
        """Forget a record; tell whether it was there."""
        ...


class MemoryApiKeys:
    """Records in memory, for tests."""

    def __init__(self) -> None:
        self._records: dict[str, ApiKeyRecord] = {}
        self._lock = threading.Lock()

    def add(self, record: ApiKeyRecord) -> None:
        """Store a new record."""
        with self._lock:
            self._records[record.id] = record

    def get(self, key_id: str) -> ApiKeyRecord | None:
        """Return a record, or None."""
        return self._records.get(key_id)

    def update(self, record: ApiKeyRecord) -> None:
        """Store a record in the place of the old one."""
        with self._lock:
            if record.id in self._records:
                self._records[record.id] = record

    def note_use(self, key_id: str, used_us: int) -> None:
        """Change when a record was last used."""
        with self._lock:
            record = self._records.get(key_id)
            if record is not None:
                self._records[key_id] = replace(record, used_us=used_us)

    def remove(self, key_id: str) -> bool:
        """Forget a record."""
        with self._lock:
            return self._records.pop(key_id, None) is not None


class ApiKeys:
    """Makes and verifies API keys.

    Args:
        repository: where the records are.
        prefix: 1..16 lower-case letters and digits: tells scanners for leaked secrets whose keys these are.
        clock: the source of now.
    """

    def __init__(
        self, repository: ApiKeyRepository, *, prefix: str, clock: Clock | None = None
    ) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,15}", prefix):
            raise InvalidArgument("prefix", "must be 1..16 lower-case letters and digits", prefix)
        self._repository = repository
        self._prefix = prefix
        self._clock: Clock = clock or SystemClock()

    def issue(
        self,
        owner: str,
        *,
        scopes: Iterable[str] = (),
        lifetime: Duration | None = None,
        name: str = "",
    ) -> tuple[str, ApiKeyRecord]:
        """Return a new key, which is shown once and never again, and its record."""
        now = self._clock.wall_us()
        life = (
            None
            if lifetime is None
            else checks.duration_us("lifetime", lifetime, least_us=SECOND_US)
        )
        key_id, secret = _draw(12), _draw(43)
        record = ApiKeyRecord(
            key_id, _digest(secret), owner, tuple(scopes), now,
            None if life is None else now + life, name=name,
        )  # fmt: skip
        self._repository.add(record)
        return _spell(self._prefix, key_id, secret), record

    def verify(self, key: str) -> ApiKeyRecord:
        """Return the record of a key. The checksum is looked at before the repository is.

        Raises:
            InvalidToken: not a key of ours, unknown, or another secret.
            TokenExpired: its time is over.
        """
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a checker
            raise InvalidToken("type")
        found = _FORM.fullmatch(key) if len(key) <= 128 else None
        if found is None or found[1] != self._prefix or _checksum(key[:-7]) != found[4]:
            raise InvalidToken("form")
        record = self._repository.get(found[2])
        # Compared even where there is none, so that time tells nobody which ids exist.
        digest = record.digest if record is not None else "0" * 64
        if not hmac.compare_digest(_digest(found[3]), digest) or record is None:
            raise InvalidToken("secret")
        now = self._clock.wall_us()
        if record.expires_us is not None and now >= record.expires_us:
            raise TokenExpired("expired")
        if record.used_us is None or now - record.used_us >= USE_NOTED_EVERY_US:
            self._repository.note_use(record.id, now)
            record = replace(record, used_us=now)
        return record

    async def verify_async(self, key: str) -> ApiKeyRecord:
        """Return the record of a key; the repository is asked in a thread."""
        return await asyncio.to_thread(self.verify, key)

    def rotate(self, key_id: str, *, overlap: Duration = 86_400) -> tuple[str, ApiKeyRecord]:
        """Return a new key with the same owner, scopes, name and lifetime; the old one works on for the overlap.

        Raises:
            InvalidToken: there is no such key.
            TokenExpired: its time is over: it is not revived.
        """
        old = self._repository.get(key_id)
        if old is None:
            raise InvalidToken("unknown")
        now = self._clock.wall_us()
        ends = now + checks.duration_us("overlap", overlap, least_us=0)
        life = None
        if old.expires_us is not None:
            if now >= old.expires_us:
                raise TokenExpired("expired")
            ends, life = min(ends, old.expires_us), old.expires_us - old.created_us
        lifetime = None if life is None else max(life, SECOND_US) / SECOND_US
        made = self.issue(old.owner, scopes=old.scopes, lifetime=lifetime, name=old.name)
        self._repository.update(replace(old, expires_us=ends))
        return made

    def revoke(self, key_id: str) -> bool:
        """End a key at once; tell whether it was there."""
        return self._repository.remove(key_id)


def _draw(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _spell(prefix: str, key_id: str, secret: str) -> str:
    body = f"{prefix}_{key_id}_{secret}"
    return f"{body}_{_checksum(body)}"


def _checksum(body: str) -> str:
    """Return a CRC-32 as six digits of base 62: it catches typing errors, and protects nothing."""
    value, digits = crc32(body.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _DIGITS[digit] + digits
    return digits
