"""Tokens that work once: password reset, e-mail verification, invitations.

Each is bound to what it is about to change: a reset to the stored hash, so that it dies when the password changes; a
verification to the address. It is taken by a set-if-absent mark that lasts as long as the token would. Take it on
POST only: mail scanners follow links.
"""

from __future__ import annotations

import hmac
import json
from os import urandom
from typing import Any, NamedTuple

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.keys import KeySpace
from backendkit.core.operation import Operation
from backendkit.core.store import Store
from backendkit.tokens import jws
from backendkit.tokens.decide.record import mark
from backendkit.tokens.encoding import encode
from backendkit.tokens.errors import InvalidToken
from backendkit.tokens.mint import check_subject
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.verifier import Verifier

TYPE = "once+jwt"
"""The header's `typ`; ours."""

SLACK_US = 60 * SECOND_US
"""How much longer than its token a mark is kept."""


class Ticket(NamedTuple):
    """A one-time token that was read, and not taken yet."""

    subject: str
    token_id: str
    bound: str
    expires_us: int


class OneTime:
    """One-time tokens for one purpose.

    Args:
        purpose: what for, like `"password-reset"`; a token for one purpose is none for another.
        secret: signs them.
        store: remembers those that were taken.
        issuer: `iss` and `aud`.
        lifetime: 1 s to 30 days; an hour at most for a password reset (ASVS 5.0).
        clock: the source of now; None: the store's.
        namespace: separates applications that share a store.
    """

    __slots__ = (
        "_aio",
        "_clock",
        "_issuer",
        "_life_us",
        "_purpose",
        "_secret",
        "_space",
        "_verifier",
        "store",
    )

    def __init__(
        self,
        purpose: str,
        *,
        secret: SecretRing,
        store: Store,
        issuer: str,
        lifetime: Duration = 3_600,
        clock: Clock | None = None,
        namespace: str = "bk",
    ) -> None:
        self._purpose = checks.name("purpose", purpose, most=64)
        self._secret = secret
        self.store = store
        self._issuer = issuer
        self._life_us = checks.duration_us(
            "lifetime", lifetime, least_us=SECOND_US, most_us=30 * 86_400 * SECOND_US
        )
        self._clock = clock or store.clock
        self._space = KeySpace("tokens", version=1, kind="once", namespace=namespace)
        self._verifier = Verifier(
            secret.keys("one-time"), issuer=issuer, audience=f"{issuer}#{purpose}", typ=TYPE,
            require=("iss", "sub", "aud", "exp", "jti", "bnd"), clock=self._clock,
        )  # fmt: skip
        self._aio = AsyncOneTime(self)

    @property
    def aio(self) -> AsyncOneTime:
        """The asynchronous face; `issue` and `peek` are the same on both."""
        return self._aio

    def issue(self, subject: str, *, bound: str) -> str:
        """Return a token for the link that is sent. No round trip.

        Args:
            subject: the user.
            bound: what it dies with: the stored hash, the address. Not readable from the token.
        """
        key = self._secret.active("one-time")
        claims = {
            "iss": self._issuer,
            "sub": check_subject(subject),
            "aud": f"{self._issuer}#{self._purpose}",
            "exp": (self._clock.wall_us() + self._life_us) // SECOND_US,
            "jti": encode(urandom(16)).decode(),
            "bnd": self._digest(bound, key.kid),
        }
        return jws.sign(json.dumps(claims).encode(), key, typ=TYPE)

    def peek(self, token: str | bytes) -> Ticket:
        """Return whose token this is, so that what it is bound to can be looked up; takes nothing.

        Raises:
            TokenExpired, InvalidToken: 401.
        """
        claims = self._verifier.verify(token)
        kid = jws.read_header(jws.split(token)[0])["kid"]
        return Ticket(
            claims["sub"], claims["jti"], f"{kid}:{claims['bnd']}", int(claims["exp"]) * SECOND_US
        )

    def take(self, token: str | bytes, *, bound: str) -> str:
        """Take a token, once, and return its subject. One round trip.

        Raises:
            TokenExpired, InvalidToken: 401: also where it was taken before, or what it is bound to has changed.
            StoreError: 503.
        """
        ticket = self.checked(token, bound)
        return self.taken(ticket, first=self.store.run(self.mark(ticket)))

    def checked(self, token: str | bytes, bound: str) -> Ticket:
        """Return the ticket of a token that is bound to `bound`."""
        ticket = self.peek(token)
        kid, _, digest = ticket.bound.partition(":")
        if not hmac.compare_digest(self._digest(bound, kid), digest):
            raise InvalidToken("bound")
        return ticket

    def mark(self, ticket: Ticket) -> Operation[bool]:
        """Return the operation that takes a ticket."""
        left = ticket.expires_us - self._clock.wall_us() + SLACK_US
        return mark(
            self._space.key(self._purpose, ticket.token_id), max(left, SLACK_US) // 1000 * 1000
        )

    def taken(self, ticket: Ticket, *, first: bool) -> str:
        """Return the subject if the ticket was taken for the first time."""
        if not first:
            raise InvalidToken("taken")
        return ticket.subject

    def _digest(self, bound: str, kid: str) -> str:
        key = self._secret.keys("one-time").get(kid)
        if key is None:
            raise InvalidToken("kid")
        message = b"bound:" + self._purpose.encode() + b":" + bound.encode("utf-8", "surrogatepass")
        return encode(key.sign(message)).decode()

    def __repr__(self) -> str:
        return f"OneTime({self._purpose!r})"


class AsyncOneTime:
    """The asynchronous face of a `OneTime`."""

    __slots__ = ("_once",)

    def __init__(self, once: OneTime) -> None:
        self._once = once

    async def take(self, token: str | bytes, *, bound: str) -> str:
        """Take a token, once; see `OneTime.take`."""
        ticket = self._once.checked(token, bound)
        first: Any = await self._once.store.aio.run(self._once.mark(ticket))
        return self._once.taken(ticket, first=first)
