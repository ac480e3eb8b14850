"""The page of public keys (RFC 7517) that other services verify our tokens with: cached by whoever asks, cheap to ask again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256

from backendkit.core import checks
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.http.sessions import Answer
from backendkit.tokens import KeyRing
from backendkit.tokens.ring import PUBLISH_AHEAD_S, Snapshot

PATH = "/.well-known/jwks.json"
"""Where clients look for it by habit; there is no RFC for the name, only for the prefix (RFC 8615)."""

MEDIA_TYPE = "application/jwk-set+json"
"""RFC 7517 section 8.5.2."""


class JwksPage:
    """The public keys of a ring, as they are when asked for.

    Args:
        keys: all asymmetric; a reload shows at once.
        max_age: seconds for which others may keep the page, 0..3900: less than the time that a new key is
            published ahead of signing, or a rotation refuses tokens.
        clock: tells which keys have ended.

    Raises:
        InvalidArgument: the ring is symmetric, and has nothing to publish.
    """

    __slots__ = ("_clock", "_headers", "_keys", "_made")

    def __init__(self, keys: KeyRing, *, max_age: int = 3_600, clock: Clock | None = None) -> None:
        if keys.snapshot.symmetric:
            raise InvalidArgument("keys", "must be asymmetric: secrets are not published", keys)
        checks.whole("max_age", max_age, most=PUBLISH_AHEAD_S)
        self._keys = keys
        self._clock: Clock = clock or SystemClock()
        self._headers = [("Cache-Control", f"public, max-age={max_age}")]
        self._made: tuple[Snapshot, tuple[str, ...], str, bytes] | None = None

    def answer(self, if_none_match: Sequence[str] = ()) -> Answer:
        """Return the page; 304 without it for a client that has it already.

        Args:
            if_none_match: the values of all headers of that name.
        """
        etag, body = self._page()
        headers = [("ETag", etag), *self._headers]
        if _matches(if_none_match, etag):
            return Answer(304, headers)
        return Answer(200, [("Content-Type", MEDIA_TYPE), *headers], body)

    def _page(self) -> tuple[str, bytes]:
        """Return tag and body, made anew where the ring was reloaded, or a key has ended."""
        snapshot, now = self._keys.snapshot, self._clock.wall_us()
        alive = tuple(
            kid
            for kid, key in snapshot.by_kid.items()
            if key.until_us is None or now < key.until_us
        )
        made = self._made
        if made is None or made[0] is not snapshot or made[1] != alive:
            document = {"keys": [snapshot.by_kid[kid].jwk() for kid in alive]}
            body = json.dumps(document, separators=(",", ":")).encode()
            made = self._made = (snapshot, alive, f'"{sha256(body).hexdigest()[:32]}"', body)
        return made[2], made[3]


def _matches(lines: Sequence[str], etag: str) -> bool:
    """Compare as If-None-Match is compared: weakly (RFC 9110 section 13.1.2)."""
    text = ",".join(lines)[:LONGEST_CONDITION]
    return text.strip() == "*" or etag in _TAGS.findall(text)


LONGEST_CONDITION = 4_096
"""Characters of If-None-Match that are read."""

_TAGS = re.compile(r'(?:W/)?("[^"]*")')
