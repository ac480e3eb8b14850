"""The page of public keys (RFC 7517) that other services verify our tokens with: cached by whoever asks, cheap to ask again."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.http.sessions import Answer
from backendkit.tokens import KeyDocument, KeyRing
from backendkit.tokens.ring import Snapshot, checked_max_age

PATH = "/.well-known/jwks.json"
"""Where clients look for it by habit; there is no RFC for the name, only for the prefix (RFC 8615)."""

MEDIA_TYPE = "application/jwk-set+json"
"""RFC 7517 section 8.5.2."""


class JwksPage:
    """The public keys of a ring, as they are when asked for.

    Args:
        keys: all asymmetric; a reload shows at once.
        max_age: seconds for which others may keep the page, 0..3600: a new key is published so long, and a deploy,
            ahead of signing, or a rotation would refuse tokens.
        clock: tells which keys have ended.

    Raises:
        InvalidArgument: the ring is symmetric, and has nothing to publish.
    """

    __slots__ = ("_clock", "_keys", "_made", "_max_age")

    def __init__(self, keys: KeyRing, *, max_age: int = 3_600, clock: Clock | None = None) -> None:
        if keys.snapshot.symmetric:
            raise InvalidArgument("keys", "must be asymmetric: secrets are not published", keys)
        self._max_age = checked_max_age(max_age)
        self._keys = keys
        self._clock: Clock = clock or SystemClock()
        self._made: tuple[Snapshot, tuple[str, ...], KeyDocument] | None = None

    def answer(self, if_none_match: Sequence[str] = ()) -> Answer:
        """Return the page; 304 without it for a client that has it already.

        Args:
            if_none_match: the values of all headers of that name.
        """
        page = self._page()
        headers = [("ETag", page.etag), ("Cache-Control", page.cache_control)]
        if _matches(if_none_match, page.etag):
            return Answer(304, headers)
        return Answer(200, [("Content-Type", page.media_type), *headers], page.body)

    def _page(self) -> KeyDocument:
        """Return the document, made anew where the ring was reloaded, or a key has ended."""
        snapshot, now = self._keys.snapshot, self._clock.wall_us()
        alive = tuple(
            kid
            for kid, key in snapshot.by_kid.items()
            if key.until_us is None or now < key.until_us
        )
        made = self._made
        if made is None or made[0] is not snapshot or made[1] != alive:
            document = self._keys.document(now, max_age=self._max_age)
            made = self._made = (snapshot, alive, document)
        return made[2]


def _matches(lines: Sequence[str], etag: str) -> bool:
    """Compare as If-None-Match is compared: weakly (RFC 9110 section 13.1.2)."""
    text = ",".join(lines)[:LONGEST_CONDITION]
    return text.strip() == "*" or etag in _TAGS.findall(text)


LONGEST_CONDITION = 4_096
"""Characters of If-None-Match that are read."""

_TAGS = re.compile(r'(?:W/)?("[^"]*")')
