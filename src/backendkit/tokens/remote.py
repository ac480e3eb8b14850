"""The keys of another issuer, from the URL where it publishes them, and the verifier of its tokens.

One fetch serves all who wait for it. A token with an unknown key id asks anew, for keys rotate, and whoever invents
key ids makes us ask once in ten seconds at most. A set that is old is asked for by one caller while the others go on
with what is there; where that fails it serves on, for a day at the most.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, cast

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import InvalidArgument, ServiceUnavailable
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.flow import IO, AsyncIO, SyncIO, step
from backendkit.core.fork import remake_after_fork
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import AsyncStore, Store
from backendkit.tokens.encoding import load_object
from backendkit.tokens.errors import InvalidToken, KeyRefused
from backendkit.tokens.events import KeySetFailed
from backendkit.tokens.fetch import LARGEST_BODY, Answer, Transport, checked_url, https
from backendkit.tokens.keys import Key
from backendkit.tokens.ring import KeyRing, Snapshot
from backendkit.tokens.verifier import Verifier

PAUSE_US = 10 * SECOND_US
"""Between two requests for one key set."""

SHORTEST_AGE_US = 60 * SECOND_US
"""A set is kept for so long, whatever its `Cache-Control` says."""

MOST_KEYS = 100
"""Keys of a set that are looked at; reading one takes up to a tenth of a millisecond."""

_OK, _NOT_MODIFIED = 200, 304
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])")


class _Known(NamedTuple):
    """A key set as it was last fetched; times by the monotonic clock."""

    snapshot: Snapshot
    digest: bytes
    etag: str
    fetched_us: int
    fresh_until_us: int


class Way(NamedTuple):
    """How one colour asks."""

    io: IO
    transport: Transport


class RemoteKeys:
    """Another issuer's key set; one object per URL serves a whole process, threads and event loops.

    Args:
        url: of the JWK Set; https.
        alg: of keys that name none, as some issuers' RSA keys do.
        max_age: a set is asked for again after so long, or sooner if its `Cache-Control` says so; 60 s to a day.
        max_stale: where asking fails, an old set serves for so long after it was fetched, from `max_age`.
        transport: fetches; None: the standard library.
        loopback: allows plain http to this machine, for tests.
        clock: measures ages.
        hooks: told of fetches that fail.

    Keys that are not for signatures, or of a kind that is not known, are passed over; symmetric ones always are.
    """

    def __init__(
        self,
        url: str,
        *,
        alg: str | None = None,
        max_age: Duration = 3_600,
        max_stale: Duration = 86_400,
        transport: Transport | None = None,
        loopback: bool = False,
        clock: Clock | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        day = 86_400 * SECOND_US
        self.url = checked_url(url, loopback=loopback)
        self.hooks = hooks or Hooks()
        self._alg = alg
        self._max_age_us = checks.duration_us(
            "max_age", max_age, least_us=SHORTEST_AGE_US, most_us=day
        )
        self._max_stale_us = checks.duration_us("max_stale", max_stale, least_us=self._max_age_us)
        self._clock: Clock = clock or SystemClock()
        self._known: _Known | None = None
        self._asked_us: int | None = None
        self._transport = transport or https(self._clock)
        # A key set has no store: its flow only calls and shares.
        flights = Flights()
        self._way = Way(SyncIO(cast("Store", None), self._clock, flights), self._transport)
        aio = AsyncIO(cast("AsyncStore", None), self._clock, flights)
        self._aio = AsyncRemoteKeys(self, Way(aio, _awaitable(self._transport)))
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget the lock: the thread that may have held it is not here."""
        self._lock = threading.Lock()

    @property
    def aio(self) -> AsyncRemoteKeys:
        """The asynchronous face of the same set."""
        return self._aio

    @property
    def snapshot(self) -> Snapshot:
        """The keys as they are known now, without asking anybody; none before the first fetch."""
        known = self._known
        return _NONE if known is None else known.snapshot

    def ensure(self) -> None:
        """Fetch the set if there is none, or if it is old; blocks. At start-up it tells whether the issuer answers.

        Raises:
            ServiceUnavailable: there is no set, or it is older than `max_stale`, and it cannot be fetched.
        """
        step(self.ensured(self.way))

    @property
    def way(self) -> Way:
        """How the blocking side asks."""
        if inspect.iscoroutinefunction(self._transport):
            raise InvalidArgument(
                "transport", "is asynchronous, and this is not", "async def", "use `.aio`"
            )
        return self._way

    async def ensured(self, way: Way, *, unknown_kid: bool = False) -> None:
        """Do what both faces' `ensure` do; `unknown_kid`: a token named a key that the set does not hold."""
        now = self._clock.mono_us()
        known, asked = self._known, self._asked_us
        if known is not None and now < known.fresh_until_us and not unknown_kid:
            return
        old = known is not None and now - known.fetched_us < self._max_stale_us
        rests = asked is not None and now - asked < PAUSE_US
        if not (old and rests and not unknown_kid):
            outcome = await way.io.share(self.url, lambda: self._fetch(way))
            if isinstance(outcome, Error):
                outcome.unwrap()
        known = self._known
        if known is None or now - known.fetched_us >= self._max_stale_us:
            raise ServiceUnavailable(
                "the issuer's keys are not available", retry_after=PAUSE_US / SECOND_US
            )

    async def _fetch(self, way: Way) -> Outcome[None]:
        now = self._clock.mono_us()
        with self._lock:
            if self._asked_us is not None and now - self._asked_us < PAUSE_US:
                return Value(None)
            self._asked_us = now
        known = self._known
        headers = {"Accept": "application/jwk-set+json, application/json"}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        outcome = await way.io.call(lambda: way.transport(self.url, headers))
        try:
            self._known = self._read(outcome.unwrap(), now)
        except Exception as error:  # noqa: BLE001 - a transport may raise anything
            reason = str(error) if isinstance(error, KeyRefused) else type(error).__name__
            self.hooks.emit(KeySetFailed(self.url, reason, stale=known is not None))
        return Value(None)

    def _read(self, answer: Answer, now: int) -> _Known:
        known = self._known
        fresh_until = now + self._age_us(answer.headers.get("cache-control", ""))
        if answer.status == _NOT_MODIFIED and known is not None:
            return known._replace(fetched_us=now, fresh_until_us=fresh_until)
        if answer.status != _OK:
            raise KeyRefused(f"the key set was answered with status {answer.status}")
        if len(answer.body) > LARGEST_BODY:
            raise KeyRefused(f"the key set is larger than {LARGEST_BODY} bytes")
        digest = sha256(answer.body).digest()
        same = known is not None and known.digest == digest
        # The same snapshot for the same bytes: verifiers forget what they remember when it changes.
        snapshot = known.snapshot if known is not None and same else self._keys(answer.body)
        return _Known(snapshot, digest, answer.headers.get("etag", ""), now, fresh_until)

    def _keys(self, body: bytes) -> Snapshot:
        try:
            listed: object = load_object(body).get("keys")
        except ValueError:
            raise KeyRefused("the key set is no JSON object") from None
        if not isinstance(listed, list):
            raise KeyRefused("the key set has no list of keys")
        found = [
            key
            for jwk in cast("list[object]", listed)[:MOST_KEYS]
            if (key := _usable(jwk, self._alg)) is not None
        ]
        return KeyRing(found).snapshot

    def _age_us(self, cache_control: str) -> int:
        found = _MAX_AGE.search(cache_control.lower())
        said = self._max_age_us if found is None else int(found[1]) * SECOND_US
        return min(max(said, SHORTEST_AGE_US), self._max_age_us)

    def __repr__(self) -> str:
        return f"RemoteKeys({self.url!r}, {list(self.snapshot.by_kid)!r})"


