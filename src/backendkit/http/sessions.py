"""Login, refresh, logout and the list of sessions on the web: every decision and every byte of it, without a framework.

An application brings one function, `authenticate`; an adapter mounts `ROUTES` and hands each request over. Without a
`CookiePolicy` tokens travel in JSON bodies; with one they travel in cookies, no script ever sees them, and requests
have to prove that our own pages sent them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from backendkit.core import context
from backendkit.core.errors import InvalidArgument
from backendkit.errors import NotFound, validation_error
from backendkit.http.body import parse_typed
from backendkit.http.client import ClientAddress
from backendkit.http.login import (
    Authenticate,
    Login,
    LoginBody,
    LoginRefused,
    RefreshBody,
    Unpickled,
)
from backendkit.http.tokens import (
    CookiePolicy,
    Gate,
    Incoming,
    check_origin,
    cookie,
    csrf_token,
    double_submit,
    renewed_csrf,
)
from backendkit.logging.audit import audit
from backendkit.tokens import (
    AsyncTokens,
    Client,
    NotAuthenticated,
    Principal,
    SessionInfo,
    TokenError,
    TokenPair,
    TokenReused,
    Tokens,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

LARGEST_BODY = 16 * 1024
"""Bytes of a body here, which adapters read no further; two tokens at their longest."""


class SessionUnknown(NotFound):
    """The user has no session of this id; somebody else's is as unknown as none."""

    code = "SESSION_NOT_FOUND"
    message = "There is no such session"


@dataclass(frozen=True, slots=True)
class Answer(Unpickled):
    """What an adapter sends; `repr` shows nothing of it, for it may hold tokens."""

    status: int
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Call(Unpickled):
    """A request to one of the routes: what it says of itself, its body, and the session that its path names."""

    visit: Incoming
    body: bytes = field(default=b"", repr=False)
    session_id: str = ""


class World(NamedTuple):
    """What the flows ask: one of the faces of tokens, and the application's function of the same colour."""

    face: Tokens | AsyncTokens
    authenticate: Authenticate


