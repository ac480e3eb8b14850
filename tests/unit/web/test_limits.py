"""Limits on the web: the same scenarios, headers and bodies in both frameworks and in every way to put a limit on."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.errors import Errors
from backendkit.flask.limits import limited as flask_limited
from backendkit.http import AsgiLimits, LimitRule, WsgiLimits, by_address, by_header
from backendkit.http.limit_asgi import WORLD
from backendkit.http.limits import admit, settle
from backendkit.http.visits import AsgiVisit
from backendkit.ratelimit import Concurrency, Limit, RateLimiter, SlidingBuckets
from backendkit.stores import MemoryStore
from tests.unit.web import limited
from tests.unit.web.drivers import Answer, Asgi, Driver, Wsgi

Make = Callable[[LimitRule], Any]

WHOLE: dict[str, tuple[type[Driver], Make]] = {
    "fastapi-middleware": (Asgi, limited.fastapi_whole),
    "flask-hook": (Wsgi, limited.flask_whole),
    "flask-wsgi": (Wsgi, limited.flask_wsgi),
}
WAYS: dict[str, tuple[type[Driver], Make]] = {
    **WHOLE,
    "fastapi-dependency": (Asgi, limited.fastapi_route),
    "flask-decorator": (Wsgi, limited.flask_route),
}

ways = pytest.mark.parametrize("way", WAYS)


def limiter(*limits: Limit | str, clock: ManualClock | None = None) -> RateLimiter:
    """A limiter of this test's own."""
    return RateLimiter(MemoryStore(clock=clock or ManualClock()), list(limits))


def driven(way: str, rule: LimitRule) -> Driver:
    """The application, limited this way."""
    driver, make = WAYS[way]
    return driver(make(rule))


def told(answer: Answer) -> tuple[str | None, ...]:
    """All that a response says about limits."""
    names = ("ratelimit-policy", "ratelimit", "retry-after", "x-ratelimit-limit")
    return tuple(answer.one(name) for name in names)


@ways
def test_headers_count_down_and_the_denial_is_an_envelope(way: str) -> None:
    """The figures are exact, and the same bytes in every framework."""
    clock = ManualClock()
    rule = LimitRule(
        limiter=limiter(Limit("burst", "2/second"), Limit("daily", "5/day"), clock=clock)
    )
    app = driven(way, rule)
    policy = '"burst";q=2;w=1, "daily";q=5;w=86400'
    assert told(app.get("/plain")) == (policy, '"burst";r=1;t=1, "daily";r=4;t=86400', None, None)
    assert told(app.get("/plain")) == (policy, '"burst";r=0;t=1, "daily";r=3;t=86400', None, None)
    denied = app.get("/plain")
    assert denied.status == 429
    assert told(denied) == (policy, '"burst";r=0;t=1, "daily";r=3;t=86400', "1", None)
    assert (
        denied.error["code"] == "RATE_LIMITED"
        if way in ("fastapi-dependency", "flask-decorator", "flask-hook")
        else True
    )
    clock.advance(1_000_000)
    assert app.get("/plain").status == 200


@ways
def test_the_problem_names_the_policies(way: str) -> None:
    """Clients that ask for problems get the registered type, and who was violated."""
    rule = LimitRule(limiter=limiter(Limit("burst", "1/second"), Limit("daily", "5/day")))
    app = driven(way, rule)
    app.get("/plain")
    denied = app.request("GET", "/plain", {"Accept": "application/problem+json"})
    problem = json.loads(denied.body)
    assert denied.one("content-type") == "application/problem+json"
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["violated-policies"] == ["burst"]
    assert problem["status"] == denied.status == 429


@ways
@pytest.mark.parametrize("path", ["/plain", "/router/plain", "/stream", "/wrong"])
def test_every_kind_of_route_is_limited(way: str, path: str) -> None:
    """Included routers, streams and failing handlers have limits and headers like the rest."""
    app = driven(way, LimitRule(limiter=limiter("1/minute")))
    first = app.get(path)
    assert first.status == {"/wrong": 401}.get(path, 200)
    assert first.one("ratelimit") == '"limit-1m";r=0;t=60'
    if path == "/stream":
        assert first.body == b"".join(limited.CHUNKS)
    assert app.get(path).status == 429


