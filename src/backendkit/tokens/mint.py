"""Making tokens: access tokens (RFC 9068), and refresh tokens that are a pure function of their session's state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from os import urandom
from typing import Any

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import InvalidArgument
from backendkit.tokens import jws
from backendkit.tokens.encoding import encode, encoder
from backendkit.tokens.keys import Key
from backendkit.tokens.recent import Recent
from backendkit.tokens.ring import KeyRing

ACCESS_TYPE = "at+jwt"
"""RFC 9068 section 2.1."""

REFRESH_TYPE = "rt+jwt"
"""Ours; no RFC names one."""

RESERVED = frozenset(
    {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "ep", "roles", "scope", "auth_time", "amr", "acr", "cnf"}
)  # fmt: skip
"""Claims that extra ones may not replace."""

LARGEST_GRANTS = 2_048
"""Bytes of roles, scopes and extra claims that a session keeps where there is no loader."""


class Mint:
    """Signs tokens of one issuer with whatever key is active."""

    __slots__ = ("_audience", "_clock", "_encode", "_headers", "_issuer", "_keys", "_life_us")

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str | Iterable[str],
        life_us: int,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience if isinstance(audience, str) else list(audience)
        self._life_us = life_us
        self._clock = clock
        self._headers: Recent[Key, bytes] = Recent(16)
        self._encode = encoder()

    def access(
        self,
        subject: str,
        grants: Mapping[str, Any],
        *,
        session_id: str | None = None,
        epoch: int = 0,
        auth_time_us: int | None = None,
    ) -> str:
        """Return a signed access token; `grants` are claims made by `claims_of`."""
        now_us = self._clock.wall_us()
        key = self._keys.active(now_us)
        now = now_us // SECOND_US
        claims = {
            "iss": self._issuer,
            "sub": subject,
            "aud": self._audience,
            "exp": now + self._life_us // SECOND_US,
            "iat": now,
            "jti": encode(urandom(12)).decode(),
            "ep": epoch,
            **grants,
        }
        if session_id is not None:
            claims["sid"] = session_id
        if auth_time_us is not None:
            claims["auth_time"] = auth_time_us // SECOND_US
        header = self._headers.get(key)
        if header is None:
            header = jws.header_segment(key, ACCESS_TYPE)
            self._headers.put(key, header)
        return check_length(jws.sign_with(header, self._encode(claims).encode(), key))


def refresh_token(
    key: Key, issuer: str, whose: tuple[str, str], state: tuple[int, int, int], idle_us: int
) -> str:
    """Return the refresh token of a session's state: the same state, the same bytes.

    Args:
        key: derived from the secret that the state names.
        issuer: `iss` and `aud` at once: only its issuer takes a refresh token.
        whose: subject and session id.
        state: generation, when it was rotated, when the session ends at the latest; microseconds.
        idle_us: how long it may lie unused.
    """
    subject, session_id = whose
    generation, rotated_us, absolute_us = state
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": issuer,
        "sid": session_id,
        "gen": generation,
        "at": rotated_us,
        "exp": min(rotated_us + idle_us, absolute_us) // SECOND_US,
    }
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return jws.sign(payload, key, typ=REFRESH_TYPE)


def claims_of(
    roles: Iterable[str],
    scopes: Iterable[str],
    extra: Mapping[str, Any] | None,
    methods: Iterable[str] = (),
) -> dict[str, Any]:
    """Return roles, scopes and extra claims as an access token carries them.

    Raises:
        InvalidArgument: an extra claim has a registered name, a scope holds white space.
    """
    claims = check_extra(extra)
    if isinstance(roles, str) or isinstance(scopes, str):
        raise InvalidArgument("roles", "and scopes must be lists of names, not one text", "a text")
    if roles:
        claims["roles"] = [*roles]
    if scopes:
        words = [*scopes]
        claims["scope"] = " ".join(words)
        if claims["scope"].split() != words:
            raise InvalidArgument("scopes", "must be words", words)
    if methods:
        claims["amr"] = [*methods]
    return claims


def check_extra(claims: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of extra claims, none of which has a registered name."""
    taken = RESERVED & claims.keys() if claims else None
    if taken:
        raise InvalidArgument("claims", "must not name a registered claim", sorted(taken))
    return dict(claims or ())


def check_length(token: str) -> str:
    """Return a token that our own verifiers would take."""
    if len(token) > jws.LONGEST_TOKEN:
        raise InvalidArgument(
            "claims", f"make a token of over {jws.LONGEST_TOKEN} characters", len(token)
        )
    return token


def check_subject(subject: object) -> str:
    """Return a subject that tokens can carry: 1..1,024 characters that UTF-8 can encode."""
    if not isinstance(subject, str) or not 0 < len(subject) <= 1_024:
        raise InvalidArgument(
            "subject", "must be text of 1..1024 characters", type(subject).__name__
        )
    try:
        subject.encode()
    except UnicodeEncodeError:
        raise InvalidArgument("subject", "must not hold lone surrogates", "text") from None
    return subject