class SessionFlows:
    """What each route does; adapters hand requests in and answers out.

    Args:
        tokens: with a store.
        cookies: None: tokens travel in bodies.
        address: finds a client's address behind trusted proxies; None: the peer's.
        prefix: of the routes; None: the cookies', or `/auth`.

    Raises:
        InvalidArgument: no store; or a prefix that browsers would not send the refresh cookie to.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        cookies: CookiePolicy | None = None,
        address: ClientAddress | None = None,
        prefix: str | None = None,
    ) -> None:
        if tokens.store is None:
            raise InvalidArgument("tokens", "must have a store: sessions live in it", tokens)
        self.prefix = prefix or (cookies.prefix if cookies is not None else "/auth")
        if cookies is not None and cookies.prefix != self.prefix:
            fix = "CookiePolicy(prefix=...) is the path of these routes."
            raise InvalidArgument("prefix", "must be the cookies'", self.prefix, fix)
        self.tokens = tokens
        self.cookies = cookies
        self._address = address or ClientAddress()
        self._gate = Gate(tokens, cookies=cookies)

    async def login(self, world: World, call: Call) -> Answer:
        """Begin a session for whom the application knows."""
        if self.cookies is not None:
            check_origin(call.visit, self.cookies)
        form = _parsed(LoginBody, call)
        client = self._client(call.visit, form.device)
        login = Login(
            username=form.username, password=form.password, code=form.code, client=client, more=form.model_extra or {},
        )  # fmt: skip
        who = await _settled(world.authenticate(login))
        if who is None:
            audit("session.login", "user", "failure", address=client.address)
            raise LoginRefused
        context.bind(user_id=who.subject)
        # ASVS 5.0, 7.2.4: whoever logs in anew leaves the session before; first, so that a failure leaves none behind.
        await self._end_previous(world, call.visit)
        pair = await _settled(
            world.face.issue(
                who.subject, roles=who.roles, scopes=who.scopes, claims=who.claims, methods=who.methods, client=client,
            )
        )  # fmt: skip
        audit("session.login", f"user:{who.subject}", "success", address=client.address)
        return self._handed_out(pair, csrf_token(self.tokens.secret, pair.session_id))

    async def refresh(self, world: World, call: Call) -> Answer:
        """Exchange a refresh token; one that is of no use any more leaves no cookies behind."""
        token, csrf = self._presented(call)
        with self._clearing():
            known = self.tokens.peek_refresh(token)
        sid = known.session_id or ""
        if self.cookies is not None:
            csrf = double_submit(call.visit, sid, self.cookies, self.tokens.secret)
        context.bind(user_id=known.subject)
        client = self._client(call.visit)
        try:
            with self._clearing():
                pair = await _settled(world.face.refresh(token, client=client))
        except TokenReused:
            audit("session.refresh", f"user:{known.subject}", "denied", address=client.address)
            raise
        return self._handed_out(pair, renewed_csrf(self.tokens.secret, sid, csrf) if csrf else "")

    async def logout(self, world: World, call: Call) -> Answer:
        """End the session of the token that came; one that is over already is as good (RFC 7009 section 2.2)."""
        known = await self._leaving(world, call)
        if known is not None and known.session_id is not None:
            context.bind(user_id=known.subject)
            await _settled(world.face.revoke(known.session_id))
            audit("session.logout", f"user:{known.subject}", "success")
        return self._gone()

    async def logout_all(self, world: World, call: Call) -> Answer:
        """End all sessions of the user, on all devices."""
        user = await self._user(world, call)
        count = await _settled(world.face.revoke_all(user.subject))
        audit("session.logout_all", f"user:{user.subject}", "success", sessions=count)
        return self._gone()

    async def sessions(self, world: World, call: Call) -> Answer:
        """List the sessions of the user."""
        user = await self._user(world, call)
        found = await _settled(world.face.sessions(user.subject))
        return _json({"sessions": [_told(one, user.session_id) for one in found]})

    async def revoke(self, world: World, call: Call) -> Answer:
        """End one session of the user's."""
        user = await self._user(world, call)
        mine = {one.id for one in await _settled(world.face.sessions(user.subject))}
        if call.session_id not in mine or not await _settled(world.face.revoke(call.session_id)):
            raise SessionUnknown
        audit("session.revoke", f"user:{user.subject}", "success")
        return self._gone(clear=call.session_id == user.session_id)

    @contextmanager
    def _clearing(self) -> Generator[None]:
        """Have the cookies of a refused refresh token cleared: each further request would bring them in vain."""
        try:
            yield
        except TokenError as error:
            if self.cookies is not None:
                error.cookies = tuple(self.cookies.clear())
            raise

    async def _user(self, world: World, call: Call) -> Principal:
        found = self._gate.credential(call.visit)
        assert found is not None  # noqa: S101 - it is not optional
        return self._gate.let_in(await _settled(world.face.verify(found.token)), found, call.visit)

    def _presented(self, call: Call) -> tuple[str, str]:
        """Return the refresh token of a request."""
        if self.cookies is None:
            return _parsed(RefreshBody, call).refresh_token, ""
        check_origin(call.visit, self.cookies)
        token = cookie(call.visit.lines("cookie"), self.cookies.refresh)
        if token is None:
            raise NotAuthenticated("no refresh token")
        return token, ""

    async def _leaving(self, world: World, call: Call) -> Principal | None:
        visit = call.visit
        if visit.lines("authorization"):
            return await self._user(world, call)
        if self.cookies is None:
            if not call.body:
                raise NotAuthenticated("no credentials")
            return _peeked(self.tokens.peek_refresh, _parsed(RefreshBody, call).refresh_token)
        check_origin(visit, self.cookies)
        known = self._previous(visit)
        if known is not None:
            double_submit(visit, known.session_id, self.cookies, self.tokens.secret)
        return known

    async def _end_previous(self, world: World, visit: Incoming) -> None:
        try:
            known = None if self.cookies is None else self._previous(visit)
        except TokenError:  # cookies that a neighbouring host has planted must not keep anybody out
            return
        if known is not None and known.session_id is not None:
            await _settled(world.face.revoke(known.session_id))

    def _previous(self, visit: Incoming) -> Principal | None:
        """Return whose session the cookies of a request are of; None: they are none of ours."""
        assert self.cookies is not None  # noqa: S101 - the callers looked
        sent = visit.lines("cookie")
        refresh = cookie(sent, self.cookies.refresh)
        access = cookie(sent, self.cookies.access)
        known = None if refresh is None else _peeked(self.tokens.peek_refresh, refresh)
        return known or (None if access is None else _peeked(self.tokens.peek, access))

    def _client(self, visit: Incoming, device: str = "") -> Client:
        header = self._address.header
        lines = visit.lines(header) if self._address.trusts else ()
        agents = visit.lines("user-agent")
        address = self._address.find(visit.peer, lines)
        return Client(device=device, agent=agents[0] if agents else "", address=address)

    def _handed_out(self, pair: TokenPair, csrf: str) -> Answer:
        if self.cookies is None:
            return _json(pair.as_dict())
        said = {
            "expires_in": pair.expires_in,
            "refresh_expires_in": pair.refresh_expires_in,
            "session_id": pair.session_id,
            "csrf_token": csrf,
        }
        return _json(said, self.cookies.set(pair, csrf))

    def _gone(self, *, clear: bool = True) -> Answer:
        lines = self.cookies.clear() if self.cookies is not None and clear else []
        return Answer(204, [_NO_STORE, *_cookies(lines)])


