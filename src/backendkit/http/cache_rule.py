"""Which responses are stored, for how long, under which key: framework-free.

A stored response is reached through a random token that `get_or_load` keeps for its URL: whoever invalidates the URL or
one of its tags drops the token, and with it all variants, also those that were computed before and are stored
after. What belongs to one user is not stored: nothing that was asked for with `Authorization` or cookies, unless
the rule says so, nothing that sets a cookie, nothing that is `private` or `no-store`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from urllib.parse import quote

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.context import current
from backendkit.core.errors import AppError, InvalidArgument
from backendkit.http.cache_control import CacheControl
from backendkit.http.response_store import ResponseStore, World
from backendkit.http.responses import Asked, Life, Response, read, wishes, written

STORABLE = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be stored without being told so (RFC 9110 section 15.1), 206 aside."""

TELLING = frozenset({405, 414, 501})
"""Those that are stored only where they say so: with `ttl` alone, one odd request would be answered for everybody."""

ERRORS = frozenset({500, 502, 503, 504})
"""Answers instead of which something stale may be served (RFC 5861 section 4)."""

CREDENTIALS = frozenset({
    "authorization", "proxy-authorization", "x-api-key", "api-key", "x-auth-token", "x-access-token", "x-forwarded-user",
    "x-forwarded-email", "x-forwarded-access-token", "x-forwarded-client-cert", "x-remote-user", "remote-user",
    "x-auth-request-user", "x-auth-request-email", "x-amzn-oidc-data", "x-goog-iap-jwt-assertion",
    "cf-access-jwt-assertion", "x-ms-client-principal",
})  # fmt: skip
"""Request headers that say who asks: of HTTP, of API keys, and those that proxies add who have asked for a login."""

KEYED = (
    "origin", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-scheme",
    "x-host", "x-original-url", "x-rewrite-url",
)  # fmt: skip
"""Request headers that tell applications where they are, or who embeds them, mostly without a word in `Vary`."""

LONGEST_S = 45 * 86_400


def _no_tags(asked: Asked) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRule:
    """What is stored, and how.

    Args:
        store: where; None: nowhere, tags and conditions only.
        ttl: whole seconds for which a response is fresh that does not say it itself; None: it is not stored.
        longest: seconds that nothing is kept beyond, whatever it says; 1 to 45 days.
        max_body: bytes; a larger body passes through as it comes, without tag and unstored.
        share_authorized: store what was asked for with `Authorization`, or another of `credentials`, for everybody.
        share_cookies: store what was asked for with cookies, for everybody.
        pass_for: seconds for which requests do not wait for one another where a response could not be stored.
        obey_requests: do what requests say in their `Cache-Control`; False: a client cannot make the application work.
        tags: returns what the responses to a request are invalidated by.
        credentials: request headers, in lower case, that say who asks.
        keyed: request headers, in lower case, that are part of every key, whatever `Vary` says.
        clock: for `Age`.
    """

    store: ResponseStore | None = None
    ttl: Duration | None = None
    longest: Duration = 86_400
    max_body: int = 1 << 20
    pass_for: Duration = 10
    share_authorized: bool = False
    share_cookies: bool = False
    obey_requests: bool = True
    tags: Callable[[Asked], Iterable[str]] = _no_tags
    credentials: Collection[str] = CREDENTIALS
    keyed: Sequence[str] = KEYED
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        checks.duration_us(
            "longest", self.longest, least_us=SECOND_US, most_us=LONGEST_S * SECOND_US
        )
        checks.whole("max_body", self.max_body)
        checks.duration_us("pass_for", self.pass_for, least_us=1_000)
        if self.ttl is not None:  # what responses say themselves is in whole seconds too
            checks.duration_us("ttl", self.ttl, least_us=SECOND_US, step_us=SECOND_US)
        for argument in ("credentials", "keyed"):
            names: object = getattr(self, argument)
            if isinstance(names, str) or any(name != name.lower() for name in cast("Any", names)):
                raise InvalidArgument(argument, "must be names in lower case", names)

    def shares(self, asked: Asked) -> bool:
        """Tell whether a request may be answered from the store, and its answer stored."""
        names = {name for name, _ in asked.headers}
        return (
            self.store is not None
            and asked.method in ("GET", "HEAD")
            and (
                self.share_authorized or not (asked.known or not names.isdisjoint(self.credentials))
            )
            and (self.share_cookies or "cookie" not in names)
            and names.isdisjoint(_ALONE)
            and asked.line("content-length") in (None, "", "0")
            and not (self.obey_requests and wishes(asked).no_store)
        )

    def life(self, asked: Asked, response: Response) -> Life | None:
        """Return for how long a response is stored, by its head, or None."""
        says = response.says
        pragma = "no-cache" in (response.line("pragma") or "") and not response.line(
            "cache-control"
        )
        if (
            asked.method != "GET"
            or response.status not in STORABLE
            or says.no_store or says.private or says.no_cache or pragma
            or response.line("set-cookie") is not None
            or "*" in response.vary
        ):  # fmt: skip
            return None
        now_s = self.clock.wall_us() // SECOND_US
        seconds, age = response.lifetime(now_s), response.age(now_s)
        if seconds is None and self.ttl is not None and response.status not in TELLING:
            seconds = checks.duration_us("ttl", self.ttl) // SECOND_US
        if seconds is None or seconds <= age:
            return None
        most = checks.duration_us("longest", self.longest) // SECOND_US
        strict = says.must_revalidate or says.proxy_revalidate
        revalidate = 0 if strict else says.stale_while_revalidate or 0
        error = 0 if strict else says.stale_if_error or 0
        return Life(age + min(most, seconds - age), min(most, revalidate), min(most, error))


