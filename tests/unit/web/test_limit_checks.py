"""A configuration that would limit wrongly is refused before it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from flask import Flask

import backendkit.fastapi
import backendkit.flask
from backendkit.core.errors import InvalidArgument
from backendkit.fastapi import AsgiLimits, RateLimit
from backendkit.flask import WsgiLimits
from backendkit.http import by_address
from backendkit.http.limit_checks import check_limits
from backendkit.http.limits import LimitRule
from backendkit.kit import Kit
from backendkit.ratelimit import RateLimiter
from backendkit.settings import Settings, web_concurrency
from backendkit.stores import MemoryStore, connect
from tests.ground.single import Single
from tests.unit.web.drivers import Asgi, Wsgi


def test_memory_is_for_one_worker() -> None:
    """Else each worker admits the whole limit."""
    rule = LimitRule(limiter=RateLimiter(MemoryStore(), "5/minute"))
    check_limits([rule])
    with pytest.raises(ValueError, match="workers must be 1 where limits are kept in memory"):
        check_limits([rule], workers=2)


def test_a_limiter_stands_in_one_rule() -> None:
    """A request would be counted once where twice was meant."""
    shared = RateLimiter(MemoryStore(), "5/minute")
    rules = [
        LimitRule(limiter=shared),
        LimitRule(limiter=shared),
        LimitRule(limiter=lambda _: None),
    ]
    with pytest.raises(ValueError, match="rules must not share a limiter"):
        check_limits(rules)


def test_a_redis_that_evicts_is_refused(own_redis: Callable[..., Single]) -> None:
    """Its policy would forget usage as soon as memory is short."""
    single = own_redis()
    rule = LimitRule(limiter=RateLimiter(connect(single.url, timeout=5), "5/minute"))
    check_limits([rule], workers=4)
    single.server.command("CONFIG", "SET", "maxmemory", "100mb")
    check_limits([rule])
    single.server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ValueError, match="maxmemory-policy must not evict"):
        check_limits([rule])
    single.server.kill()
    check_limits([rule])


def test_a_history_stands_in_one_rule() -> None:
    """Two limiters of one name would count a request twice; unless no request meets both."""
    store = MemoryStore()
    reads, writes = frozenset({"GET"}), frozenset({"POST"})

    def rule(name: str, methods: frozenset[str] | None = None, text: str = "5/minute") -> LimitRule:
        return LimitRule(limiter=RateLimiter(store, text, name=name), methods=methods)

    with pytest.raises(ValueError, match="rules must not count a request twice"):
        check_limits([rule("a"), rule("b"), rule("a")])
    check_limits([rule("a"), rule("b"), rule("a", text="5/hour")])
    check_limits([rule("a", reads), rule("a", writes)])
    check_limits([rule("a"), LimitRule(limiter=RateLimiter(MemoryStore(), "5/minute", name="a"))])


def test_a_redis_that_forgets_what_has_a_time_to_live_is_told(
    own_redis: Callable[..., Single], caplog: pytest.LogCaptureFixture
) -> None:
    """Many a managed server comes like this."""
    single = own_redis("maxmemory 100mb", "maxmemory-policy volatile-lru")
    check_limits([LimitRule(limiter=RateLimiter(connect(single.url, timeout=5), "5/minute"))])
    assert "volatile-lru" in caplog.text


# At start


def started(app: Any) -> None:
    """Begin and end an application's lifespan."""

    async def play() -> None:
        async with app.router.lifespan_context(app):
            pass

    app.middleware_stack = app.build_middleware_stack()
    asyncio.run(play())


def kit(**ratelimit: Any) -> Kit:
    """A kit whose limits are shared as said."""
    return Kit(Settings(ratelimit=ratelimit))


@pytest.fixture
def shared() -> LimitRule:
    """A rule that is used twice."""
    return LimitRule(limiter=RateLimiter(MemoryStore(), "5/minute"))


@pytest.mark.parametrize("twice", [False, True])
def test_fastapi_does_not_start_with_limits_that_count_wrongly(
    shared: LimitRule, *, twice: bool
) -> None:
    """Middleware and a route's dependency, also of an included router."""
    app = FastAPI()
    backendkit.fastapi.install(app, kit())
    router = APIRouter()

    @router.get("/a")
    def a() -> None: ...

    app.include_router(router, prefix="/x", dependencies=[Depends(RateLimit(shared))])
    if not twice:
        started(app)
        return
    app.add_middleware(AsgiLimits, rule=shared)
    with pytest.raises(InvalidArgument, match="rules must not share a limiter"):
        started(app)