class Route(NamedTuple):
    """One route: an adapter mounts it and calls the flow."""

    method: str
    path: str
    name: str
    flow: Callable[[SessionFlows, World, Call], Awaitable[Answer]]
    status: int = 200
    body: type[BaseModel] | None = None
    guarded: bool = False


ROUTES = (
    Route("POST", "/login", "login", SessionFlows.login, body=LoginBody),
    Route("POST", "/refresh", "refresh", SessionFlows.refresh, body=RefreshBody),
    Route("POST", "/logout", "logout", SessionFlows.logout, 204, RefreshBody),
    Route("POST", "/logout/all", "logout_all", SessionFlows.logout_all, 204, guarded=True),
    Route("GET", "/sessions", "sessions", SessionFlows.sessions, guarded=True),
    Route("DELETE", "/sessions/{session_id}", "revoke", SessionFlows.revoke, 204, guarded=True),
)
"""What is mounted, under the prefix."""


_NO_STORE = ("Cache-Control", "no-store")
"""RFC 6749 section 5.1, of everything here."""


async def _settled(value: Awaitable[T] | T) -> T:
    """Await what the asynchronous face gives; what the other gives is there. Never suspends for that one."""
    given: Any = value
    settled: T = await given if isawaitable(given) else given
    return settled


def _parsed(model: type[M], call: Call) -> M:
    types = call.visit.lines("content-type")
    if not call.body:
        raise validation_error([{"type": "missing", "loc": ()}], place="body")
    value = parse_typed(call.body, types[0] if types else None)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    # Outside of the handler: the chain would carry what the client sent into a log.
    raise validation_error(found, place="body", body=value)


def _peeked(peek: Callable[[str], Principal], token: str) -> Principal | None:
    try:
        return peek(token)
    except TokenError:
        return None


def _told(one: SessionInfo, current: str | None) -> dict[str, Any]:
    return {
        "id": one.id,
        "current": one.id == current,
        "created_at": int(one.created_at),
        "refreshed_at": int(one.refreshed_at),
        "expires_at": int(one.expires_at),
        "device": one.device,
        "agent": one.agent,
        "address": one.address,
        "refreshes": one.refreshes,
    }


def _cookies(lines: Iterable[str]) -> list[tuple[str, str]]:
    return [("Set-Cookie", line) for line in lines]


def _json(value: Mapping[str, Any], lines: Iterable[str] = ()) -> Answer:
    headers = [("Content-Type", "application/json"), _NO_STORE, *_cookies(lines)]
    return Answer(200, headers, json.dumps(value, separators=(",", ":")).encode())
