"""Credentials of a request, cookies and CSRF: everything about tokens on the web that needs no framework.

A bearer token decides alone: a bad one never falls back to the cookie, and a good one needs no CSRF proof, for no
browser sends it unasked. A cookie needs two proofs on unsafe methods: that our own pages sent the request (`Origin`,
`Sec-Fetch-Site`), and a signed token bound to the session, sent as header and as cookie (OWASP: signed double submit).
"""

from __future__ import annotations

import hmac
import secrets
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from backendkit.core.errors import InvalidArgument
from backendkit.tokens import CsrfRefused, InvalidToken, NotAuthenticated, SecretRing, TokenPair
from backendkit.tokens.encoding import encode

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1."""

CSRF_HEADER = "X-CSRF-Token"

LONGEST_CSRF = 128


class Credential(NamedTuple):
    """A token as a request carried it."""

    token: str
    by_cookie: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CookiePolicy:
    """How tokens travel in cookies.

    Attributes:
        prefix: path of the routes that refresh and log out: only they get the refresh cookie.
        same_site: `Lax` lets links from elsewhere arrive logged in, `Strict` does not.
        origins: further origins, `https://app.example`, whose pages may send requests with cookies.
        insecure: for plain http in development: no `Secure`, no name prefixes; warns.
    """

    prefix: str = "/auth"
    same_site: Literal["Lax", "Strict"] = "Lax"
    origins: Collection[str] = ()
    insecure: bool = False

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or ";" in self.prefix or not self.prefix.isprintable():
            raise InvalidArgument("prefix", "must be a path", self.prefix)
        if self.same_site not in ("Lax", "Strict"):
            raise InvalidArgument("same_site", "must be Lax or Strict", self.same_site)
        if self.insecure:
            warnings.warn("cookies are insecure: for plain http in development only", stacklevel=3)

    @property
    def access(self) -> str:
        """The access cookie's name; `__Host-` lets no other host and no other path set it (RFC 6265bis)."""
        return "access" if self.insecure else "__Host-access"

    @property
    def refresh(self) -> str:
        """The refresh cookie's name; `__Secure-`, for `__Host-` would want it sent to every path."""
        return "refresh" if self.insecure else "__Secure-refresh"

    @property
    def csrf(self) -> str:
        """The CSRF cookie's name; scripts of our pages read it."""
        return "csrf" if self.insecure else "__Host-csrf"

    def set(self, pair: TokenPair, csrf: str) -> list[str]:
        """Return the `Set-Cookie` values of a login or a refresh."""
        age = pair.refresh_expires_in
        return [
            self._line(self.access, pair.access_token, pair.expires_in, "/"),
            self._line(self.refresh, pair.refresh_token, age, self.prefix),
            self._line(self.csrf, csrf, age, "/", script=True),
        ]

    def clear(self) -> list[str]:
        """Return the `Set-Cookie` values of a logout."""
        return [
            self._line(self.access, "", 0, "/"),
            self._line(self.refresh, "", 0, self.prefix),
            self._line(self.csrf, "", 0, "/", script=True),
        ]

    def _line(self, name: str, value: str, age: int, path: str, *, script: bool = False) -> str:
        parts = [f"{name}={value}", f"Max-Age={age}", f"Path={path}", f"SameSite={self.same_site}"]
        parts += [] if self.insecure else ["Secure"]
        parts += [] if script else ["HttpOnly"]
        return "; ".join(parts)


def credential(
    authorization: Iterable[str], cookies: Iterable[str], policy: CookiePolicy | None
) -> Credential | None:
    """Return the access token of a request; None: there is none.

    Args:
        authorization: the values of all `Authorization` headers.
        cookies: the values of all `Cookie` headers.
        policy: None: cookies are not looked at.

    Raises:
        InvalidToken: a credential that is not a bearer token, two of them, or two cookies of one name.
    """
    values = list(authorization)
    if len(values) > 1:
        raise InvalidToken("two credentials")
    if values:
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise InvalidToken("scheme")
        return Credential(token.strip(), by_cookie=False)
    if policy is None:
        return None
    found = cookie(cookies, policy.access)
    return None if found is None else Credential(found, by_cookie=True)


def cookie(headers: Iterable[str], name: str) -> str | None:
    """Return a cookie's value; None: it is not there, or empty.

    Raises:
        InvalidToken: it is there twice: one of them was planted.
    """
    found: list[str] = []
    for header in headers:
        for pair in header.split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                found.append(value.strip('"'))
    if len(found) > 1:
        raise InvalidToken("two cookies")
    return found[0] or None if found else None


def csrf_token(secret: SecretRing, session_id: str) -> str:
    """Return a new CSRF token of a session: a nonce, and its signature with the session."""
    key = secret.active("csrf")
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(secret, key.kid, session_id, nonce)}"


def check_csrf(
    secret: SecretRing, session_id: str | None, *, header: str | None, in_cookie: str | None
) -> None:
    """Check the signed double submit of a request that a cookie authenticated.

    Raises:
        CsrfRefused: 403: no token, not the same in both places, or not this session's.
    """
    if session_id is None or not header or not in_cookie or len(header) > LONGEST_CSRF:
        raise CsrfRefused("missing")
    if not hmac.compare_digest(header.encode(), in_cookie.encode()):
        raise CsrfRefused("double submit")
    nonce, _, signature = header.partition(".")
    for kid in secret.ids:
        if hmac.compare_digest(
            _signature(secret, kid, session_id, nonce).encode(), signature.encode()
        ):
            return
    raise CsrfRefused("signature")


def check_origin(
    headers: Mapping[str, str], *, scheme: str, host: str, policy: CookiePolicy
) -> None:
    """Check that one of our own pages sent a request; for login and refresh, and for all that cookies authenticate.

    Args:
        headers: by lower-case name.
        scheme: of the request, behind trusted proxies the client's.
        host: likewise, with its port.
        policy: names further origins.

    Raises:
        CsrfRefused: 403: another site's page sent it.
    """
    origin = headers.get("origin")
    if origin is not None:
        own = urlsplit(origin)
        if origin in policy.origins or (own.scheme, own.netloc) == (scheme, host):
            return
        raise CsrfRefused("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise CsrfRefused("fetch site")


def protect(
    credentials: Credential, method: str, headers: Mapping[str, str], *, place: tuple[str, str],
    session_id: str | None, cookies: Iterable[str], policy: CookiePolicy, secret: SecretRing,
) -> None:  # fmt: skip
    """Check all that a request needs beside its cookie; nothing where a bearer token came, or nothing changes.

    Raises:
        CsrfRefused: 403.
    """
    if not credentials.by_cookie or method in SAFE_METHODS:
        return
    check_origin(headers, scheme=place[0], host=place[1], policy=policy)
    in_cookie = cookie(cookies, policy.csrf)
    check_csrf(secret, session_id, header=headers.get(CSRF_HEADER.lower()), in_cookie=in_cookie)


def required(found: Credential | None) -> Credential:
    """Return a credential, or refuse a request that has none."""
    if found is None:
        raise NotAuthenticated("no credentials")
    return found


def _signature(secret: SecretRing, kid: str, session_id: str, nonce: str) -> str:
    key = secret.keys("csrf").get(kid)
    if key is None:
        raise CsrfRefused("secret")
    return encode(key.sign(f"{session_id}.{nonce}".encode("utf-8", "surrogatepass"))).decode()