@pytest.mark.parametrize("way", WHOLE)
@pytest.mark.parametrize("path", ["/nowhere", "/mounted/plain"])
def test_unknown_paths_and_mounts_are_limited(way: str, path: str) -> None:
    """Scanning for paths costs quota as well."""
    app = driven(way, LimitRule(limiter=limiter("1/minute")))
    first = app.get(path)
    assert first.status == (200 if way.startswith("fastapi") and "mounted" in path else 404)
    assert first.one("ratelimit") == '"limit-1m";r=0;t=60'
    assert app.get(path).status == 429


@ways
def test_head_and_options_count_and_a_refused_head_has_no_body(way: str) -> None:
    """HEAD is a request like GET, less its body."""
    app = driven(way, LimitRule(limiter=limiter("2/minute")))
    assert app.request("HEAD", "/plain").status == 200
    assert app.request("OPTIONS", "/plain").status == 200
    denied = app.request("HEAD", "/plain")
    assert (denied.status, denied.body) == (429, b"")
    assert int(denied.one("content-length") or 0) > 0


@ways
def test_a_method_that_the_rule_does_not_name_is_free(way: str) -> None:
    """Writes may be limited alone."""
    app = driven(way, LimitRule(limiter=limiter("1/minute"), methods=frozenset({"post"})))
    assert [app.get("/plain").status for _ in range(3)] == [200] * 3
    assert app.get("/plain").one("ratelimit") is None
    assert [app.post("/plain", b"{}").status for _ in range(2)] == [200, 429]


@ways
def test_shadow_denies_nobody_and_says_so_to_hooks(way: str) -> None:
    """An operator sees what a limit would do before it does it."""
    events: list[Any] = []
    shadowed = limiter("1/minute")
    shadowed.hooks.add(events.append)
    app = driven(way, LimitRule(limiter=shadowed, shadow=True))
    assert [app.get("/plain").status for _ in range(3)] == [200] * 3
    assert [event.shadow for event in events] == [False, True, False, True]


@ways
def test_exempt_allow_and_deny(way: str) -> None:
    """Predicates and networks come before any count."""
    rule = LimitRule(
        limiter=limiter("1/minute"),
        exempt=lambda visit: "x-internal" in visit.lines("x-internal"),
        deny=lambda visit: bool(visit.lines("x-banned")),
    )
    app = driven(way, rule)
    for _ in range(3):
        assert app.request("GET", "/plain", {"X-Internal": "x-internal"}).status == 200
    assert app.request("GET", "/plain", {"X-Banned": "1"}).status == 403
    assert [app.get("/plain").status for _ in range(2)] == [200, 429]


@ways
def test_keys_and_tiers(way: str) -> None:
    """Each key has its own quota, a tier its own limiter, and a request without a key is free."""
    store = MemoryStore()
    basic, gold = (
        RateLimiter(store, [Limit("api", "1/minute")]),
        RateLimiter(store, [Limit("api", "3/minute")]),
    )
    rule = LimitRule(
        limiter=lambda visit: gold if visit.lines("x-gold") else basic, key=by_header("x-api-key")
    )
    app = driven(way, rule)

    def statuses(**headers: str) -> list[int]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return [app.request("GET", "/plain", given).status for _ in range(4)]

    assert statuses() == [200] * 4
    assert statuses(x_api_key="a") == [200, 429, 429, 429]
    assert statuses(x_api_key="a", x_gold="1") == [200, 200, 429, 429]  # the history came along
    assert statuses(x_api_key="b") == [200, 429, 429, 429]


@ways
def test_only_failures_count(way: str) -> None:
    """A success gives back what it reserved; a failure keeps it."""
    shared = limiter(Limit("login", "2/minute"))
    app = driven(way, LimitRule(limiter=shared, failures_only=True))
    assert [app.get("/plain").status for _ in range(5)] == [200] * 5
    assert [app.get("/wrong").status for _ in range(3)] == [401, 401, 429]
    assert app.get("/plain").status == 429


