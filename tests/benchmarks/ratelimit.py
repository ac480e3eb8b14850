"""Rate limiting beside redis-py's bare EVALSHA, and beside the libraries that one would use instead."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import redis
from fastapi import FastAPI
from flask import Flask

from backendkit.core.clock import ManualClock
from backendkit.core.store import StoreStats
from backendkit.fastapi import AsgiLimits
from backendkit.flask import WsgiLimits
from backendkit.http import LimitRule
from backendkit.ratelimit import Limit, RateLimiter
from backendkit.stores import MemoryStore, connect
from tests.benchmarks.measure import duel, median_cost
from tests.benchmarks.report import Row, write
from tests.ground.single import Single

TASKS = 64
PLENTY = 1_000
"""Units per window of limits that are never reached while measured: the window is short."""

TEXT = """
A hit of ours returns the decision and all that headers need; what peers need more calls for is measured with these
calls, as their own integrations make them. The floor is redis-py's `evalsha` of `return {1, 2, 3}`. Lower is better.
"""

Work = Callable[[int], None]


def page() -> str:
    """Measure everything and write the page."""
    with Single() as single:
        url = single.url
        rows = [
            *_blocking(url),
            *_awaiting(url),
            *_memory(),
            *_remembered(url),
            *_fastapi(url),
            *_flask(url),
            *_paused(single),
            *_many_keys(),
        ]
    packages = ["redis", "limits", "slowapi", "flask-limiter", "throttled-py", "pyrate-limiter"]
    return write("ratelimit", "Rate limiting", TEXT, rows, packages)


def _blocking(url: str) -> Iterator[Row]:
    theirs = redis.Redis.from_url(url)
    digest = str(theirs.script_load("return {1, 2, 3}"))

    def floor(calls: int) -> None:
        for _ in range(calls):
            theirs.evalsha(digest, 1, b"bench:{theirs}", 1)

    cases = {
        "one limit": ([Limit("a", PLENTY, per=0.05)], 1.0, 0.8),
        "three limits": ([Limit(f"l{n}", PLENTY, per=0.05 * (n + 1)) for n in range(3)], 1.5, 1.5),
    }
    for name, (limits, wall, cpu) in cases.items():
        limiter = RateLimiter(connect(url, timeout=5), limits, name=name.replace(" ", "-"))
        ours = _hits(limiter)
        result = duel(ours, floor, 1_000)
        yield _row(f"{name}, Redis (wall)", result.ours.wall, "EVALSHA", result.theirs.wall, wall)
        yield _row(f"{name}, Redis (CPU)", result.ours.cpu, "EVALSHA", result.theirs.cpu, cpu)
        for rival, work in _limits_redis(url, len(limits)):
            result = duel(ours, work, 400, rounds=5)
            yield _row(f"{name}, Redis (CPU)", result.ours.cpu, rival, result.theirs.cpu, 0.5)
        limiter.store.close()
    theirs.close()


def _limits_redis(url: str, count: int) -> Iterator[tuple[str, Work]]:
    with _there("limits") as limits:
        if limits:
            strategies = import_module("limits.strategies")
            limiter = strategies.MovingWindowRateLimiter(limits.storage.storage_from_string(url))
            items = [limits.RateLimitItemPerSecond(PLENTY, n + 1, "bench") for n in range(count)]

            def work(calls: int) -> None:
                for _ in range(calls):
                    for item in items:
                        limiter.hit(item, "user:42")
                        limiter.get_window_stats(item, "user:42")

            yield "limits, with stats", work
    with _there("throttled") as throttled:
        if throttled and count == 1:
            throttle = throttled.Throttled(
                key="user:42",
                using=throttled.RateLimiterType.GCRA.value,
                quota=throttled.per_sec(PLENTY, burst=PLENTY),
                store=throttled.RedisStore(server=url),
            )
            yield "throttled-py GCRA", _repeat(throttle.limit)


def _awaiting(url: str) -> Iterator[Row]:
    with _there("limits.aio.strategies") as strategies, asyncio.Runner() as runner:
        limiter = RateLimiter(connect(url, timeout=5), Limit("a", PLENTY, per=0.01), name="aio")

        async def ours() -> object:
            return await limiter.aio.hit("user:42")

        if strategies:
            limits = import_module("limits")
            storage = limits.storage.storage_from_string(f"async+{url}", implementation="redispy")
            moving = strategies.MovingWindowRateLimiter(storage)
            item = limits.RateLimitItemPerSecond(PLENTY, 1, "bench-aio")

            async def theirs() -> object:
                return await moving.hit(item, "user:42")

            result = duel(_together(runner, ours), _together(runner, theirs), 30)
            what = f"{TASKS} concurrent hits"
            yield _row(f"{what} (wall)", result.ours.wall, "limits.aio", result.theirs.wall, 0.25)
            yield _row(f"{what} (CPU)", result.ours.cpu, "limits.aio", result.theirs.cpu, 0.25)
        runner.run(limiter.store.aio.close())


def _memory() -> Iterator[Row]:
    limiter = RateLimiter(MemoryStore(), Limit("a", PLENTY, per=0.001), deny_cache_max=0)
    ours = _hits(limiter)
    yield _bound("memory store, one hit (CPU)", median_cost(ours, 20_000).cpu, 2.0)
    with _there("limits") as limits:
        if limits:
            strategies = import_module("limits.strategies")
            moving = strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
            item = limits.RateLimitItemPerSecond(PLENTY**2, 1, "bench")
            result = duel(ours, _repeat(lambda: moving.hit(item, "user:42")), 5_000)
            yield _row(
                "memory store, one hit (CPU)", result.ours.cpu, "limits", result.theirs.cpu, 0.5
            )
    with _there("throttled") as throttled:
        if throttled:
            throttle = throttled.Throttled(
                key="user:42",
                using=throttled.RateLimiterType.GCRA.value,
                quota=throttled.per_sec(PLENTY**2, burst=PLENTY**2),
                store=throttled.MemoryStore(),
            )
            result = duel(ours, _repeat(throttle.limit), 5_000)
            yield _row(
                "memory store, one hit (CPU)",
                result.ours.cpu,
                "throttled-py",
                result.theirs.cpu,
                0.5,
            )
    with _there("pyrate_limiter") as pyrate:
        if pyrate:
            bucket = pyrate.Limiter(pyrate.Rate(PLENTY**2, 1000))
            work = _repeat(lambda: bucket.try_acquire("user:42", blocking=False))
            result = duel(ours, work, 2_000)
            yield _row(
                "memory store, one hit (CPU)",
                result.ours.cpu,
                "pyrate-limiter",
                result.theirs.cpu,
                0.5,
            )


def _remembered(url: str) -> Iterator[Row]:
    store = connect(url, timeout=5)
    limiter = RateLimiter(store, Limit("a", 1, per=600), name="remembered", deny_cache_max=600)
    limiter.hit("user:42")
    limiter.hit("user:42")
    before = store.stats().operations
    yield _bound("remembered denial (CPU)", median_cost(_hits(limiter), 20_000).cpu, 3.0)
    trips = store.stats().operations - before
    yield Row("remembered denials, round trips", str(trips), "bound", "0", float(trips), 0.0)
    store.close()


def _fastapi(url: str) -> Iterator[Row]:
    def bare() -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def root() -> dict[str, bool]:
            return {"ok": True}

        return app

    for name, store, bound in (
        ("memory", MemoryStore(), 25.0),
        ("Redis", connect(url, timeout=5), 120.0),
    ):
        limiter = RateLimiter(store, Limit("a", PLENTY, per=0.05), name="fastapi")
        limited = AsgiLimits(bare(), LimitRule(limiter=limiter))
        with asyncio.Runner() as runner:
            plain = bare()
            result = duel(_served(runner, limited), _served(runner, plain), 500)
            added = result.ours.cpu - result.theirs.cpu
            yield _bound(f"FastAPI, {name}, added per request (CPU)", added, bound)
            runner.run(store.aio.close())
    with _there("slowapi") as slowapi, asyncio.Runner() as runner:
        if slowapi:
            app = _slow(slowapi)
            limiter = RateLimiter(MemoryStore(), Limit("a", PLENTY, per=0.05))
            ours = AsgiLimits(bare(), LimitRule(limiter=limiter))
            plain = bare()
            mine = duel(_served(runner, ours), _served(runner, plain), 500)
            theirs = duel(_served(runner, app), _served(runner, plain), 500)
            yield _row(
                "FastAPI, memory, added per request (CPU)",
                mine.ours.cpu - mine.theirs.cpu,
                "slowapi",
                theirs.ours.cpu - theirs.theirs.cpu,
                0.5,
            )


def _slow(slowapi: Any) -> FastAPI:
    from starlette.requests import Request

    app = FastAPI()
    limiter = slowapi.Limiter(
        key_func=lambda: "user:42", headers_enabled=True, strategy="moving-window"
    )
    app.state.limiter = limiter

    async def root(request: Request) -> Any:
        from fastapi.responses import JSONResponse

        return JSONResponse({"ok": True})

    root.__annotations__ = {"request": Request}
    app.get("/")(limiter.limit(f"{PLENTY}/second")(root))
    return app


def _flask(url: str) -> Iterator[Row]:
    def bare() -> Flask:
        app = Flask("bench")

        @app.get("/")
        def root() -> dict[str, bool]:
            return {"ok": True}

        return app

    for name, store, bound in (
        ("memory", MemoryStore(), 40.0),
        ("Redis", connect(url, timeout=5), 120.0),
    ):
        limiter = RateLimiter(store, Limit("a", PLENTY, per=0.05), name="flask")
        limited = WsgiLimits(bare().wsgi_app, LimitRule(limiter=limiter))
        result = duel(_called(limited), _called(bare().wsgi_app), 500)
        added = result.ours.cpu - result.theirs.cpu
        yield _bound(f"Flask, {name}, added per request (CPU)", added, bound)
        store.close()
    with _there("flask_limiter") as flask_limiter:
        if flask_limiter:
            app = bare()
            flask_limiter.Limiter(
                lambda: "user:42",
                app=app,
                default_limits=[f"{PLENTY}/second"],
                headers_enabled=True,
                strategy="moving-window",
                storage_uri="memory://",
            )
            limiter = RateLimiter(MemoryStore(), Limit("a", PLENTY, per=0.05))
            limited = WsgiLimits(bare().wsgi_app, LimitRule(limiter=limiter))
            plain = bare().wsgi_app
            mine = duel(_called(limited), _called(plain), 500)
            theirs = duel(_called(app.wsgi_app), _called(plain), 500)
            yield _row(
                "Flask, memory, added per request (CPU)",
                mine.ours.cpu - mine.theirs.cpu,
                "flask-limiter",
                theirs.ours.cpu - theirs.theirs.cpu,
                0.5,
            )


def _paused(single: Single) -> Iterator[Row]:
    limiter = RateLimiter(connect(single.url, timeout=0.1), Limit("a", PLENTY, per=1))
    limiter.hit("user:42")
    with single.server.paused():
        waits: list[float] = []
        for _ in range(1_000):
            begun = time.perf_counter()
            limiter.hit("user:42")
            waits.append((time.perf_counter() - begun) * 1000)
    slow = [wait for wait in waits if wait > 10]
    quick = sorted(wait for wait in waits if wait <= 10)
    middle = quick[len(quick) // 2]
    yield Row(
        "paused Redis, a hit that waits",
        f"{max(slow):.0f} ms",
        "bound",
        "110 ms",
        max(slow) / 110,
        1.0,
    )
    yield Row("paused Redis, hits that wait", str(len(slow)), "bound", "2", len(slow) / 2, 1.0)
    yield Row(
        "paused Redis, any other hit", f"{middle:.4f} ms", "bound", "0.1 ms", middle / 0.1, 1.0
    )
    limiter.store.close()


KEYS = 1_000_000


def _many_keys() -> Iterator[Row]:
    threads = threading.active_count()
    gc.disable()  # its stalls are the interpreter's, and in proportion to all that the process holds
    first, _ = _fill()
    second, stats = _fill()
    gc.enable()
    # Time is the test's own, so both runs do the same work at the same key: what stalls only one of them is the
    # machine's doing, which stalls a loop that does nothing for as long.
    worst = max(map(min, first, second)) / 1e6
    yield Row("a million keys, worst hit (CPU)", f"{worst:.2f} ms", "bound", "1 ms", worst, 1.0)
    mega = stats.bytes / 2**20
    yield Row("a million keys, accounted", f"{mega:.0f} MiB", "bound", "1024 MiB", mega / 1024, 1.0)
    started = max(0, threading.active_count() - threads)
    yield Row("a million keys, threads started", str(started), "bound", "0", float(started), 0.0)


def _fill() -> tuple[list[int], StoreStats]:
    """Hit once with each of many keys, 8 us apart; return what each hit took, in ns of CPU."""
    clock = ManualClock()
    store = MemoryStore(max_entries=KEYS, max_bytes=1 << 30, clock=clock)
    limiter = RateLimiter(store, Limit("a", 10, per=60))
    waits = [0] * KEYS
    for n in range(KEYS):
        clock.advance(8)
        begun = time.thread_time_ns()
        limiter.hit(f"user:{n}")
        waits[n] = time.thread_time_ns() - begun
    return waits, store.stats()


def _hits(limiter: RateLimiter) -> Work:
    def work(calls: int) -> None:
        hit = limiter.hit
        for _ in range(calls):
            hit("user:42")

    return work


def _repeat(call: Callable[[], object]) -> Work:
    def work(calls: int) -> None:
        for _ in range(calls):
            call()

    return work


def _together(runner: asyncio.Runner, call: Callable[[], Awaitable[object]]) -> Work:
    async def rounds(calls: int) -> None:
        for _ in range(calls):
            await asyncio.gather(*(call() for _ in range(TASKS)))

    return lambda calls: runner.run(rounds(calls))


def _served(runner: asyncio.Runner, app: Any) -> Work:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"host", b"test")],
        "client": ("192.0.2.1", 1),
        "server": ("test", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        return None

    async def rounds(calls: int) -> None:
        for _ in range(calls):
            await app(dict(scope), receive, send)

    return lambda calls: runner.run(rounds(calls))


def _called(app: Any) -> Work:
    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder("/").get_environ() | {"REMOTE_ADDR": "192.0.2.1"}

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        return None

    def work(calls: int) -> None:
        for _ in range(calls):
            body = app(dict(environ), start)
            b"".join(body)
            close = getattr(body, "close", None)
            if close is not None:
                close()

    return work


@contextmanager
def _there(name: str) -> Iterator[Any]:
    """Import a rival, or yield None where it is not installed (`pip install backendkit[bench]`)."""
    try:
        found: Any = import_module(name)
    except ModuleNotFoundError:
        found = None
    yield found


def _row(what: str, ours: float, rival: str, theirs: float, target: float) -> Row:
    return Row(what, f"{ours:.1f} us", rival, f"{theirs:.1f} us", ours / theirs, target)


def _bound(what: str, us: float, bound: float) -> Row:
    return Row(what, f"{us:.2f} us", "bound", f"{bound:g} us", us / bound, 1.0)
