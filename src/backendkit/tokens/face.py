"""Token pairs for users of an application: `Tokens`, and `tokens.aio` over the same state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from backendkit.core.checks import Duration
from backendkit.core.clock import Clock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.flow import AsyncIO, SyncIO, step
from backendkit.core.store import AsyncStore, Store
from backendkit.tokens import check, flow
from backendkit.tokens.build import build
from backendkit.tokens.mint import check_subject, claims_of
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.principal import Client, Grants, Principal, SessionInfo, TokenPair
from backendkit.tokens.purpose import Purpose
from backendkit.tokens.ring import CACHED_S, KeyDocument, KeyRing
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.state import Core, Loader


class Tokens:
    """Issues, verifies, refreshes and revokes; safe to share between threads.

    Args:
        keys: sign access tokens.
        secret: refresh tokens are derived from it.
        issuer: `iss` of all tokens.
        audience: `aud` of access tokens: this API's name, or several.
        store: keeps the sessions; None: access tokens alone, through `mint`.
        loader: reads roles, scopes and extra claims of a subject anew at each refresh; None: those of the login
            stay with the session.
        users: reads the application's object of a subject, for `user`; `def` or `async def`, None where there is none.
        policy: lives and checks.
        clock: dates access tokens; sessions go by the store's clock.
        hooks: told of events.
        namespace: separates applications that share a store.
    """

    def __init__(  # noqa: PLR0913 - options, by name only
        self,
        *,
        keys: KeyRing,
        secret: SecretRing,
        issuer: str,
        audience: str | Iterable[str],
        store: Store | None = None,
        loader: Loader | None = None,
        users: Callable[[str], Any] | None = None,
        policy: TokenPolicy | None = None,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        namespace: str = "bk",
    ) -> None:
        self.policy = policy or TokenPolicy()
        self.keys = keys
        self.secret = secret
        self.store = store
        self._core = build(
            keys=keys, secret=secret, issuer=issuer, audience=audience, store=store, loader=loader, users=users,
            policy=self.policy, clock=clock, hooks=hooks, namespace=namespace,
        )  # fmt: skip
        now, flights = self._core.clock, Flights()
        # Without a store nothing is run, and users are loaded all the same.
        self._io = SyncIO(cast("Store", store), now, flights)
        aio = cast("AsyncStore", None if store is None else store.aio)
        self._aio = AsyncTokens(self, self._core, AsyncIO(aio, now, flights))

    @property
    def aio(self) -> AsyncTokens:
        """The asynchronous face of the same state."""
        return self._aio

    @property
    def clock(self) -> Clock:
        """Dates access tokens."""
        return self._core.clock

    @property
    def hooks(self) -> Hooks:
        """Who is told of events."""
        return self._core.hooks

    def mint(
        self,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return an access token without a session: it cannot be refreshed, and not be revoked alone. No round trip."""
        granted = claims_of(roles, scopes, claims)
        return self._core.mint.access(
            check_subject(subject), granted, epoch=self._core.clock.wall_us()
        )

    def issue(
        self,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        methods: Iterable[str] = (),
        device: str = "",
        client: Client | None = None,
        bind: str | None = None,
    ) -> TokenPair:
        """Begin a session for somebody who has just proved who they are. One round trip.

        Args:
            subject: the user's id, 1..1,024 characters.
            roles: names of roles.
            scopes: names of scopes.
            claims: further claims; none of the registered names.
            methods: how the user logged in, as RFC 8176 names it: `["pwd", "otp"]`.
            device: a name for the list of sessions; short for `client=Client(device=...)`.
            client: device, user agent and address, for the list of sessions and for events.
            bind: what every refresh must show again: a client id, a DPoP thumbprint.

        Raises:
            InvalidArgument: a registered claim, a scope with white space, more than 2 KiB of grants.
            StoreError: the store is down; no session was begun, or nobody has its tokens.
        """
        grants = Grants(roles=roles, scopes=scopes, claims=claims or {})
        new = flow.NewSession(
            subject, grants, tuple(methods), client or Client(device=device), bind
        )
        return step(flow.begin(self._sync_io(), self._core, new))

    def verify(self, token: str | bytes) -> Principal:
        """Return who an access token speaks for; asks the store as the policy's `check` says.

        Raises:
            TokenExpired, InvalidToken, TokenRevoked: 401; nothing else, whatever the bytes.
            StoreError: 503: the store had to be asked and is down.
        """
        principal = self.peek(token)
        if not check.settled(self._core, principal):
            step(check.confirm(self._sync_io(), self._core, principal))
        return principal

    def peek(self, token: str | bytes) -> Principal:
        """Return who an access token speaks for without asking whether it was revoked; no round trip."""
        return Principal(self._core.check(self._core.access, token, "access"))

    def peek_refresh(self, token: str | bytes) -> Principal:
        """Return whose session a refresh token is of, spent, over or not: its signature alone counts; no round trip.

        Raises:
            InvalidToken: 401: not one of ours.
        """
        return Principal(self._core.check(self._core.refresh, token, "refresh"))

    def refresh(
        self, token: str | bytes, *, client: Client | None = None, bind: str | None = None
    ) -> TokenPair:
        """Exchange a refresh token for the next pair. One round trip, and the loader.

        The same token again within the grace time gives the same refresh token again, so that two tabs and a lost
        response harm nobody; any later, and the whole family is revoked.

        Raises:
            InvalidToken, SessionEnded, TokenReused: 401: log in again.
            ServiceUnavailable: 503, `StoreError` among them: the same token works again later.
        """
        return step(flow.renew(self._sync_io(), self._core, token, client or Client(), bind))

    def revoke(self, session_id: str) -> bool:
        """End one session; tells whether it was there. Access tokens of it work on as `check` allows. One round trip."""
        return step(flow.end(self._sync_io(), self._core, session_id))

    def revoke_all(self, subject: str) -> int:
        """End all sessions of a user and raise their epoch; returns how many. For a password change, too. One round trip."""
        return step(flow.end_all(self._sync_io(), self._core, subject))

    def sessions(self, subject: str) -> list[SessionInfo]:
        """List a user's live sessions, oldest first. One round trip."""
        return step(flow.listed(self._sync_io(), self._core, subject))

    def jwks(self, *, max_age: int = CACHED_S) -> KeyDocument:
        """Return the public keys as a route publishes them, without those that have ended; see `KeyRing.document`.

        Raises:
            KeyRefused: the ring is symmetric, and has nothing public.
        """
        return self.keys.document(self._core.clock.wall_us(), max_age=max_age)

    def user(self, principal: Principal) -> Any:
        """Return the application's object of a principal, by `users`: the row of the account, say.

        Raises:
            TokenRevoked: 401: `users` knows no such subject any more.
            ServiceUnavailable: 503: `users` failed.
        """
        return step(check.user_of(self._io, self._core, principal))

    def purpose(
        self,
        name: str,
        *,
        audience: str | None = None,
        lifetime: Duration = 3_600,
        keys: KeyRing | None = None,
    ) -> Purpose:
        """Return tokens for a purpose of the application's own: `tokens.purpose("share-link", lifetime=86_400)`.

        Args:
            name: of the purpose; see `Purpose`.
            audience: `aud`; None: the issuer's own name for the purpose.
            lifetime: 1 s to a year.
            keys: None: derived from the secret, so that only holders of the secret verify; a ring: whoever has
                its public keys.
        """
        return Purpose(
            name, keys=keys or self.secret.keys("purpose"), issuer=self._core.issuer, audience=audience,
            lifetime=lifetime, clock=self._core.clock,
        )  # fmt: skip

    def _sync_io(self) -> SyncIO:
        if self.store is None:
            raise _no_store()
        return self._io

    def __repr__(self) -> str:
        return f"Tokens(issuer={self._core.issuer!r}, check={self._core.mode!r})"