@ways
def test_a_seat_is_held_until_the_response_is_over(way: str) -> None:
    """By a stream until its last chunk; and given back after errors as well."""
    seats = limiter(Limit("jobs", 1, per=60, algorithm=Concurrency()))
    seen: list[int] = []

    def key(_visit: Any) -> str:
        seen.append(seats.peek("who").remaining)
        return "who"

    app = driven(way, LimitRule(limiter=seats, key=key))
    paths = ["/plain", "/wrong", "/stream", "/plain"]
    answers = [app.get(path) for path in paths]
    assert [answer.status for answer in answers] == [200, 401, 200, 200]
    assert seen == [1] * 4
    policy = '"jobs";q=1;qu="concurrent-requests";w=60'
    assert {answer.one("ratelimit-policy") for answer in answers} == {policy}
    taken = seats.hit("who")
    assert app.get("/plain").status == 429
    seats.cancel(taken)
    assert app.get("/plain").status == 200


def test_a_seat_is_held_meanwhile() -> None:
    """While a response is on its way, by chunk or by message, its seat is taken; in every kind of middleware."""
    seats = limiter(Limit("jobs", 1, per=60, algorithm=Concurrency()))
    rule = LimitRule(limiter=seats, key=lambda _: "who")
    left: list[int] = []

    def wsgi(_environ: Any, start: Any) -> Any:
        start("200 OK", [])
        for _ in range(2):
            left.append(seats.peek("who").remaining)
            yield b"chunk"

    async def asgi(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, False):
            left.append(seats.peek("who").remaining)
            await send({"type": "http.response.body", "body": b"chunk", "more_body": more})

    flask = Flask("seats")
    flask.add_url_rule(
        "/", view_func=flask_limited(rule)(lambda: Response(wsgi({}, lambda *_: None)))
    )
    for answer in (
        Wsgi(WsgiLimits(wsgi, rule)).get("/"),
        Asgi(AsgiLimits(asgi, rule)).get("/"),
        Wsgi(flask).get("/"),
    ):
        assert (answer.status, answer.body) == (200, b"chunkchunk")
        assert seats.peek("who").remaining == 1
    assert left == [0] * 6


def test_seats_are_given_back_and_units_are_not() -> None:
    """So they stand in rules of their own."""
    seats = Limit("jobs", 1, per=60, algorithm=Concurrency())
    for wrong in (
        {"limiter": limiter(seats, "1/minute")},
        {"limiter": limiter(seats), "failures_only": True},
    ):
        with pytest.raises(InvalidArgument):
            LimitRule(**wrong)
    mixed = limiter(seats, "1/minute")
    with pytest.raises(InvalidArgument):
        asyncio.run(admit(LimitRule(limiter=lambda _: mixed), AsgiVisit(SCOPE), WORLD))
    assert mixed.peek("127.0.0.1").remaining == 1


def test_a_limiter_counts_a_request_once() -> None:
    """However many rules ask it, in whatever layer."""
    shared = limiter("9/minute")
    rules = [LimitRule(limiter=shared, key=lambda _: "who") for _ in range(3)]
    visit = AsgiVisit(dict(SCOPE))

    async def play() -> list[bool]:
        return [(await admit(rule, visit, WORLD)).decision is not None for rule in rules]

    assert asyncio.run(play()) == [True, False, False]
    assert shared.peek("who").remaining == 8


@pytest.mark.parametrize(("status", "left"), [(200, 1), (399, 1), (400, 0), (500, 0)])
def test_a_failure_begins_at_400(status: int, left: int) -> None:
    """Redirects and whatever is not modified are successes."""
    shared = limiter("1/minute")
    rule = LimitRule(limiter=shared, key=lambda _: "who", failures_only=True)

    async def play() -> None:
        await settle(await admit(rule, AsgiVisit(dict(SCOPE)), WORLD), status, WORLD)

    asyncio.run(play())
    assert shared.peek("who").remaining == left


SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}


