"""Tokens for purposes of the application's own: a link to a file, an invitation to look, a ticket for a socket.

Each purpose has a `typ`, an audience and a lifetime of its own, so that a token for one is none for another, and
never an access token. They are signed claims, nothing more: whoever has one may use it until it expires. What must
work once only is a `OneTime`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import urandom
from typing import Any

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.tokens import jws
from backendkit.tokens.claims import ACCESS_CLAIMS
from backendkit.tokens.encoding import dump, encode
from backendkit.tokens.mint import check_extra, check_length, check_subject
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.verifier import Verifier

LONGEST_S = 366 * 86_400
"""The longest lifetime: what should be good for ever belongs into a database."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_TAKEN = frozenset({"at", "rt", "once"})


class Purpose:
    """Tokens for one purpose; made by `Tokens.purpose`, or alone. Safe to share between threads.

    Args:
        name: 1..32 lower-case letters, digits and `-`; the header's `typ` is `<name>+jwt`.
        keys: sign and verify. Mind that a ring that rotates must keep its old keys for as long as `lifetime`.
        issuer: `iss`.
        audience: `aud`; None: the issuer's own name for the purpose.
        lifetime: 1 s to a year.
        clock: the source of now.
    """

    __slots__ = ("_audience", "_clock", "_issuer", "_keys", "_life_us", "_typ", "_verifier", "name")

    def __init__(
        self,
        name: str,
        *,
        keys: KeyRing,
        issuer: str,
        audience: str | None = None,
        lifetime: Duration = 3_600,
        clock: Clock | None = None,
    ) -> None:
        if not _NAME.fullmatch(name) or name in _TAKEN:
            rule = "must be 1..32 lower-case letters, digits and -, and none of ours"
            raise InvalidArgument("name", rule, name)
        self.name = name
        self._keys = keys
        self._issuer = issuer
        self._audience = f"{issuer}#{name}" if audience is None else audience
        self._life_us = checks.duration_us(
            "lifetime", lifetime, least_us=SECOND_US, most_us=LONGEST_S * SECOND_US
        )
        self._clock: Clock = clock or SystemClock()
        self._typ = f"{name}+jwt"
        self._verifier = Verifier(
            keys, issuer=issuer, audience=self._audience, typ=self._typ, require=ACCESS_CLAIMS,
            clock=self._clock,
        )  # fmt: skip

    def issue(self, subject: str, *, claims: Mapping[str, Any] | None = None) -> str:
        """Return a token. No round trip.

        Args:
            subject: whom or what it speaks for.
            claims: what else it says; none of the registered names. Anybody who holds it can read them.

        Raises:
            InvalidArgument: a registered name, or a token of over 8 KiB.
        """
        now_us = self._clock.wall_us()
        said = {
            "iss": self._issuer,
            "sub": check_subject(subject),
            "aud": self._audience,
            "exp": (now_us + self._life_us) // SECOND_US,
            "iat": now_us // SECOND_US,
            "jti": encode(urandom(12)).decode(),
            **check_extra(claims),
        }
        return check_length(jws.sign(dump(said), self._keys.active(now_us), typ=self._typ))

    def verify(self, token: str | bytes) -> Mapping[str, Any]:
        """Return the claims of a token, read-only. No round trip.

        Raises:
            TokenExpired, InvalidToken: 401: expired; not one of ours, or for another purpose.
        """
        return self._verifier.verify(token)

    def __repr__(self) -> str:
        return f"Purpose({self.name!r}, audience={self._audience!r})"
