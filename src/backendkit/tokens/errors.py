"""What goes wrong with tokens. The public message never says why; the reason is for events and logs.

    AppError
    ├── KeyRefused                500  KEY_REFUSED            also a ValueError: a key or ring that must not be used
    ├── TokenError                401  CREDENTIALS_REFUSED    an Unauthorized
    │   ├── NotAuthenticated      401  NOT_AUTHENTICATED      no credentials came at all
    │   ├── InvalidToken          401  INVALID_TOKEN          the one of `backendkit.errors`, too
    │   ├── TokenExpired          401  TOKEN_EXPIRED          the one of `backendkit.errors`, too
    │   ├── TokenRevoked          401  TOKEN_REVOKED          its session or its user's epoch has ended
    │   ├── SessionEnded          401  SESSION_ENDED          a refresh token whose session is over
    │   ├── TokenReused           401  TOKEN_REUSED           a spent refresh token: its whole family is revoked
    │   └── StaleLogin            401  STALE_LOGIN            the login is too long ago for this (RFC 9470)
    ├── AlreadyEnrolled           409  ALREADY_ENROLLED       a confirmed second factor must not be replaced in passing
    └── AccessDenied              403  ACCESS_DENIED          a Forbidden
        ├── InsufficientScope     403  INSUFFICIENT_SCOPE     RFC 6750 section 3.1
        └── CsrfRefused           403  CSRF_REFUSED

`reason` is a short word like `"signature"`; it holds nothing of a token, a key or a claim.
"""

from __future__ import annotations

from collections.abc import Mapping

from backendkit.core import errors
from backendkit.core.errors import AppError, Forbidden, Unauthorized


class KeyRefused(AppError, ValueError):
    """A key or a ring that must not be used; says which rule, and the key id, never the key."""

    code = "KEY_REFUSED"


class TokenError(Unauthorized):
    """A credential was not accepted; answered with 401 and a `WWW-Authenticate` challenge (RFC 6750 section 3)."""

    code = "CREDENTIALS_REFUSED"
    message = "The credentials are not valid"
    challenge = 'Bearer error="invalid_token"'

    def __init__(self, reason: str = "", /, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason, headers=headers)


class NotAuthenticated(TokenError):
    """No credentials came; RFC 6750 section 3.1 wants no error code then."""

    code = "NOT_AUTHENTICATED"
    message = "Authentication is required"
    challenge = "Bearer"


class InvalidToken(errors.InvalidToken, TokenError):
    """The token is not one of ours, or not for here."""


class TokenExpired(errors.TokenExpired, TokenError):
    """The token was good, and its time is over."""


class TokenRevoked(TokenError):
    """The token's session was ended, or all of its user's were."""

    code = "TOKEN_REVOKED"
    message = "The session has ended"


class SessionEnded(TokenError):
    """A refresh token whose session is over: expired, revoked, displaced or never known."""

    code = "SESSION_ENDED"
    message = "The session has ended"


class TokenReused(TokenError):
    """A refresh token that was already spent; whoever holds its family has to log in again."""

    code = "TOKEN_REUSED"
    message = "The session has ended"


class StaleLogin(TokenError):
    """The login is older than this action allows; the challenge names the age (RFC 9470 section 3)."""

    code = "STALE_LOGIN"
    message = "Please log in again to do this"

    def __init__(self, max_age_s: int) -> None:
        challenge = f'Bearer error="insufficient_user_authentication", max_age="{max_age_s}"'
        super().__init__("auth_time", headers={"WWW-Authenticate": challenge})
        self.max_age_s = max_age_s


class AlreadyEnrolled(AppError):
    """The user has a confirmed second factor, which must not be replaced in passing."""

    code = "ALREADY_ENROLLED"
    status = 409
    message = "There is a second factor already"


class AccessDenied(Forbidden):
    """Authenticated, and not allowed."""

    code = "ACCESS_DENIED"
    message = "You may not do this"


class InsufficientScope(AccessDenied):
    """The token lacks scopes; the challenge names those that the action needs."""

    code = "INSUFFICIENT_SCOPE"

    def __init__(self, scopes: tuple[str, ...]) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
        super().__init__("scope", headers={"WWW-Authenticate": challenge})
        self.scopes = scopes


class CsrfRefused(AccessDenied):
    """A request that a browser sent with cookies, without proof that our own pages made it."""

    code = "CSRF_REFUSED"
    message = "The request could not be verified"
