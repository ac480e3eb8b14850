"""Which responses are stored, for how long, under which key: framework-free.

A stored response is reached through a random token that `get_or_load` keeps for its URL: whoever invalidates the URL or
one of its tags drops the token, and with it all variants, also those that were computed before and are stored
after. What belongs to one user is not stored: nothing that was asked for with `Authorization` or cookies, unless
the rule says so, nothing that sets a cookie, nothing that is `private` or `no-store`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.http.cache_control import CacheControl
from backendkit.http.response_store import ResponseStore, World
from backendkit.http.responses import Asked, Life, Response, read, wishes, written

STORABLE = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that may be stored without being told so (RFC 9110 section 15.1), 206 aside."""

ERRORS = frozenset({500, 502, 503, 504})
"""Answers instead of which something stale may be served (RFC 5861 section 4)."""


def _no_tags(asked: Asked) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRule:
    """What is stored, and how.

    Args:
        store: where; None: nowhere, tags and conditions only.
        ttl: seconds for which a response is fresh that does not say it itself; None: it is not stored.
        longest: seconds that nothing is kept beyond, whatever it says.
        max_body: bytes; a larger body passes through as it comes, without tag and unstored.
        share_authorized: store what was asked for with `Authorization`, for everybody.
        share_cookies: store what was asked for with cookies, for everybody.
        pass_for: seconds for which requests do not wait for one another where a response could not be stored.
        obey_requests: do what requests say in their `Cache-Control`; False: a client cannot make the application work.
        tags: returns what the responses to a request are invalidated by.
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
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        checks.duration_us("longest", self.longest)
        checks.whole("max_body", self.max_body)
        checks.duration_us("pass_for", self.pass_for, least_us=1_000)
        if self.ttl is not None:
            checks.duration_us("ttl", self.ttl)

    def shares(self, asked: Asked) -> bool:
        """Tell whether a request may be answered from the store, and its answer stored."""
        names = {name for name, _ in asked.headers}
        return (
            self.store is not None
            and asked.method in ("GET", "HEAD")
            and "range" not in names
            and (self.share_authorized or "authorization" not in names)
            and (self.share_cookies or "cookie" not in names)
            and not (self.obey_requests and wishes(asked).no_store)
        )

    def life(self, asked: Asked, response: Response) -> Life | None:
        """Return for how long a response is stored, or None."""
        says = response.says
        if (
            asked.method != "GET"
            or response.status not in STORABLE
            or says.no_store or says.private or says.no_cache
            or response.line("set-cookie") is not None
            or "*" in response.vary
        ):  # fmt: skip
            return None
        seconds = says.max_age if says.s_maxage is None else says.s_maxage
        if seconds is None and self.ttl is not None:
            seconds = checks.duration_us("ttl", self.ttl) // SECOND_US
        if not seconds:
            return None
        most = checks.duration_us("longest", self.longest) // SECOND_US
        strict = says.must_revalidate or says.proxy_revalidate
        revalidate = 0 if strict else says.stale_while_revalidate or 0
        error = 0 if strict else says.stale_if_error or 0
        return Life(*(min(most, each) for each in (seconds, revalidate, error)))


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
        strict = self.response.says.must_revalidate
        return wish.max_stale is not None and not strict and -left <= wish.max_stale

    @property
    def helps(self) -> bool:
        """Whether it may be served instead of an error."""
        return self.response is not None and self.age - self.life.fresh < self.life.error


NOTHING = Stored()


Verdict: TypeAlias = Literal["serve", "refuse", "serve stale", "fetch"]


def judge(rule: CacheRule, asked: Asked, stored: Stored) -> Verdict:
    """Say what becomes of a request: answered, refused with 504, answered and fetched anew, or fetched."""
    if stored.place is None:
        return "fetch"
    if stored.serves(asked, rule):
        return "serve"
    wish = wishes(asked) if rule.obey_requests else NO_WISH
    if wish.only_if_cached:
        return "refuse"
    free = not wish.no_cache and wish.max_age is None and wish.min_fresh is None
    stale = stored.response is not None and not stored.fresh
    if free and stale and stored.age - stored.life.fresh < stored.life.revalidate:
        return "serve stale"
    return "fetch"


async def find(rule: CacheRule, asked: Asked, world: World) -> Stored:
    """Look for a stored response; two reads, three where it varies."""
    tags = tuple(rule.tags(asked))
    longest = checks.duration_us("longest", rule.longest) / SECOND_US
    token = await world.token(url_key(asked.url), 2 * longest, tags)
    place = _key("response", *asked.url, token)
    spot = place
    record = await world.get(place)
    if isinstance(record, dict) and "vary" in record:
        found = cast("dict[str, Any]", record)
        spot = _variant(place, found["vary"], asked)
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
    rule: CacheRule, asked: Asked, response: Response, stored: Stored, world: World
) -> None:
    """Store a response, if it may be."""
    life = rule.life(asked, response) if stored.place is not None else None
    if life is None or stored.place is None:
        return
    place, names = stored.place, response.vary
    if names:
        await world.set(place, {"vary": names}, 2 * (life.fresh + life.stale))
        place = _variant(place, names, asked)
    flag = f"{place}:{secrets.token_hex(8)}"
    if life.stale:
        await world.set(flag, 1, life.fresh)
    await world.set(
        place, written(response, rule.clock.wall_us(), life, flag), life.fresh + life.stale
    )


def url_key(url: Sequence[str]) -> str:
    """Return the key by which all stored responses of a URL are invalidated: scheme, host, path, query."""
    return _key("url", *url)


def changes(asked: Asked, status: int) -> bool:
    """Tell whether a request has changed what its URL shows (RFC 9111 section 4.4)."""
    return asked.method not in _SAFE and 200 <= status < 400


def _variant(place: str, names: Sequence[str], asked: Asked) -> str:
    values = (",".join(part.strip() for part in asked.lines(name)) for name in names)
    return _key(place, *(f"{name}={value}" for name, value in zip(names, values, strict=True)))


def _key(*parts: str) -> str:
    digest = blake2b(digest_size=20)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return "http:" + digest.hexdigest()


NO_WISH = CacheControl()
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
