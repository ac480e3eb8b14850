"""Credentials of a request, cookies and CSRF: everything about tokens on the web that needs no framework.

A bearer token decides alone: a bad one never falls back to the cookie, and a good one needs no CSRF proof, for no
browser sends it unasked. A cookie needs two proofs on unsafe methods: that our own pages sent the request (`Origin`,
`Sec-Fetch-Site`), and a signed token bound to the session, sent as header and as cookie (OWASP: signed double submit).
"""

from __future__ import annotations

import hmac
import re
import secrets
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, NoReturn, Protocol

from backendkit.core.context import bind, current
from backendkit.core.errors import InvalidArgument
from backendkit.tokens import (
    CsrfRefused,
    InvalidToken,
    Key,
    NotAuthenticated,
    Principal,
    SecretRing,
    TokenPair,
    Tokens,
)
from backendkit.tokens.encoding import encode

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1."""

SOCKET = "WEBSOCKET"
"""What stands for a method where somebody opens a websocket."""

CSRF_HEADER = "X-CSRF-Token"

LONGEST_CSRF = 128

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.\[\]:_-]+")
"""Never `null`, which any sandboxed frame sends, nor a pattern."""

LARGEST_COOKIE = 4_096
"""Characters of name and value; browsers drop what is longer, and say nothing (RFC 6265bis section 5.6)."""


class Incoming(Protocol):
    """A request, as guards and flows see it; `http.visits` makes it of a scope or an environ."""

    @property
    def method(self) -> str:
        """`GET`, ...; `WEBSOCKET` for a socket."""
        ...

    @property
    def scheme(self) -> str:
        """`http` or `https`: behind trusted proxies, the client's."""
        ...

    @property
    def peer(self) -> str | None:
        """The address at the other end."""
        ...

    def lines(self, name: str) -> Sequence[str]:
        """Return the values of all headers of a name (lower case), in order."""
        ...


class Credential(NamedTuple):
    """A token as a request carried it."""

    token: str
    by_cookie: bool

    def __repr__(self) -> str:
        return f"Credential(by_cookie={self.by_cookie})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials do not pickle")


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
        if isinstance(self.origins, str) or not all(map(_ORIGIN.fullmatch, self.origins)):
            rule = "must be origins as browsers send them: scheme, host, port unless it is the usual one"
            raise InvalidArgument("origins", rule, self.origins)
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
        if len(name) + len(value) > LARGEST_COOKIE:
            fix = "give tokens fewer claims, or hand them out in bodies."
            raise InvalidArgument("claims", "make a cookie that browsers drop", len(value), fix)
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
    return f"{nonce}.{_signature(key, session_id, nonce)}"


def renewed_csrf(secret: SecretRing, session_id: str, token: str) -> str:
    """Return a checked CSRF token for longer: the same, for another tab may have read it, unless its secret is old."""
    nonce, _, signature = token.partition(".")
    if hmac.compare_digest(_signature(secret.active("csrf"), session_id, nonce), signature):
        return token
    return csrf_token(secret, session_id)


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
    for key in secret.keys("csrf").keys:
        if hmac.compare_digest(_signature(key, session_id, nonce).encode(), signature.encode()):
            return
    raise CsrfRefused("signature")


def check_origin(visit: Incoming, policy: CookiePolicy) -> None:
    """Check that one of our own pages sent a request; for login and refresh, and for all that cookies authenticate.

    Raises:
        CsrfRefused: 403: another site's page sent it.
    """
    origins = visit.lines("origin")
    if origins:
        # Compared as text: browsers spell an origin in one way, and nothing is parsed that could fail.
        hosts = visit.lines("host")
        own = f"{visit.scheme}://{hosts[0]}" if len(hosts) == 1 else None
        if len(origins) > 1 or origins[0] not in (own, *policy.origins):
            raise CsrfRefused("origin")
    elif any(site not in ("same-origin", "none") for site in visit.lines("sec-fetch-site")):
        raise CsrfRefused("fetch site")


def protect(
    found: Credential, visit: Incoming, session_id: str | None, policy: CookiePolicy, secret: SecretRing
) -> None:  # fmt: skip
    """Check all that a request needs beside its cookie; nothing where a bearer token came, or nothing changes.

    A websocket has its origin checked alone: no page can add a header to one.

    Raises:
        CsrfRefused: 403.
    """
    if found.by_cookie and visit.method not in SAFE_METHODS:
        check_origin(visit, policy)
        if visit.method != SOCKET:
            double_submit(visit, session_id, policy, secret)


def double_submit(
    visit: Incoming, session_id: str | None, policy: CookiePolicy, secret: SecretRing
) -> str:
    """Check a request's CSRF token against its cookie and a session, and return it.

    Raises:
        CsrfRefused: 403.
    """
    headers = visit.lines(CSRF_HEADER.lower())
    sent = headers[0] if len(headers) == 1 else None
    in_cookie = cookie(visit.lines("cookie"), policy.csrf)
    check_csrf(secret, session_id, header=sent, in_cookie=in_cookie)
    return sent or ""


class Gate:
    """Tells who sent a request, or refuses it. The guards of both frameworks are this, and a way to read headers.

    Args:
        tokens: verify.
        cookies: None: bearer tokens only.

    The log of an admitted request, and its audit events, say `user_id`. Where a cookie named the user, the response
    says `Cache-Control: no-store`, or `private` beside what the view says, unless that is `public`.
    """

    __slots__ = ("cookies", "tokens")

    def __init__(self, tokens: Tokens, *, cookies: CookiePolicy | None = None) -> None:
        self.tokens = tokens
        self.cookies = cookies

    def admit(self, visit: Incoming, *, optional: bool = False) -> Principal | None:
        """Return who sent a request; None: nobody, where that is allowed.

        Raises:
            TokenError: 401.
            CsrfRefused: 403.
            StoreError: 503.
        """
        found = self.credential(visit, optional=optional)
        return found and self.let_in(self.tokens.verify(found.token), found, visit)

    async def admit_async(self, visit: Incoming, *, optional: bool = False) -> Principal | None:
        """Return who sent a request; see `admit`."""
        found = self.credential(visit, optional=optional)
        return found and self.let_in(await self.tokens.aio.verify(found.token), found, visit)

    def credential(self, visit: Incoming, *, optional: bool = False) -> Credential | None:
        """Return the token of a request, not verified yet."""
        sent = visit.lines("cookie") if self.cookies is not None else ()
        found = credential(visit.lines("authorization"), sent, self.cookies)
        if found is None and not optional:
            raise NotAuthenticated("no credentials")
        return found

    def let_in(self, principal: Principal, found: Credential, visit: Incoming) -> Principal:
        """Return the principal of a verified token once the request has proved what its cookie leaves open."""
        if self.cookies is not None:
            protect(found, visit, principal.session_id, self.cookies, self.tokens.secret)
        bind(user_id=principal.subject)
        request = current()
        if found.by_cookie and request is not None:
            request.personal = True
        return principal


def _signature(key: Key, session_id: str, nonce: str) -> str:
    return encode(key.sign(f"{session_id}.{nonce}".encode("utf-8", "surrogatepass"))).decode()
