"""Signed claims of one issuer, ours or another's: JWS, type and claims, checked in the cheapest safe order.

Length, header, signature, JSON, claims. Two bounded memories keep the common case quick, and both are filled only
after a token has passed: headers that were seen are not read again, and tokens under asymmetric keys are not checked
again, where the checking costs forty times the remembering.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Protocol

from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.tokens import jws
from backendkit.tokens.claims import LEEWAY_S, Expected, audiences, frozen
from backendkit.tokens.encoding import decode, load_object
from backendkit.tokens.errors import InvalidToken, TokenExpired
from backendkit.tokens.keys import Key
from backendkit.tokens.recent import Recent
from backendkit.tokens.ring import Snapshot

REMEMBERED_TOKENS = 2_048
"""Verified tokens kept at least, twice that at most; about a kilobyte each."""

REMEMBERED_HEADERS = 64
"""Headers kept at least: one per key and type is the rule."""


class Keys(Protocol):
    """Where a verifier finds keys: a `KeyRing`, or a remote key set's latest state."""

    @property
    def snapshot(self) -> Snapshot:
        """The keys as they are now; another object after each change."""
        ...


class _Passed:
    """A token that has passed, and how long that holds."""

    __slots__ = ("begins", "claims", "expires", "key", "snapshot")

    def __init__(
        self, claims: Mapping[str, Any], expires: float, begins: float, key: Key, snapshot: Snapshot
    ) -> None:
        self.claims = claims
        self.expires = expires
        self.begins = begins
        self.key = key
        self.snapshot = snapshot


class Verifier:
    """Checks tokens of one issuer.

    Args:
        keys: of the issuer.
        issuer: what `iss` must be, exactly; None: not looked at.
        audience: what `aud` must hold one of; None: not looked at.
        typ: what the header's `typ` must be, whatever its case and with or without `application/`; None: anything.
        typ_optional: whether `typ` may be absent, as with the many issuers that leave it out.
        require: claims that must be there.
        remember: verified tokens to keep, for asymmetric keys; 0: none.
        clock: the source of now.

    Safe to share between threads. Verifying does no I/O.
    """

    __slots__ = (
        "_clock",
        "_expected",
        "_headers",
        "_keys",
        "_passed",
        "_typ",
        "_typ_optional",
    )

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str | None,
        audience: str | Iterable[str] | None,
        typ: str | None = None,
        typ_optional: bool = False,
        require: Iterable[str] = ("iss", "sub", "exp"),
        remember: int = REMEMBERED_TOKENS,
        clock: Clock | None = None,
    ) -> None:
        self._keys = keys
        self._expected = Expected(issuer, audiences(audience), frozenset(require))
        self._typ = None if typ is None else _plain_type(typ)
        self._typ_optional = typ_optional
        self._clock: Clock = clock or SystemClock()
        self._headers: Recent[bytes, tuple[Key, Snapshot]] = Recent(REMEMBERED_HEADERS)
        self._passed: Recent[bytes, _Passed] | None = Recent(remember) if remember else None

    def verify(self, token: str | bytes) -> Mapping[str, Any]:
        """Return the claims of a token, read-only through and through.

        Raises:
            TokenExpired: all is well with it but its time.
            InvalidToken: anything else, whatever the bytes; nothing else is raised.
        """
        now_us = self._clock.wall_us()
        if type(token) is not str:
            if type(token) is not bytes:
                raise InvalidToken("type")
            token = (
                token.decode("latin-1")
                if len(token) <= jws.LONGEST_TOKEN
                else " " * (jws.LONGEST_TOKEN + 1)
            )
        if len(token) > jws.LONGEST_TOKEN:
            raise InvalidToken("length")
        snapshot = self._keys.snapshot
        if self._passed is None or snapshot.symmetric:
            return self._check(token, snapshot, now_us)[0]
        return self._recall(token, snapshot, now_us, self._passed)

    def _recall(
        self, token: str, snapshot: Snapshot, now_us: int, memory: Recent[bytes, _Passed]
    ) -> Mapping[str, Any]:
        # By digest: who reads this process's memory should not find tokens lying about.
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        passed = memory.get(digest)
        if passed is None or passed.snapshot is not snapshot:
            passed = _Passed(*self._check(token, snapshot, now_us), snapshot)
            memory.put(digest, passed)
            return passed.claims
        now_s = now_us / SECOND_US
        if passed.expires <= now_s:
            memory.pop(digest)
            raise TokenExpired("exp")
        if passed.key.until_us is not None and now_us >= passed.key.until_us:
            raise InvalidToken("key ended")
        if passed.begins > now_s + LEEWAY_S:
            raise InvalidToken("not yet")
        return passed.claims

    def _check(
        self, token: str, snapshot: Snapshot, now_us: int
    ) -> tuple[Mapping[str, Any], float, float, Key]:
        """Return the claims, until and from when they hold, and the key; nothing is remembered of a refusal."""
        head, payload, signature, signed = jws.split_text(token)
        seen = self._headers.get(head)
        # Each memory says which keys it was made under: a reload empties both at once, in every thread.
        if seen is not None and seen[1] is snapshot:
            key, known = seen[0], True
        else:
            known = False
            header, key = jws.find_key(head, snapshot)
            self._check_type(header)
        if key.until_us is not None and now_us >= key.until_us:
            raise InvalidToken("key ended")
        if not key.check(signed, signature):
            raise InvalidToken("signature")
        try:
            claims = load_object(decode(payload))
        except ValueError:
            raise InvalidToken("payload") from None
        expires, begins = self._expected.check(claims, now_us / SECOND_US)
        if not known:
            self._headers.put(head, (key, snapshot))
        return frozen(claims), expires, begins, key

    def _check_type(self, header: Mapping[str, Any]) -> None:
        if self._typ is None:
            return
        typ = header.get("typ")
        if typ is None and "typ" not in header and self._typ_optional:
            return
        if not isinstance(typ, str) or _plain_type(typ) != self._typ:
            raise InvalidToken("typ")

    def __repr__(self) -> str:
        return f"Verifier(issuer={self._expected.issuer!r}, typ={self._typ!r})"


def _plain_type(typ: str) -> str:
    """Return a media type as RFC 7515 section 4.1.9 compares it."""
    return typ.lower().removeprefix("application/")