def test_fastapi_shares_a_limiter_between_routes(shared: LimitRule) -> None:
    """No request meets both; messages are counted apart from connections."""
    app = FastAPI()
    backendkit.fastapi.install(app, kit())
    for path in ("/a", "/b"):
        app.get(path)(backendkit.fastapi.limited(shared)(lambda: None))
    messages = LimitRule(limiter=RateLimiter(MemoryStore(), "5/minute"))
    app.add_middleware(
        AsgiLimits, rule=LimitRule(limiter=lambda _: None), errors=None, messages=messages
    )
    started(app)


@pytest.mark.parametrize("way", ["setting", "WEB_CONCURRENCY"])
def test_fastapi_does_not_start_with_a_memory_for_each_worker(
    shared: LimitRule, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would admit the whole limit."""
    monkeypatch.setenv("WEB_CONCURRENCY", "2" if way == "WEB_CONCURRENCY" else "")
    app = FastAPI(dependencies=[Depends(RateLimit(shared))])
    backendkit.fastapi.install(app, kit(nodes=2) if way == "setting" else kit())

    @app.get("/a")
    def a() -> None: ...

    with pytest.raises(InvalidArgument, match="workers must be 1"):
        started(app)


@pytest.mark.parametrize(("told", "meant"), [("", 1), ("3", 3), ("0", 1), ("many", 1), ("-2", 1)])
def test_the_number_of_workers_is_read(
    told: str, meant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As servers read it."""
    monkeypatch.setenv("WEB_CONCURRENCY", told)
    assert web_concurrency() == meant


@pytest.mark.parametrize("where", ["hook", "inside", "outside", "twice"])
def test_flask_serves_nothing_with_limits_that_count_wrongly(shared: LimitRule, where: str) -> None:
    """A view's decorator beside a hook, WSGI layers, and another decorator."""
    app = Flask("wrong")
    if where == "inside":
        app.wsgi_app = WsgiLimits(app.wsgi_app, shared)  # type: ignore[method-assign,assignment]
    backendkit.flask.install(app, kit())
    if where == "outside":
        app.wsgi_app = WsgiLimits(app.wsgi_app, shared)  # type: ignore[method-assign,assignment]
    if where == "hook":
        backendkit.flask.limit_app(app, shared)

    def view() -> str:
        return "it works"

    limited = backendkit.flask.limited(shared)(view)
    if where == "twice":
        other = LimitRule(limiter=shared.limiter)
        limited = backendkit.flask.limited(other)(limited)
    app.get("/a")(limited)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="rules must not share a limiter"):
            Wsgi(app).get("/a")


def test_flask_serves_what_is_decorated_once_more(shared: LimitRule) -> None:
    """By a decorator that copies all that it finds on the view; and other views may share the limiter."""
    app = Flask("right")
    backendkit.flask.install(app, kit())

    @backendkit.flask.limited(shared)
    def view() -> str:
        return "it works"

    @wraps(view)
    def around() -> str:
        return view()

    app.get("/a")(around)
    app.get("/b", endpoint="b")(backendkit.flask.limited(shared)(lambda: "it works"))
    assert [Wsgi(app).get(path).status for path in ("/a", "/b")] == [200, 200]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_a_proxy_that_is_not_trusted_is_told_of_once(
    header: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All its clients would count as one; nothing is said where a proxy is trusted, or no header comes."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    def asked(rule: LimitRule, headers: dict[str, str]) -> int:
        caplog.clear()
        app = Asgi(AsgiLimits(bare, rule))
        with caplog.at_level(logging.WARNING, "backendkit.ratelimit"):
            for _ in range(3):
                app.request("GET", "/", headers)
        return len(caplog.records)

    def rule(**trust: Any) -> LimitRule:
        return LimitRule(limiter=RateLimiter(MemoryStore(), "50/minute"), key=by_address(**trust))

    seen = {header: "192.0.2.1"}
    assert asked(rule(), seen) == 1
    assert "by_address(trusted=" in caplog.text
    assert asked(rule(), {}) == 0
    assert asked(rule(trusted=["10.0.0.0/8"]), seen) == 0
    assert asked(rule(hops=1), seen) == 0