@ways
@pytest.mark.parametrize(("style", "name"), [("legacy", "x-ratelimit-limit"), ("off", None)])
def test_other_styles_of_headers(way: str, style: Any, name: str | None) -> None:
    """Old clients read old names; some want none."""
    app = driven(way, LimitRule(limiter=limiter("1/minute"), headers=style))
    answer = app.get("/plain")
    said = [key for key, _ in answer.headers if "ratelimit" in key]
    assert said == ([] if name is None else [name, "x-ratelimit-remaining", "x-ratelimit-reset"])
    denied = app.get("/plain")
    assert denied.one("retry-after") == "60"


@ways
def test_invented_addresses_are_one_client(way: str) -> None:
    """Without trusted proxies the header is anybody's invention."""
    app = driven(way, LimitRule(limiter=limiter("3/minute"), key=by_address()))
    statuses = [
        app.request("GET", "/plain", {"X-Forwarded-For": f"10.0.{n}.1"}).status for n in range(5)
    ]
    assert statuses == [200, 200, 200, 429, 429]


@ways
def test_switched_off_it_limits_nobody(way: str) -> None:
    """An application's tests can go about their own business."""
    switched = limiter("1/minute")
    app = driven(way, LimitRule(limiter=switched))
    switched.enabled = False
    assert [app.get("/plain").status for _ in range(3)] == [200] * 3
    switched.enabled = True
    assert [app.get("/plain").status for _ in range(2)] == [200, 429]


def test_a_hundred_thousand_invented_addresses_are_one_key() -> None:
    """And leave nothing behind but one entry."""
    key, store = by_address(), MemoryStore()
    limited_ = RateLimiter(store, "5/minute")

    class Visited:
        peer = "::ffff:192.0.2.1"
        invented = ""

        def lines(self, name: str) -> list[str]:
            return [self.invented] if name == "x-forwarded-for" else []

    visit: Any = Visited()
    keys = set()
    for n in range(100_000):
        visit.invented = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        keys.add(key(visit))
    assert keys == {"192.0.2.1"}
    limited_.hit(keys.pop())
    assert store.stats().entries == 1


GUESSES = 50