class AsyncRemoteKeys:
    """The asynchronous face of a `RemoteKeys`; a blocking transport runs in a thread."""

    __slots__ = ("_keys", "way")

    def __init__(self, keys: RemoteKeys, way: Way) -> None:
        self._keys = keys
        self.way = way

    @property
    def sync(self) -> RemoteKeys:
        """The synchronous face of the same set."""
        return self._keys

    async def ensure(self) -> None:
        """Fetch the set if need be; see `RemoteKeys.ensure`."""
        await self._keys.ensured(self.way)


class RemoteVerifier:
    """Checks the tokens of an issuer whose keys come from a URL.

    Args:
        keys: of the issuer.
        issuer: what `iss` must be, exactly.
        audience: what `aud` must hold one of.
        typ: what the header's `typ` must be; None: anything. May be absent, as with the many issuers that leave it out.
        require: claims that must be there.
        clock: the source of now.

    A token under a key that is known costs no request; see `RemoteKeys`.
    """

    def __init__(
        self,
        keys: RemoteKeys,
        *,
        issuer: str,
        audience: str | Iterable[str],
        typ: str | None = None,
        require: Iterable[str] = ("iss", "sub", "exp"),
        clock: Clock | None = None,
    ) -> None:
        self.keys = keys
        self._verifier = Verifier(
            keys, issuer=issuer, audience=audience, typ=typ, typ_optional=True, require=require,
            clock=clock,
        )  # fmt: skip
        self._aio = AsyncRemoteVerifier(self)

    @property
    def aio(self) -> AsyncRemoteVerifier:
        """The asynchronous face of the same verifier."""
        return self._aio

    def verify(self, token: str | bytes) -> Mapping[str, Any]:
        """Return the claims of a token; blocks where keys have to be fetched.

        Raises:
            TokenExpired, InvalidToken: 401.
            ServiceUnavailable: 503: the issuer's keys cannot be had.
        """
        return step(self.verified(self.keys.way, token))

    async def verified(self, way: Way, token: str | bytes) -> Mapping[str, Any]:
        """Do what both faces' `verify` do."""
        await self.keys.ensured(way)
        try:
            return self._verifier.verify(token)
        except InvalidToken as refused:
            if refused.reason != _UNKNOWN_KID:
                raise
        await self.keys.ensured(way, unknown_kid=True)
        return self._verifier.verify(token)

    def __repr__(self) -> str:
        return f"RemoteVerifier({self.keys!r})"


class AsyncRemoteVerifier:
    """The asynchronous face of a `RemoteVerifier`."""

    __slots__ = ("_remote",)

    def __init__(self, remote: RemoteVerifier) -> None:
        self._remote = remote

    @property
    def sync(self) -> RemoteVerifier:
        """The synchronous face of the same verifier."""
        return self._remote

    async def verify(self, token: str | bytes) -> Mapping[str, Any]:
        """Return the claims of a token; see `RemoteVerifier.verify`."""
        return await self._remote.verified(self._remote.keys.aio.way, token)


def _awaitable(transport: Transport) -> Transport:
    if inspect.iscoroutinefunction(transport):
        return transport
    return lambda url, headers: asyncio.to_thread(transport, url, headers)


def _usable(jwk: object, alg: str | None) -> Key | None:
    """Return a foreign key that can check signatures, or None: a set may hold keys for other purposes."""
    if not isinstance(jwk, Mapping):
        return None
    members = cast("Mapping[str, Any]", jwk)
    if members.get("kty") == "oct":
        return None
    try:
        return Key.from_jwk(members, None if "alg" in members else alg)
    except KeyRefused:
        return None


_UNKNOWN_KID = "kid"
_NONE = Snapshot(())
"""No keys."""