class AsyncTokens:
    """The asynchronous face of a `Tokens`; methods, arguments and errors are the same."""

    __slots__ = ("_core", "_io", "_tokens")

    def __init__(self, tokens: Tokens, core: Core, io: AsyncIO) -> None:
        self._tokens = tokens
        self._core = core
        self._io = io

    @property
    def sync(self) -> Tokens:
        """The synchronous face of the same state."""
        return self._tokens

    async def issue(
        self,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
        methods: Iterable[str] = (),
        device: str = "",
        client: Client | None = None,
        bind: str | None = None,
    ) -> TokenPair:
        """Begin a session; see `Tokens.issue`."""
        grants = Grants(roles=roles, scopes=scopes, claims=claims or {})
        new = flow.NewSession(
            subject, grants, tuple(methods), client or Client(device=device), bind
        )
        return await flow.begin(self._async_io(), self._core, new)

    async def verify(self, token: str | bytes) -> Principal:
        """Return who an access token speaks for; see `Tokens.verify`."""
        principal = self._tokens.peek(token)
        if not check.settled(self._core, principal):
            await check.confirm(self._async_io(), self._core, principal)
        return principal

    async def refresh(
        self, token: str | bytes, *, client: Client | None = None, bind: str | None = None
    ) -> TokenPair:
        """Exchange a refresh token; see `Tokens.refresh`."""
        return await flow.renew(self._async_io(), self._core, token, client or Client(), bind)

    async def revoke(self, session_id: str) -> bool:
        """End one session; see `Tokens.revoke`."""
        return await flow.end(self._async_io(), self._core, session_id)

    async def revoke_all(self, subject: str) -> int:
        """End all sessions of a user; see `Tokens.revoke_all`."""
        return await flow.end_all(self._async_io(), self._core, subject)

    async def sessions(self, subject: str) -> list[SessionInfo]:
        """List a user's live sessions; see `Tokens.sessions`."""
        return await flow.listed(self._async_io(), self._core, subject)

    async def user(self, principal: Principal) -> Any:
        """Return the application's object of a principal; see `Tokens.user`."""
        return await check.user_of(self._io, self._core, principal)

    def _async_io(self) -> AsyncIO:
        if self._tokens.store is None:
            raise _no_store()
        return self._io


def _no_store() -> InvalidArgument:
    return InvalidArgument(
        "store", "is needed for sessions", None, "Tokens(store=connect('redis://...'))"
    )