class Stored(NamedTuple):
    """What the store has for a request.

    Attributes:
        response: None: nothing.
        age: its seconds.
        life: its terms.
        fresh: whether it is.
        place: where an answer belongs; None: nowhere.
        spot: the place of its variant, if it is known that there are any; else the same.
    """

    response: Response | None = None
    age: int = 0
    life: Life = Life(0, 0, 0)
    fresh: bool = False
    place: str | None = None
    spot: str = ""

    def aged(self) -> Response:
        """Return the response with its `Age`."""
        response = cast("Response", self.response)
        rest = [pair for pair in response.headers if pair[0].lower() != "age"]
        return response._replace(headers=[*rest, ("Age", str(self.age))])

    def serves(self, asked: Asked, rule: CacheRule) -> bool:
        """Tell whether it answers the request as it is."""
        if self.response is None:
            return False
        if not rule.obey_requests:
            return self.fresh
        wish = wishes(asked)
        left = self.life.fresh - self.age
        if wish.no_cache or (wish.max_age is not None and self.age > wish.max_age):
            return False
        if self.fresh:
            return left >= (wish.min_fresh or 0)
        says = self.response.says
        strict = says.must_revalidate or says.proxy_revalidate or says.s_maxage is not None
        return wish.max_stale is not None and not strict and -left <= wish.max_stale

    @property
    def helps(self) -> bool:
        """Whether it may be served instead of an error."""
        return self.response is not None and self.age - self.life.fresh < self.life.error


NOTHING = Stored()


Verdict: TypeAlias = Literal["serve", "refuse", "serve stale", "fetch"]

Outcome: TypeAlias = Literal["kept", "pass", "failed"]
"""What a response means for those who wait: it is stored, may not be, is an error's."""


def judge(rule: CacheRule, asked: Asked, stored: Stored) -> Verdict:
    """Say what becomes of a request: answered, refused with 504, answered and fetched anew, or fetched."""
    if stored.serves(asked, rule):
        return "serve"
    wish = wishes(asked) if rule.obey_requests else NO_WISH
    free = not wish.no_cache and wish.max_age is None and wish.min_fresh is None
    stale = stored.response is not None and not stored.fresh
    if free and stale and stored.age - stored.life.fresh < stored.life.revalidate:
        return "serve stale"
    return "refuse" if wish.only_if_cached else "fetch"


async def look(rule: CacheRule, asked: Asked, world: World | None) -> tuple[Verdict, Stored]:
    """Say what becomes of a request, and what the store has for it; a store that fails has nothing."""
    if world is None or not rule.shares(asked):
        return "fetch", NOTHING
    try:
        stored = await find(rule, asked, world)
    except AppError:
        return "fetch", NOTHING
    return judge(rule, asked, stored), stored


