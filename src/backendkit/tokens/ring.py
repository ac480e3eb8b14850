"""The keys of one issuer: one signs, all verify, found by id in one step; replaced as a whole, while in use.

To rotate without a single refusal, a new key is published before it signs (`not_before_us`: at least the time that
other services keep the key set, plus a deploy), and the old one verifies until its last token has expired.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn, cast

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.tokens.encoding import dump, encode
from backendkit.tokens.errors import KeyRefused
from backendkit.tokens.keys import Key

PUBLISH_AHEAD_S = 3_900
"""Seconds between publishing and signing: an hour of JWKS cache and five minutes of deploy."""

LONGEST_TOKEN_S = 930
"""Seconds for which an old key verifies after its last signature: 15 minutes and 30 s of leeway."""


CACHED_S = 3_600
"""Seconds for which others may keep a published key set; `PUBLISH_AHEAD_S` counts on it."""


def checked_max_age(seconds: int) -> int:
    """Return for how long others may keep a key set: what `PUBLISH_AHEAD_S` leaves beside a deploy.

    During a deploy old processes still publish the old set; kept for longer, it would make a rotation refuse tokens.
    """
    return checks.whole("max_age", seconds, most=CACHED_S)


@dataclass(frozen=True, slots=True)
class KeyDocument:
    """A public key set as a web route answers with it: the same keys, the same bytes and entity tag.

    Attributes:
        body: the JWK Set (RFC 7517 section 5), JSON in UTF-8.
        etag: a strong entity tag, with its quotes.
        max_age: seconds for which it may be kept.
        media_type: RFC 7517 section 8.5.2.
    """

    body: bytes
    etag: str
    max_age: int
    media_type: str = "application/jwk-set+json"

    @property
    def cache_control(self) -> str:
        """The value of `Cache-Control`."""
        return f"public, max-age={self.max_age}"


class Snapshot:
    """The keys of a ring at one time; compare by identity to learn whether the ring was reloaded."""

    __slots__ = ("by_kid", "signers", "sole", "symmetric")

    def __init__(self, keys: tuple[Key, ...]) -> None:
        self.by_kid = {key.kid: key for key in keys}
        self.signers = tuple(sorted((k for k in keys if k.signs), key=lambda k: -k.not_before_us))
        self.sole = keys[0] if len(keys) == 1 else None
        self.symmetric = any(key.alg.startswith("HS") for key in keys)


class KeyRing:
    """Keys by id. Safe to share between threads; `reload` swaps them at once.

    Args:
        keys: at least one; all symmetric or all asymmetric, no id twice.

    Raises:
        KeyRefused: naming the rule and the id.
    """

    __slots__ = ("__weakref__", "_snapshot")

    def __init__(self, keys: Iterable[Key]) -> None:
        self._snapshot = _checked(keys)

    @classmethod
    def generate(cls, alg: str = "EdDSA") -> KeyRing:
        """Return a ring of one new key."""
        return cls([Key.generate(alg)])

    @classmethod
    def from_jwks(cls, document: Mapping[str, Any], alg: str | None = None) -> KeyRing:
        """Read a JWK Set, or a single JWK; every key in it must be usable.

        Args:
            document: `{"keys": [...]}` or one JWK.
            alg: of keys that name none.
        """
        listed: object = document.get("keys", [document])
        if not isinstance(listed, list):
            raise KeyRefused("keys must be a list of JWKs")
        found = cast("list[object]", listed)
        if not all(isinstance(jwk, Mapping) for jwk in found):
            raise KeyRefused("keys must be a list of JWKs")
        return cls(Key.from_jwk(cast("Mapping[str, Any]", jwk), alg) for jwk in found)

    @classmethod
    def from_text(cls, text: str, alg: str | None = None) -> KeyRing:
        """Read what a file or an environment variable holds: a JWK Set, a JWK, or one or more PEM keys."""
        if text.lstrip().startswith("{"):
            try:
                document: Any = json.loads(text)
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise KeyRefused("the text is no JWK Set")
            return cls.from_jwks(cast("dict[str, Any]", document), alg)
        pieces = [f"-----BEGIN {piece}" for piece in text.split("-----BEGIN ")[1:]]
        if not pieces:
            raise KeyRefused("the text holds neither JWKs nor PEM keys")
        return cls(Key.from_pem(piece, alg) for piece in pieces)

    @classmethod
    def from_file(cls, path: str | Path, alg: str | None = None) -> KeyRing:
        """Read a file of JWKs or PEM keys; see `from_text`."""
        return cls.from_text(Path(path).read_text(), alg)

    @property
    def snapshot(self) -> Snapshot:
        """The keys as they are now."""
        return self._snapshot

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys, in the order given."""
        return tuple(self._snapshot.by_kid.values())

    def reload(self, keys: Iterable[Key]) -> None:
        """Replace all keys at once; the old ones stay if the new are refused."""
        self._snapshot = _checked(keys)

    def get(self, kid: str) -> Key | None:
        """Return the key of an id, or None."""
        return self._snapshot.by_kid.get(kid)

    def active(self, now_us: int) -> Key:
        """Return the key that signs now: of those whose time has come, the one that came last.

        Raises:
            KeyRefused: no key may sign now.
        """
        for key in self._snapshot.signers:
            if key.not_before_us <= now_us and (key.until_us is None or now_us < key.until_us):
                return key
        raise KeyRefused("no key of the ring may sign now\nTo fix it: backendkit keys rotate")

    def rotated(
        self,
        alg: str,
        now_us: int,
        *,
        ahead_s: int = PUBLISH_AHEAD_S,
        longest_token_s: int = LONGEST_TOKEN_S,
    ) -> tuple[Key, ...]:
        """Return the keys after a rotation, for storing and `reload`.

        A new key signs after `ahead_s`; the others end `longest_token_s` later; what has ended is left out.
        """
        takes_over_us = now_us + ahead_s * SECOND_US
        ends_us = takes_over_us + longest_token_s * SECOND_US
        kept = [
            key
            if key.until_us is not None and key.until_us <= ends_us
            else key.lasting(until_us=ends_us)
            for key in self.keys
            if key.until_us is None or key.until_us > now_us
        ]
        return (*kept, Key.generate(alg, not_before_us=takes_over_us))

    def jwks(self, now_us: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Return the public JWK Set, without what has ended by `now_us`; a symmetric ring has none.

        Raises:
            KeyRefused: the ring is symmetric.
        """
        alive = [
            k for k in self.keys if now_us is None or k.until_us is None or now_us < k.until_us
        ]
        return {"keys": [key.jwk() for key in alive]}

    def document(self, now_us: int | None = None, *, max_age: int = CACHED_S) -> KeyDocument:
        """Return the public JWK Set as bytes with an entity tag, for the route that publishes it.

        Args:
            now_us: leaves out what has ended by then.
            max_age: seconds for which others may keep it, 0..3600.

        Raises:
            KeyRefused: the ring is symmetric.
        """
        body = dump(self.jwks(now_us))
        tag = encode(sha256(body).digest()[:16]).decode()
        return KeyDocument(body, f'"{tag}"', checked_max_age(max_age))

    def private_jwks(self) -> dict[str, list[dict[str, Any]]]:
        """Return the JWK Set with its secrets, for a file that only this application can read."""
        return {"keys": [key.jwk(private=True) for key in self.keys]}

    def __repr__(self) -> str:
        return f"KeyRing({list(self._snapshot.by_kid)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("key rings do not pickle: load the keys where they are needed")


def _checked(keys: Iterable[Key]) -> Snapshot:
    given = tuple(keys)
    if not given:
        raise KeyRefused("a ring needs at least one key")
    symmetric = {key.alg.startswith("HS") for key in given}
    if len(symmetric) > 1:
        raise KeyRefused("a ring is all symmetric or all asymmetric: mixing them invites confusion")
    kids = [key.kid for key in given]
    twice = sorted({kid for kid in kids if kids.count(kid) > 1})
    if twice:
        raise KeyRefused(f"the kid {twice[0]!r} stands twice")
    return Snapshot(given)
