"""Who is calling, and what a login hands out. Neither shows a token in its repr, and neither pickles one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from backendkit.tokens.claims import thawed


class Principal:
    """Who a verified access token speaks for; read-only, and safe to share.

    Attributes:
        claims: all claims of the token, read-only through and through.
    """

    __slots__ = ("claims",)

    claims: Mapping[str, Any]

    def __init__(self, claims: Mapping[str, Any]) -> None:
        object.__setattr__(self, "claims", claims)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a principal is read-only")

    @property
    def subject(self) -> str:
        """The user's id: `sub`."""
        subject: str = self.claims["sub"]
        return subject

    @property
    def session_id(self) -> str | None:
        """The session that the token belongs to; None for tokens issued without one."""
        return self.claims.get("sid")

    @property
    def token_id(self) -> str | None:
        """The token's own id: `jti`."""
        return self.claims.get("jti")

    @property
    def roles(self) -> frozenset[str]:
        """The user's roles when the token was issued."""
        return frozenset(self.claims.get("roles", ()))

    @property
    def scopes(self) -> frozenset[str]:
        """What the token may be used for: the words of `scope` (RFC 9068 section 2.2.3)."""
        return frozenset(self.claims.get("scope", "").split())

    @property
    def expires_at(self) -> float:
        """Seconds since 1970 at which the token expires; infinity for one that never does."""
        expires: float = self.claims.get("exp", float("inf"))
        return expires

    @property
    def auth_time(self) -> int | None:
        """Seconds since 1970 at which the user logged in, as opposed to refreshed."""
        return self.claims.get("auth_time")

    @property
    def methods(self) -> tuple[str, ...]:
        """How the user logged in, as RFC 8176 names it: `("pwd", "otp")`."""
        return tuple(self.claims.get("amr", ()))

    @property
    def epoch(self) -> int:
        """The user's epoch when the token was issued."""
        epoch: int = self.claims.get("ep", 0)
        return epoch

    def as_dict(self) -> dict[str, Any]:
        """Return the claims as plain dicts and lists, for JSON."""
        plain: dict[str, Any] = thawed(self.claims)
        return plain

    def __repr__(self) -> str:
        return f"Principal({self.claims.get('sub')!r}, session_id={self.session_id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        from backendkit.tokens.claims import frozen  # noqa: PLC0415 - only for the rare pickle

        return _rebuild, (self.as_dict(), frozen)


def _rebuild(claims: dict[str, Any], freeze: Any) -> Principal:
    return Principal(freeze(claims))


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a login or a refresh hands out; `repr` shows neither token, and it does not pickle.

    Attributes:
        access_token: for the Authorization header or the access cookie.
        refresh_token: for the next refresh, once.
        expires_in: seconds of the access token's life.
        refresh_expires_in: seconds until the session ends unless it is refreshed.
        session_id: the session.
        subject: whose it is.
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    refresh_expires_in: int
    session_id: str
    subject: str
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's name for the kind

    def as_dict(self) -> dict[str, Any]:
        """Return the body of RFC 6749 section 5.1, with both tokens."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "token_type": self.token_type,
            "expires_in": self.expires_in,
            "refresh_expires_in": self.refresh_expires_in,
            "session_id": self.session_id,
        }

    def __reduce__(self) -> NoReturn:
        raise TypeError("token pairs do not pickle: hand them to their user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """What a user may do, as the application's loader reads it anew at each refresh.

    Attributes:
        roles: names of roles.
        scopes: names of scopes; no white space.
        claims: further claims of the access token; none of the registered names.
    """

    roles: Iterable[str] = ()
    scopes: Iterable[str] = ()
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session of a user, as a list of devices shows it; times in seconds since 1970.

    Attributes:
        id: for `revoke`.
        created_at: the login.
        refreshed_at: the last refresh.
        expires_at: when it ends at the latest.
        device: as the login named it.
        agent: the client's user agent, last seen.
        address: the client's address, last seen.
        refreshes: how often it was refreshed.
    """

    id: str
    created_at: float
    refreshed_at: float
    expires_at: float
    device: str
    agent: str
    address: str
    refreshes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who is at the other end, for session lists and events; at most 64, 96 and 45 bytes are kept."""

    device: str = ""
    agent: str = ""
    address: str = ""