async def find(rule: CacheRule, asked: Asked, world: World) -> Stored:
    """Look for a stored response; two reads, three where it varies."""
    tags = tuple(rule.tags(asked))
    longest = checks.duration_us("longest", rule.longest) / SECOND_US
    token = await world.token(url_key(asked.url), 2 * longest, tags)
    place = _key("response", *asked.url, str(token), *_lines(rule.keyed, asked))
    spot = place
    record = await world.get(place)
    if isinstance(record, dict) and "vary" in record:
        found = cast("dict[str, Any]", record)
        spot = _key(place, *_lines(found["vary"], asked))
        record = await world.get(spot)
    kept = read(record)
    if kept is None:
        return Stored(place=place, spot=spot)
    response, at_us, life, name = kept
    age = max(0, (rule.clock.wall_us() - at_us) // SECOND_US)
    # Freshness is the store's to tell: it counts by one clock, where the processes' clocks may be minutes apart.
    fresh = not life.stale or await world.get(name) is not None
    age = min(age, life.fresh) if fresh else max(age, life.fresh)
    return Stored(response, age, life, fresh, place, spot)


async def keep(
    rule: CacheRule, asked: Asked, response: Response, stored: Stored, world: World | None
) -> Outcome:
    """Store a whole response, if it may be; say what that means for those who wait."""
    life = rule.life(asked, response)
    if response.status in ERRORS:
        return "failed"
    if world is None or stored.place is None or life is None or not _for_all(response):
        return "pass"
    place, names = stored.place, response.vary
    now_us = rule.clock.wall_us()
    age = response.age(now_us // SECOND_US)
    if names:
        await world.set(place, {"vary": names}, 2 * (life.fresh + life.stale))
        place = _key(place, *_lines(names, asked))
    flag = f"{place}:{secrets.token_hex(8)}"
    if life.stale:
        await world.set(flag, 1, life.fresh - age)
    record = written(response.lasting(), now_us - age * SECOND_US, life, flag)
    await world.set(place, record, life.fresh - age + life.stale)
    return "kept"


def _for_all(response: Response) -> bool:
    """Tell whether a response is whole, and nobody's own: a guard has not let in whom a cookie names."""
    request = current()
    return response.complete and not (request is not None and request.personal)


def url_key(url: Sequence[str]) -> str:
    """Return the key by which all stored responses of a URL are invalidated.

    Args:
        url: scheme, host with its port if it is written, path, query without `?`; as a client writes them.
    """
    scheme, host, path, query = url
    return _key("url", scheme.lower(), host.lower(), travelling(path), query)


def travelling(path: str | bytes) -> str:
    """Return an escaped path in one spelling of many (RFC 3986 section 6.2.2)."""
    return _PERCENT.sub(_respelled, quote(path, safe=f"%{_PLAIN}"))


def escaped(path: str | bytes) -> str:
    """Return a path that a server has unescaped, in the same spelling."""
    return quote(path, safe=_PLAIN)


def _respelled(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if char in _UNRESERVED else found[0].upper()


def changes(asked: Asked, status: int) -> bool:
    """Tell whether a request has changed what its URL shows (RFC 9111 section 4.4)."""
    return asked.method not in _SAFE and 200 <= status < 400


def _lines(names: Iterable[str], asked: Asked) -> Iterator[str]:
    """Walk what a request says in some headers; one that is not there differs from an empty one."""
    for name in names:
        lines = asked.lines(name)
        yield f"{name}=" + ",".join(line.strip() for line in lines) if lines else name


def _key(*parts: str) -> str:
    digest = blake2b(digest_size=20)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return "http:" + digest.hexdigest()


NO_WISH = CacheControl()
_ALONE = frozenset({
    "range", "if-match", "if-unmodified-since", "transfer-encoding", "x-http-method-override", "x-http-method", "x-method-override",
})  # fmt: skip
"""Whoever sends these asks the application: for a part, for a test of what there is now, with a body, for another method."""
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PLAIN = "/-._~!$&'()*+,;=:@"
_PERCENT = re.compile("%([0-9A-Fa-f]{2})")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
