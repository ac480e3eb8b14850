"""Token pairs for users of an application: `Tokens`, and `tokens.aio` over the same state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.flow import AsyncIO, SyncIO, step
from backendkit.core.keys import KeySpace
from backendkit.core.store import Store
from backendkit.tokens import flow
from backendkit.tokens.claims import ACCESS_CLAIMS
from backendkit.tokens.mint import ACCESS_TYPE, REFRESH_TYPE, Mint, check_subject, claims_of
from backendkit.tokens.policy import TokenPolicy
from backendkit.tokens.principal import Client, Grants, Principal, SessionInfo, TokenPair
from backendkit.tokens.recent import Recent
from backendkit.tokens.ring import KeyRing
from backendkit.tokens.secrets import SecretRing
from backendkit.tokens.verifier import Verifier

REMEMBERED_EPOCHS = 50_000
"""Users whose epoch is remembered at least; about 200 bytes each."""


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
        loader: flow.Loader | None = None,
        policy: TokenPolicy | None = None,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
        namespace: str = "bk",
    ) -> None:
        self.policy = policy or TokenPolicy()
        self.keys = keys
        self.secret = secret
        self._clock: Clock = clock or (store.clock if store is not None else SystemClock())
        audience = audience if isinstance(audience, str) else tuple(audience)
        if not issuer or not audience:
            raise InvalidArgument("issuer", "and audience must not be empty", issuer)
        mint = Mint(
            keys, issuer=issuer, audience=audience, life_us=self.policy.access_us, clock=self._clock
        )
        access = Verifier(
            keys,
            issuer=issuer,
            audience=audience,
            typ=ACCESS_TYPE,
            require=ACCESS_CLAIMS,
            clock=self._clock,
        )
        refresh = Verifier(
            secret.keys("refresh"), issuer=issuer, audience=issuer, typ=REFRESH_TYPE,
            require=("iss", "sub", "aud", "sid", "gen", "at"), clock=_Timeless(),
        )  # fmt: skip
        mode = self.policy.check or ("stateless" if store is None else "epoch")
        if store is None and mode != "stateless":
            raise InvalidArgument(
                "check", "needs a store", mode, "pass store=, or check='stateless'"
            )
        self._core = flow.Core(
            policy=self.policy, mode=mode, issuer=issuer, mint=mint, access=access, refresh=refresh,
            secret=secret, space=KeySpace("tokens", version=1, kind="user", namespace=namespace),
            loader=loader, clock=self._clock, hooks=hooks or Hooks(), epochs=Recent(REMEMBERED_EPOCHS),
        )  # fmt: skip
        self.store = store
        flights = Flights()
        self._io = None if store is None else SyncIO(store, self._clock, flights)
        aio = None if store is None else AsyncIO(store.aio, self._clock, flights)
        self._aio = AsyncTokens(self, self._core, aio)

    @property
    def aio(self) -> AsyncTokens:
        """The asynchronous face of the same state."""
        return self._aio

    @property
    def clock(self) -> Clock:
        """Dates access tokens."""
        return self._clock

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
        return self._core.mint.access(check_subject(subject), granted, epoch=self._clock.wall_us())

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
        if not flow.settled(self._core, principal):
            step(flow.confirm(self._sync_io(), self._core, principal))
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

    def _sync_io(self) -> SyncIO:
        if self._io is None:
            raise _no_store()
        return self._io

    def __repr__(self) -> str:
        return f"Tokens(issuer={self._core.issuer!r}, check={self._core.mode!r})"


class AsyncTokens:
    """The asynchronous face of a `Tokens`; methods, arguments and errors are the same."""

    __slots__ = ("_core", "_io", "_tokens")

    def __init__(self, tokens: Tokens, core: flow.Core, io: AsyncIO | None) -> None:
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
        if not flow.settled(self._core, principal):
            await flow.confirm(self._async_io(), self._core, principal)
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

    def _async_io(self) -> AsyncIO:
        if self._io is None:
            raise _no_store()
        return self._io


def _no_store() -> InvalidArgument:
    return InvalidArgument(
        "store", "is needed for sessions", None, "Tokens(store=connect('redis://...'))"
    )


class _Timeless(SystemClock):
    """The clock of refresh tokens: whether one has expired is decided by the store's clock, in the script."""

    __slots__ = ()

    def wall_us(self) -> int:
        return 0
