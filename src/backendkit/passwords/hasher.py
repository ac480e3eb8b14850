"""Hashing and verifying passwords: `PasswordHasher`, and `hasher.aio` over the same options.

A failed attempt is answered at one deadline, whether there is such a user or not and whatever format the row has:
the time that the policy's hash or a declared legacy hash takes, whichever is longer, reached by waiting. It is known
before the first attempt is looked at, and counts from when an attempt has found room: whoever computes nothing queues
as well. A success is answered as soon as it is known, with a better hash where the stored one is weaker than the policy.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.events import Hooks
from backendkit.core.fork import remake_after_fork
from backendkit.passwords import events
from backendkit.passwords.costs import representative
from backendkit.passwords.executor import HashExecutor
from backendkit.passwords.pepper import PepperRing
from backendkit.passwords.profiles import SERVER, Profile
from backendkit.passwords.stored import OVER_THE_CAPS, Refused, Scheme, Stored, read
from backendkit.passwords.text import candidates, normalised, too_long

FAST_MARK = "$bk-fast-for-tests"
"""What hashes of the fast mode begin with; every other hasher refuses them."""

PEPPERED = "$bk1$k="
"""What hashes with a pepper begin with; its id and the plain encoded hash follow."""

_FAST = Profile(memory_kib=8, iterations=1)
_MEASURED = 3
"""Checks of each scheme by which the deadline is measured."""
_LATEST = 4
"""However busy the machine: no later than so many times the calibrated deadline."""
_REMEMBERED = 32
"""Verifications whose time the deadline looks at, besides the calibrated one: a busy machine is slower for all."""


class Verification(NamedTuple):
    """What came of an attempt.

    Attributes:
        ok: whether the password is right.
        new_hash: to be stored in the old one's place, if it can be; a failure to store it must not fail the login.
    """

    ok: bool
    new_hash: str | None = None

    def __repr__(self) -> str:
        return f"Verification(ok={self.ok}, new_hash={'...' if self.new_hash else None})"


_FAILED = Verification(ok=False)


class Attempt(NamedTuple):
    """What an attempt takes: the expensive part, whether a failure waits for the deadline, its memory, its hashes."""

    work: Callable[[], Verification] | None
    waits: bool
    memory_kib: int
    hashes: int = 1


class PasswordHasher:
    """Hashes and verifies passwords with argon2id; safe to share between threads.

    Args:
        profile: the policy's parameters.
        peppers: secrets outside the database; None: none.
        legacy: the schemes of rows that are not upgraded yet; their failures share the deadline.
        failure_time: the deadline of failures; None: measured when first needed, which takes a few hashes.
        memory_mib: of the asynchronous face, for all hashes together; None: one of the policy's per worker.
        workers: threads of the asynchronous face; None: as many as cores.
        max_pending: how many callers of the asynchronous face may wait for a thread.
        queue_timeout: and for how long.
        clock: measures and waits.
        hooks: told of events.

    `verify` and `hash` block for a hash (at the default about 0.1 s and 64 MiB); `aio` never blocks the loop.
    """

    def __init__(  # noqa: PLR0913 - options, by name only
        self,
        profile: Profile = SERVER,
        *,
        peppers: PepperRing | None = None,
        legacy: Iterable[Scheme] = (),
        failure_time: Duration | None = None,
        memory_mib: int | None = None,
        workers: int | None = None,
        max_pending: int = 64,
        queue_timeout: Duration = 5,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.profile = profile
        self.hooks = hooks or Hooks()
        self._peppers = peppers
        self._legacy = frozenset(legacy)
        self.clock: Clock = clock or SystemClock()
        self._fast = False
        given = None if failure_time is None else checks.duration_us("failure_time", failure_time)
        self._failure_us = given
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        count = checks.whole("workers", workers or os.cpu_count() or 1, least=1, most=1_024)
        budget = count * profile.memory_kib if memory_mib is None else memory_mib << 10
        self.executor = HashExecutor(
            workers=count,
            memory_kib=checks.whole("memory_mib", budget, least=1),
            max_pending=checks.whole("max_pending", max_pending, least=0),
            queue_us=checks.duration_us("queue_timeout", queue_timeout, least_us=0),
            clock=self.clock,
            hooks=self.hooks,
        )
        self._aio = AsyncPasswordHasher(self)
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget the lock: the thread that may have held it is not here."""
        self._measuring = threading.Lock()

    @classmethod
    def fast_for_tests(cls, *, clock: Clock | None = None) -> PasswordHasher:
        """Return a hasher that protects nothing, for test suites: it warns, and other hashers refuse its hashes."""
        warnings.warn("password hashing is in its fast mode: for tests only", stacklevel=2)
        hasher = cls(_FAST, failure_time=0.000_001, clock=clock)
        hasher._fast = True
        return hasher

    @property
    def aio(self) -> AsyncPasswordHasher:
        """The asynchronous face of the same options."""
        return self._aio

    def hash(self, password: str) -> str:
        """Return the string to store for a new password, made of its NFC form, with a fresh salt.

        Raises:
            PasswordRefused: over 1,024 code points or 4,096 bytes, or not encodable.
        """
        secret = normalised(password)
        begun = self.clock.mono_us()
        made = self._make(secret)
        self.hooks.emit(events.PasswordHashed(self.clock.mono_us() - begun))
        return made

    def verify(self, stored: str | None, password: str) -> Verification:
        """Check an attempt.

        Args:
            stored: the stored hash; None: there is no such user, which takes as long and always fails.
            password: the attempt. One that is too long to be anybody's fails at once.

        Never raises for what the row or the attempt holds; a row that cannot be read fails, and tells an event: as
        late as any, for it may be somebody's who has no password; at once where it asks for too much.
        """
        attempt = self.prepare(stored, password)
        if not attempt.waits:
            return _FAILED
        self.failure_us()  # measured now, if it must be: later it would belong to one kind of failure
        begun = self.clock.mono_us()
        result = _FAILED if attempt.work is None else attempt.work()
        if not result.ok:
            self.clock.sleep(self.left_us(begun, attempt))
        return result

    def prepare(self, stored: str | None, password: str) -> Attempt:
        """Return what an attempt takes; does nothing expensive itself."""
        if too_long(password):
            return Attempt(None, waits=False, memory_kib=0)
        # Text that is not in NFC is hashed in both forms, for whoever sends it: so that a failure takes twice as long
        # for everybody, too.
        hashes = len(tuple(candidates(password, own=True)))
        nobody = Attempt(None, waits=True, memory_kib=self.profile.memory_kib, hashes=hashes)
        if stored is None:
            return nobody
        try:
            read_hash, pepper_id = self._read(stored)
        except Refused as refused:
            self.hooks.emit(events.StoredHashRefused(refused.scheme, refused.reason))
            return nobody._replace(waits=refused.reason != OVER_THE_CAPS)
        if read_hash.scheme not in self._legacy and not read_hash.current:
            self.hooks.emit(events.UndeclaredScheme(read_hash.scheme))
        memory = max(read_hash.memory_kib, self.profile.memory_kib)
        return nobody._replace(
            work=lambda: self._attempt(read_hash, pepper_id, password), memory_kib=memory
        )

    def needs_upgrade(self, stored: str) -> bool:
        """Tell whether a stored hash is weaker than policy; a stronger one is never downgraded. Microseconds."""
        try:
            return self._is_weaker(*self._read(stored))
        except Refused:
            return True

    def failure_us(self) -> int:
        """Return how long a failed attempt takes, in microseconds; the first call measures if it was not said."""
        measured = self._failure_us
        if measured is None:
            with self._measuring:
                measured = self._failure_us = self._failure_us or self._measure()
        return min(max((measured, *self._recent.copy())), _LATEST * measured)

    @property
    def measured(self) -> bool:
        """Whether the deadline of failures is known."""
        return self._failure_us is not None

    def close(self) -> None:
        """End the threads of the asynchronous face."""
        self.executor.close()

    def left_us(self, begun_us: int, attempt: Attempt) -> int:
        """Return how much longer a failure has to wait whose turn came at `begun_us`.

        Where the machine is too busy to keep the deadline, what was computed late tells those that compute nothing.
        """
        taken = self.clock.mono_us() - begun_us
        hashes = max(attempt.hashes, 1)  # of text that nothing can encode none is computed
        if attempt.work is not None:
            self._recent.append(taken // hashes)
        return self.failure_us() * hashes - taken

    def _make(self, secret: bytes) -> str:
        from backendkit.passwords import argon  # noqa: PLC0415 - argon2 loads when it is first needed

        prefix = FAST_MARK if self._fast else ""
        if self._peppers is not None:
            name = self._peppers.active_id
            secret = self._peppers.key(secret, name) or b""
            prefix = f"{PEPPERED}{name}"
        return prefix + argon.make(secret, self.profile, os.urandom(self.profile.salt_bytes))

    def _read(self, stored: str) -> tuple[Stored, str | None]:
        if stored.startswith(FAST_MARK) != self._fast:
            raise Refused("argon2id", "fast mode")
        text, pepper_id = stored.removeprefix(FAST_MARK), None
        if text.startswith(PEPPERED):
            pepper_id, _, text = text.removeprefix(PEPPERED).partition("$")
            text = f"${text}"
            if self._peppers is None or self._peppers.key(b"", pepper_id) is None:
                raise Refused("argon2id", "pepper")
        return read(text, self.profile), pepper_id

    def _attempt(self, stored: Stored, pepper_id: str | None, password: str) -> Verification:
        begun = self.clock.mono_us()
        own = stored.current
        right: bytes | None = None
        for candidate in candidates(password, own=own):
            keyed = candidate
            if pepper_id is not None and self._peppers is not None:
                keyed = self._peppers.key(candidate, pepper_id) or b""
            if stored.check(keyed):
                right = candidate
                break
        taken = self.clock.mono_us() - begun
        new = None
        if right is not None and self._is_weaker(stored, pepper_id):
            new = self._make(normalised(password))
        self.hooks.emit(
            events.PasswordVerified(stored.scheme, right is not None, new is not None, taken)
        )
        return Verification(right is not None, new)

    def _is_weaker(self, stored: Stored, pepper_id: str | None) -> bool:
        newest = None if self._peppers is None else self._peppers.active_id
        profile = stored.profile
        if not stored.current or profile is None or pepper_id != newest:
            return True
        return profile.work < self.profile.work or 2 * profile.memory_kib < self.profile.memory_kib

    def _measure(self) -> int:
        """Return the longest that a failed check of policy and declared schemes takes, on this machine, now."""
        longest = 0
        for stored in (self._make(b"x" * 15), *(representative(s) for s in sorted(self._legacy))):
            work = self._read(stored)[0]
            # The longest, not the best: cold memory and busy cores are what the first attempts meet, too.
            for _ in range(_MEASURED):
                begun = self.clock.mono_us()
                work.check(b"another password")
                longest = max(longest, self.clock.mono_us() - begun)
        # With headroom, so that waiting, and not the machine's mood, decides.
        return max(longest + longest // 4, 1)

    def __repr__(self) -> str:
        return f"PasswordHasher({self.profile!r}, peppers={self._peppers!r})"


class AsyncPasswordHasher:
    """The asynchronous face: hashes in threads of its own, bounded in number, memory and queue."""

    __slots__ = ("_hasher",)

    def __init__(self, hasher: PasswordHasher) -> None:
        self._hasher = hasher

    @property
    def sync(self) -> PasswordHasher:
        """The synchronous face of the same options."""
        return self._hasher

    async def hash(self, password: str) -> str:
        """Return the string to store; see `PasswordHasher.hash`.

        Raises:
            Overloaded: 503: no room; in under a millisecond where too many wait already.
        """
        normalised(password)  # refused here, not after the queue
        hasher = self._hasher
        return await hasher.executor.run(lambda: hasher.hash(password), hasher.profile.memory_kib)

    async def verify(self, stored: str | None, password: str) -> Verification:
        """Check an attempt; see `PasswordHasher.verify`.

        Raises:
            Overloaded: 503: no room. Neither true nor false.
        """
        hasher = self._hasher
        attempt = hasher.prepare(stored, password)
        if not attempt.waits:
            return _FAILED
        if not hasher.measured:
            await hasher.executor.run(hasher.failure_us, hasher.profile.memory_kib)

        def timed() -> tuple[int, Verification]:
            begun = hasher.clock.mono_us()
            return begun, _FAILED if attempt.work is None else attempt.work()

        # Whoever computes nothing queues as well: else a full queue, or a long one, would tell who there is.
        begun, result = await hasher.executor.run(timed, attempt.memory_kib)
        if not result.ok:
            await hasher.clock.sleep_async(hasher.left_us(begun, attempt))
        return result

    async def close(self) -> None:
        """End the threads."""
        self._hasher.close()