def guessed(rule: LimitRule, status: int, *, chunks: int = 1) -> tuple[list[int], int]:
    """Answers to so many requests at once at an application that takes its time, and how many reached it."""
    reached = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal reached
        reached += 1
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": status, "headers": []})
        for left in range(chunks - 1, -1, -1):
            await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b"x", "more_body": left > 0})

    whole = AsgiLimits(app, rule)
    statuses: list[int] = []

    async def one() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await whole(scope_of("/login"), _nothing, send)

    async def play() -> None:
        await asyncio.gather(*[one() for _ in range(GUESSES)])

    asyncio.run(play())
    return statuses, reached


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def scope_of(path: str) -> dict[str, Any]:
    """A request."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [],
        "client": ("127.0.0.1", 1),
    }


def test_fifty_failures_at_once_reach_the_handler_five_times() -> None:
    """Places are taken before it is known how the request ends."""
    shared = RateLimiter(MemoryStore(), "5/minute")
    statuses, reached = guessed(LimitRule(limiter=shared, failures_only=True), 401)
    assert (statuses.count(401), statuses.count(429), reached) == (5, 45, 5)


@pytest.mark.parametrize("chunks", [1, 10])
def test_fifty_successes_at_once_wait_their_turn(chunks: int) -> None:
    """All pass, and the quota is full afterwards; a stream is decided when it ends."""
    shared = RateLimiter(MemoryStore(), "5/minute")
    rule = LimitRule(limiter=shared, failures_only=True, max_wait=60)
    statuses, reached = guessed(rule, 200, chunks=chunks)
    assert (statuses, reached) == ([200] * GUESSES, GUESSES)
    assert shared.peek("127.0.0.1").remaining == 5


@pytest.mark.parametrize(
    ("begun", "counts"), [(None, 1), (200, 0), (401, 1)], ids=["before", "success", "failure"]
)
def test_a_client_that_hangs_up(begun: int | None, counts: int) -> None:
    """What had begun well is given back; what never began may have been a guess, and counts. The next is served."""
    shared = RateLimiter(MemoryStore(), "5/minute")
    arrived: asyncio.Event

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun is not None:
            await send({"type": "http.response.start", "status": begun, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        arrived.set()
        await asyncio.Event().wait()

    whole = AsgiLimits(app, LimitRule(limiter=shared, failures_only=True))

    async def send(message: Any) -> None:
        return None

    async def play() -> None:
        nonlocal arrived
        arrived = asyncio.Event()
        task = asyncio.create_task(whole(scope_of("/login"), _nothing, send))
        await arrived.wait()
        assert shared.peek("127.0.0.1").remaining == 4
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(play())
    assert shared.peek("127.0.0.1").remaining == 5 - counts


def test_headers_are_the_same_bytes_however_a_limit_is_put_on() -> None:
    """For admissions, denials and problems, in every style."""
    for style in ("ietf", "legacy"):
        said: set[str] = set()
        for way in WAYS:
            clock = ManualClock()
            limits = [Limit("burst", "2/second"), Limit('da"ily\\', "5/day")]
            rule = LimitRule(limiter=limiter(*limits, clock=clock), headers=style)
            app = driven(way, rule)
            lines = []
            for path in ("/plain", "/stream", "/plain", "/router/plain"):
                answer = app.get(path)
                clock.advance(123_456)
                lines += [
                    (answer.status, name, value)
                    for name, value in answer.headers
                    if "ratelimit" in name or name == "retry-after"
                ]
            said.add(repr(lines))
        assert len(said) == 1, said


class Socket:
    """A client of a websocket."""

    def __init__(self, *texts: str, responses: bool = False) -> None:
        self.incoming: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        self.incoming += [{"type": "websocket.receive", "text": text} for text in texts]
        self.incoming.append({"type": "websocket.disconnect", "code": 1000})
        self.sent: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/socket",
            "raw_path": b"/socket",
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}} if responses else {},
        }

    def run(self, app: Any) -> list[str]:
        """Play it and return the types of what was sent."""

        async def receive() -> dict[str, Any]:
            return self.incoming.pop(0)

        async def send(message: Any) -> None:
            self.sent.append(message)

        asyncio.run(app(self.scope, receive, send))
        return [message["type"] for message in self.sent]


@pytest.mark.parametrize("way", ["fastapi-middleware", "fastapi-dependency"])
def test_sockets_are_limited_at_connect(way: str) -> None:
    """One connection too many is refused before it opens: with a response where the server can."""
    app = WAYS[way][1](LimitRule(limiter=limiter("1/minute")))
    first = Socket("hello")
    assert first.run(app)[:2] == ["websocket.accept", "websocket.send"]
    plain, able = Socket(), Socket(responses=True)
    assert plain.run(app) == ["websocket.close"]
    assert plain.sent[0]["code"] == 1008
    assert able.run(app) == ["websocket.http.response.start", "websocket.http.response.body"]
    assert able.sent[0]["status"] == 429


def test_sockets_are_limited_per_message() -> None:
    """One message too many closes the socket."""
    messages = LimitRule(limiter=limiter("2/minute"))
    app = AsgiLimits(
        limited.fastapi_route(LimitRule(limiter=limiter("9/minute"))),
        LimitRule(limiter=limiter("9/minute")),
        errors=Errors(),
        messages=messages,
    )
    chatty = Socket("a", "b", "c")
    types = chatty.run(app)
    assert types == ["websocket.accept", "websocket.send", "websocket.send", "websocket.close"]
    assert chatty.sent[-1]["code"] == 1008


def test_retry_after_is_whole_seconds_and_never_too_early() -> None:
    """A client that waits as told is admitted, whatever the fraction."""
    clock = ManualClock()
    app = driven(
        "flask-hook",
        LimitRule(
            limiter=limiter(Limit("b", 3, per=1.7, algorithm=SlidingBuckets(7)), clock=clock)
        ),
    )
    for step in (0, 300_000, 123_456):
        clock.advance(step)
        app.get("/plain")
    denied = app.get("/plain")
    waits = int(denied.one("retry-after") or 0)
    assert denied.status == 429
    assert waits >= int((denied.one("ratelimit") or "").rpartition("t=")[2])
    clock.advance(math.ceil(waits) * 1_000_000)
    assert app.get("/plain").status == 200
