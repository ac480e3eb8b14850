"""The cache: hits of both tiers beside the floors below them, and beside the libraries that one would use instead."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from statistics import median, quantiles
from typing import Any, cast

import cachetools
from flask import Flask

from backendkit.cache import L1, Cache, Entry, JsonCodec
from backendkit.cache.decide import tier
from backendkit.stores import MemoryStore, connect
from backendkit.stores.redis.wire import Packer
from tests.benchmarks.measure import bare_trip, cost_of
from tests.benchmarks.report import Row, write
from tests.ground.single import Single

VALUE = {"id": 1, "name": "x" * 50, "tags": list(range(10))}
KEYS = [f"m{number}" for number in range(100)]
TTL = 3_600

TEXT = """
All rivals of a case take turns in each round. The floor of the first tier is a Python function, or a coroutine, that returns
`d[k]`; that of the second is redis-py, which neither decodes nor compares versions. Our hit of the second tier is measured
with the entry taken out of the first one before each call. Peers run with the serializer that they bring, on the same
server. Where the floors have a target, a peer's target is that one over what the peer was once seen to need;
where not, it is 1. Lower is better.

The floor of a round trip is a bare socket that sends the same bytes and reads the same replies by hiredis: what is above it is
the client's. What the floor still varies by, 7 to 45 us on a virtual machine, is
whether server and client meet on one core or one has to interrupt the other's; compare only within a row.
"""

NOTES = """
Flask-Caching and fastapi-cache2 have no single flight, so they have no waiters. *Waiters* are 200 callers of one cold key, 50
to each of four caches with connections of their own, in one process; what counts is how long after the end of the load each
of them has the value. aiocache's callers wake each other within the process, which those of a fleet could not. Memory is what `tracemalloc` sees of 50,000 entries beside one shared value, keys included.
A stall is the CPU time of the slowest of 200,000 insertions into a full cache of a million entries that were all asked for,
the smaller of two runs at the same insertion.
"""

Work = Callable[[int], None]
Func = Callable[..., Any]

PACKAGES = ["redis", "hiredis", "cachetools", "orjson", "cashews", "aiocache", "dogpile.cache"]


def page() -> str:
    """Measure everything and write the page."""
    with Single() as single, ExitStack() as stack, asyncio.Runner() as runner:
        flask_app = Flask("bench")
        stack.enter_context(flask_app.app_context())
        bench = Bench(single.url, single.server.port, flask_app, runner)
        rows = [
            *_gets(bench),
            *_loads(bench),
            *_awaited_loads(bench),
            *_decorated(bench),
            *_awaited_decorated(bench),
            *_second_tier(bench),
            *_awaited_second_tier(bench),
            *_invalidations(bench),
            *_waiters(bench),
        ]
    rows += [*_memory(), *_stalls()]
    packages = [*PACKAGES, "flask-caching", "fastapi-cache2"]
    return write("cache", "The cache", TEXT, rows, packages, notes=NOTES)


@dataclass(frozen=True, slots=True)
class Bench:
    """What the cases share: a server, an application, and the loop on which all that is awaited runs."""

    url: str
    port: int
    flask: Flask
    runner: asyncio.Runner

    def awaited(self, call: Func, *args: Any) -> Work:
        """Await a call again and again."""

        async def play(calls: int) -> None:
            for _ in range(calls):
                await call(*args)

        return lambda calls: self.runner.run(play(calls))

    def client(self) -> Any:
        """Make a redis-py client."""
        return import_module("redis").Redis.from_url(self.url)

    def dogpile(self, **arguments: Any) -> Any:
        """Make a region, in Redis if there are arguments for that, else in memory."""
        region = import_module("dogpile.cache").make_region()
        if not arguments:
            return region.configure("dogpile.cache.memory", expiration_time=TTL)
        arguments |= {"url": self.url}
        return region.configure("dogpile.cache.redis", expiration_time=TTL, arguments=arguments)

    def flask_caching(self, kind: str) -> Any:
        """Make a Flask-Caching cache."""
        config = {"CACHE_TYPE": kind, "CACHE_REDIS_URL": self.url, "CACHE_DEFAULT_TIMEOUT": TTL}
        return import_module("flask_caching").Cache(self.flask, config=config)

    def cashews(self, url: str = "mem://") -> Any:
        """Make a cashews cache."""
        cache = import_module("cashews").Cache()
        cache.setup(url)
        return cache

    def aiocache(self) -> Any:
        """Make an aiocache cache in Redis."""
        serializer = import_module("aiocache.serializers").JsonSerializer()
        made = import_module("aiocache").RedisCache
        return made(endpoint="127.0.0.1", port=self.port, serializer=serializer, timeout=30)


def _gets(bench: Bench) -> Iterator[Row]:
    cache = Cache(MemoryStore())
    lru: Any = cachetools.LRUCache[str, str](1_000)
    ttl: Any = cachetools.TTLCache[str, str, float](1_000, TTL)
    simple = bench.flask_caching("SimpleCache")
    cache.set("k", "v", ttl=TTL)
    simple.set("k", "v")
    lru["k"] = ttl["k"] = "v"
    rivals = {
        "`d[k]` in a function": (_repeat(_floor, "k"), 3.5),
        "cachetools LRU": (_repeat(lru.get, "k"), 3.5 / 6.9),
        "cachetools TTL": (_repeat(ttl.get, "k"), 3.5 / 67),
        "Flask-Caching": (_repeat(simple.get, "k"), 1.0),
    }
    yield from _rows("L1 `get`", _repeat(cache.get, "k"), rivals, 20_000)


def _loads(bench: Bench) -> Iterator[Row]:
    cache = Cache(MemoryStore())
    cache.set("k", "v", ttl=TTL)
    region = bench.dogpile()
    region.set("k", "v")
    rivals = {
        "`d[k]` in a function": (_repeat(_floor, "k"), 6.0),
        "dogpile.cache": (_repeat(region.get_or_create, "k", str), 6.0 / 68),
    }
    ours = _repeat(cache.get_or_load, "k", str)
    yield from _rows("`get_or_load`, an L1 hit", ours, rivals, 20_000)


def _awaited_loads(bench: Bench) -> Iterator[Row]:
    cache = Cache(MemoryStore())
    cache.set("k", "v", ttl=TTL)
    cashews = bench.cashews()
    bench.runner.run(cashews.set("k", "v", expire=TTL))
    memory = import_module("aiocache").SimpleMemoryCache(ttl=TTL)
    bench.runner.run(memory.set("k", "v"))
    rivals = {
        "a coroutine that returns `d[k]`": (bench.awaited(_awaited_floor, "k"), 4.0),
        "cashews `get_or_set`": (bench.awaited(cashews.get_or_set, "k", "v"), 4.0 / 51),
        "aiocache `get`": (bench.awaited(memory.get, "k"), 4.0 / 200),
    }
    ours = bench.awaited(cache.aio.get_or_load, "k", str)
    yield from _rows("`aio.get_or_load`, an L1 hit", ours, rivals, 5_000)


def _decorated(bench: Bench) -> Iterator[Row]:
    def user(user_id: int) -> str:
        return "v"

    ours = Cache(MemoryStore()).cached("user:{user_id}", ttl=TTL)(user)
    held: Any = cachetools.TTLCache[Any, str, float](1_000, TTL)
    rivals = {
        "cachetools `cached`, TTL": (_repeat(cachetools.cached(held)(user), 1), 1.0),
        "dogpile.cache": (_repeat(bench.dogpile().cache_on_arguments()(user), 1), 1.0),
        "Flask-Caching": (_repeat(bench.flask_caching("SimpleCache").memoize(TTL)(user), 1), 1.0),
    }
    yield from _rows("decorated, an L1 hit", _repeat(ours, 1), rivals, 5_000, bound=1.0)


def _awaited_decorated(bench: Bench) -> Iterator[Row]:
    async def user(user_id: int) -> str:
        return "v"

    fastapi_cache = import_module("fastapi_cache")
    backend = import_module("fastapi_cache.backends.inmemory").InMemoryBackend()
    fastapi_cache.FastAPICache.init(backend, prefix="bench")
    decorated = import_module("fastapi_cache.decorator").cache(expire=TTL)(user)
    ours = Cache(MemoryStore()).cached("user:{user_id}", ttl=TTL)(user)
    rivals = {
        "cashews": (bench.awaited(bench.cashews()(ttl=TTL, key="user:{user_id}")(user), 1), 1.5 / 66),
        "aiocache": (bench.awaited(import_module("aiocache").cached(ttl=TTL)(user), 1), 1.0),
        "fastapi-cache2": (bench.awaited(decorated, 1), 1.0),
    }  # fmt: skip
    what = "decorated `async def`, an L1 hit"
    yield from _rows(what, bench.awaited(ours, 1), rivals, 2_000, bound=1.5)


def _second_tier(bench: Bench) -> Iterator[Row]:
    store = connect(bench.url, timeout=5)
    l1 = L1()
    cache = Cache(store, namespace="bench", l1=l1, codec=JsonCodec())
    client = bench.client()
    region, flask = bench.dogpile(redis_expiration_time=TTL), bench.flask_caching("RedisCache")
    encoded = JsonCodec().encode(VALUE)
    cache.set_many(dict.fromkeys(["k", *KEYS], VALUE), ttl=TTL, tags=["t"])
    for key in ["k", *KEYS]:
        client.set(key, encoded)
        region.set(f"dogpile:{key}", VALUE)
        flask.set(key, VALUE)
    drop = l1.drop
    keys_of = cache._core.names.keys
    one, hundred = keys_of("k")[0], [keys_of(key)[0] for key in KEYS]

    def ours(call: Func, keys: list[str]) -> Work:
        def work(calls: int) -> None:
            for _ in range(calls):
                for key in keys:
                    drop(key)
                call()

        return work

    gets: dict[str, tuple[Work, float | None]] = {
        "bare socket": (bare_trip(bench.port, _command(b"GET", one) + _command(b"TIME"), 2), None),
        "GET": (_repeat(client.get, "k"), 1.0),
        "dogpile.cache": (_repeat(region.get, "dogpile:k"), 1 / 1.4),
        "Flask-Caching": (_repeat(flask.get, "k"), 1 / 1.4),
    }
    hit = ours(lambda: cache.get_or_load("k", _none, ttl=TTL, tags=["t"]), ["k"])
    yield from _rows("`get_or_load`, an L2 hit", hit, gets, 500)
    yield from _rows(
        "redis-py `GET`",
        gets["GET"][0],
        {"bare socket": (bare_trip(bench.port, _command(b"GET", b"k"), 1), None)},
        500,
    )
    gets = {name: gets[name] for name in ("bare socket", "GET")}
    yield from _rows("`get`, an L2 hit", ours(lambda: cache.get("k"), ["k"]), gets, 500)
    names = [f"dogpile:{key}" for key in KEYS]
    bare = bare_trip(bench.port, _command(b"MGET", *hundred) + _command(b"TIME"), 2)
    many: dict[str, tuple[Work, float | None]] = {
        "bare socket": (bare, None),
        "MGET": (_repeat(client.mget, KEYS), 2.0),
        "dogpile.cache": (_repeat(region.get_multi, names), 2 / 2.6),
        "Flask-Caching": (_repeat(flask.get_many, *KEYS), 2 / 2.6),
    }
    yield from _rows("`get_many`, 100 L2 hits", ours(lambda: cache.get_many(KEYS), KEYS), many, 25)
    many = {name: many[name] for name in ("bare socket", "MGET")}
    load = ours(lambda: cache.get_or_load_many(KEYS, _nothing, ttl=TTL, tags=["t"]), KEYS)
    yield from _rows("`get_or_load_many`, 100 L2 hits", load, many, 25)
    cache.close()
    store.close()
    client.close()


def _awaited_second_tier(bench: Bench) -> Iterator[Row]:
    run, awaited = bench.runner.run, bench.awaited
    store = connect(bench.url, timeout=5)
    l1 = L1()
    cache = Cache(store, namespace="aio", l1=l1, codec=JsonCodec())
    client: Any = import_module("redis.asyncio").Redis.from_url(bench.url)
    cashews, aiocache = bench.cashews(bench.url), bench.aiocache()
    fastapi = import_module("fastapi_cache.backends.redis").RedisBackend(client)
    coder = import_module("fastapi_cache.coder").JsonCoder
    run(cache.aio.set_many(dict.fromkeys(["k", *KEYS], VALUE), ttl=TTL, tags=["t"]))
    for key in ["k", *KEYS]:
        run(cashews.set(f"cashews:{key}", VALUE, expire=TTL))
        run(aiocache.set(f"aiocache:{key}", VALUE, ttl=TTL))
    run(client.set("k", JsonCodec().encode(VALUE), ex=TTL))
    drop = l1.drop

    async def one() -> None:
        drop("k")
        await cache.aio.get_or_load("k", _awaited_none, ttl=TTL, tags=["t"])

    async def hundred() -> None:
        for key in KEYS:
            drop(key)
        await cache.aio.get_many(KEYS)

    async def decoded() -> None:
        _, value = await fastapi.get_with_ttl("k")
        coder.decode(value)

    gets = {
        "GET, asyncio": (awaited(client.get, "k"), 1.2),
        "cashews": (awaited(cashews.get, "cashews:k"), 1.2 / 1.9),
        "aiocache": (awaited(aiocache.get, "aiocache:k"), 1.2 / 1.9),
        "fastapi-cache2": (awaited(decoded), 1.2 / 1.9),
    }
    yield from _rows("`aio.get_or_load`, an L2 hit", awaited(one), gets, 400)
    many = {
        "MGET, asyncio": (awaited(client.mget, KEYS), 2.0),
        "cashews": (awaited(cashews.get_many, *(f"cashews:{key}" for key in KEYS)), 2 / 2.6),
        "aiocache": (awaited(aiocache.multi_get, [f"aiocache:{key}" for key in KEYS]), 2 / 2.6),
    }
    yield from _rows("`aio.get_many`, 100 L2 hits", awaited(hundred), many, 25)
    run(cache.aio.close())
    run(store.aio.close())
    for closing in (client.aclose, cashews.close, aiocache.close):
        run(closing())


def _invalidations(bench: Bench) -> Iterator[Row]:
    store = connect(bench.url, timeout=5)
    cache = Cache(store, namespace="bench", codec=JsonCodec())
    client = bench.client()
    region, flask = bench.dogpile(redis_expiration_time=TTL), bench.flask_caching("RedisCache")
    cashews = bench.cashews(bench.url)
    core = cache._core
    operation = tier.invalidate(core.names.keys("z"), core.names.post(b"k", "z"))
    cache.invalidate("z")  # the server knows the script from now on
    rivals: dict[str, tuple[Work, float | None]] = {
        "bare socket": (bare_trip(bench.port, Packer().pack(operation), 1), None),
        "GET": (_repeat(client.get, "k"), 1.0),
        "dogpile.cache": (_repeat(region.delete, "z"), 1.0),
        "Flask-Caching": (_repeat(flask.delete, "z"), 1.0),
        "cashews": (bench.awaited(cashews.delete, "z"), 1.0),
    }
    yield from _rows("`invalidate`", _repeat(cache.invalidate, "z"), rivals, 500)
    info = client.info("commandstats")
    before = info["cmdstat_evalsha"]["calls"]
    for _ in range(100):
        cache.invalidate("z")
    info = client.info("commandstats")
    trips = (info["cmdstat_evalsha"]["calls"] - before) / 100
    yield Row("`invalidate`, scripts called", f"{trips:.2f}", "bound", "1", trips, 1.0)
    cache.close()
    store.close()
    client.close()
    bench.runner.run(cashews.close())


CACHES = 4
CALLERS = 50
LOAD = 0.5


def _waiters(bench: Bench) -> Iterator[Row]:
    """Yield how long after a shared load the callers have its value: the 99th percentile of 200."""
    ours = median(_late(found) for found in (_waiters_ours(bench, turn) for turn in range(3)))
    what = f"{CACHES * CALLERS} waiters, p99"
    yield Row(what, f"{ours:.1f} ms", "bound", "50 ms", ours / 50, 1.0)
    options: dict[str, Any] = {
        "distributed_lock": True,
        "thread_local_lock": False,
        "redis_expiration_time": TTL,
    }
    regions = [bench.dogpile(**options, lock_timeout=30) for _ in range(CACHES)]
    theirs = {
        "dogpile.cache": _threads(lambda n, load: regions[n].get_or_create("waiters", load)),
        "cashews, locked": bench.runner.run(_tasks_cashews(bench)),
        "aiocache, RedLock": bench.runner.run(_tasks_aiocache(bench)),
    }  # fmt: skip
    for name, found in theirs.items():
        late = _late(found)
        yield Row(what, f"{ours:.1f} ms", name, f"{late:.0f} ms", ours / late, 1.0)


def _waiters_ours(bench: Bench, turn: int) -> tuple[list[float], list[float]]:
    stores = [connect(bench.url, timeout=5) for _ in range(CACHES)]
    caches = [Cache(store, namespace=f"w{turn}", codec=JsonCodec()) for store in stores]
    for cache in caches:
        cache.get_or_load("warm", dict, ttl=TTL)
    found = _threads(lambda n, load: caches[n].get_or_load("k", load, ttl=TTL))
    for cache, store in zip(caches, stores, strict=True):
        cache.close()
        store.close()
    return found


def _threads(call: Callable[[int, Func], object]) -> tuple[list[float], list[float]]:
    """Return when loads ended and when each caller had the value."""
    loaded: list[float] = []
    served: list[float] = []

    def load() -> dict[str, Any]:
        time.sleep(LOAD)
        loaded.append(time.perf_counter())
        return VALUE

    def caller(number: int) -> None:
        call(number, load)
        served.append(time.perf_counter())

    threads = [threading.Thread(target=caller, args=(n % CACHES,)) for n in range(CACHES * CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return loaded, served


async def _tasks(
    calls: list[Callable[[Func], Awaitable[object]]],
) -> tuple[list[float], list[float]]:
    """Return what `_threads` does."""
    loaded: list[float] = []
    served: list[float] = []

    async def load() -> dict[str, Any]:
        await asyncio.sleep(LOAD)
        loaded.append(time.perf_counter())
        return VALUE

    async def caller(call: Callable[[Func], Awaitable[object]]) -> None:
        await call(load)
        served.append(time.perf_counter())

    await asyncio.gather(*(caller(call) for call in calls for _ in range(CALLERS)))
    return loaded, served


async def _tasks_cashews(bench: Bench) -> tuple[list[float], list[float]]:
    caches = [bench.cashews(bench.url) for _ in range(CACHES)]

    def calling(cache: Any) -> Callable[[Func], Awaitable[object]]:
        async def call(load: Func) -> object:
            async def user() -> object:
                return await load()

            locked = cache(ttl=TTL, key="waiters:cashews", lock=True)(user)
            return await cast("Awaitable[object]", locked())

        return call

    found = await _tasks([calling(cache) for cache in caches])
    for cache in caches:
        await cache.close()
    return found


async def _tasks_aiocache(bench: Bench) -> tuple[list[float], list[float]]:
    lock = import_module("aiocache.lock").RedLock
    caches = [bench.aiocache() for _ in range(CACHES)]

    def calling(cache: Any) -> Callable[[Func], Awaitable[object]]:
        async def call(load: Func) -> object:
            value = await cache.get("waiters:aiocache")
            if value is None:
                async with lock(cache, "waiters:aiocache", lease=30):
                    value = await cache.get("waiters:aiocache")
                    if value is None:
                        value = await load()
                        await cache.set("waiters:aiocache", value, ttl=TTL)
            return value

        return call

    found = await _tasks([calling(cache) for cache in caches])
    for cache in caches:
        await cache.close()
    return found


def _late(found: tuple[list[float], list[float]]) -> float:
    loaded, served = found
    return quantiles((max(0.0, at - min(loaded)) * 1000 for at in served), n=100)[98]


ENTRIES = 50_000


def _memory() -> Iterator[Row]:
    def fill(held: Any) -> None:
        for number in range(2 * ENTRIES):
            held[f"user:{number}"] = VALUE

    def fill_ours(cache: Any) -> None:
        for number in range(2 * ENTRIES):
            cache.set(f"user:{number}", "value", ttl=TTL)

    def fill_l1(l1: Any) -> None:
        for number in range(2 * ENTRIES):
            l1[f"user:{number}"] = Entry(VALUE, 300, 1e9 + number)

    ours = _bytes(lambda: L1(ENTRIES, 1 << 40), fill_l1)
    whole = _bytes(lambda: Cache(MemoryStore(), l1=L1(ENTRIES, 1 << 40)), fill_ours)
    lru = _bytes(lambda: cachetools.LRUCache[str, Any](ENTRIES), fill)
    ttl = _bytes(lambda: cachetools.TTLCache[str, Any, float](ENTRIES, TTL), fill)
    what = "memory of an L1 entry, ghosts included"
    yield Row(what, f"{ours:.0f} B", "bound", "250 B", ours / 250, 1.0)
    yield Row(f"{what}, tags and times", f"{whole:.0f} B", "bound", "250 B", whole / 250, 1.0)
    yield Row(what, f"{ours:.0f} B", "cachetools LRU", f"{lru:.0f} B", ours / lru, 1.0)
    yield Row(what, f"{ours:.0f} B", "cachetools TTL", f"{ttl:.0f} B", ours / ttl, 1.0)


def _bytes(make: Callable[[], Any], fill: Callable[[Any], None]) -> float:
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    held = make()
    fill(held)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / ENTRIES


MANY = 1_000_000
MORE = 200_000


def _stalls() -> Iterator[Row]:
    def ours() -> list[int]:
        l1 = L1(MANY, 1 << 40)
        return _waits(l1, lambda number: Entry(VALUE, 300, 1e9 + number))

    def lru() -> list[int]:
        return _waits(cachetools.LRUCache[str, Any](MANY), lambda _: VALUE)

    mine, other = (max(map(min, run(), run())) / 1e6 for run in (ours, lru))
    what = "a million entries, longest eviction"
    yield Row(what, f"{mine:.2f} ms", "bound", "1 ms", mine, 1.0)
    yield Row(what, f"{mine:.2f} ms", "cachetools LRU", f"{other:.2f} ms", mine / other, 1.0)


def _waits(held: Any, make: Callable[[int], Any]) -> list[int]:
    """Return what each insertion into a full cache took, in ns of CPU, after all was asked for."""
    gc.collect()
    gc.disable()  # its stalls are the interpreter's, and in proportion to all that the process holds
    try:
        for number in range(MANY):
            held[f"user:{number}"] = make(number)
        for number in range(MANY):
            held.get(f"user:{number}")
        waits = [0] * MORE
        for number in range(MORE):
            key, value = f"more:{number}", make(number)
            begun = time.thread_time_ns()
            held[key] = value
            waits[number] = time.thread_time_ns() - begun
    finally:
        gc.enable()
    return waits


HELD = {"k": "v"}


def _command(*words: bytes) -> bytes:
    """Return a command as Redis reads it."""
    return b"*%d\r\n" % len(words) + b"".join(
        b"$%d\r\n%b\r\n" % (len(word), word) for word in words
    )


def _floor(key: str) -> str:
    return HELD[key]


async def _awaited_floor(key: str) -> str:
    return HELD[key]


def _none() -> object:
    raise AssertionError("this is a hit")


async def _awaited_none() -> object:
    return _none()


def _nothing(keys: list[str]) -> dict[str, Any]:
    raise AssertionError("these are hits")


def _rows(
    what: str,
    ours: Work,
    rivals: Mapping[str, tuple[Work, float | None]],
    calls: int,
    *,
    rounds: int = 9,
    bound: float | None = None,
) -> Iterator[Row]:
    """Measure all in turn, round by round; yield a row for each rival, and one for the bound in microseconds."""
    works = {"": ours} | {name: work for name, (work, _) in rivals.items()}
    for work in works.values():
        work(max(calls // 10, 1))
    found = [{name: cost_of(work, calls).wall for name, work in works.items()} for _ in range(rounds)]  # fmt: skip
    mine = median(each[""] for each in found)
    if bound is not None:
        yield Row(what, f"{mine:.2f} us", "bound", f"{bound:g} us", mine / bound, 1.0)
    for name, (_, target) in rivals.items():
        theirs = median(each[name] for each in found)
        ratio = median(each[""] / each[name] for each in found)
        yield Row(what, f"{mine:.2f} us", name, f"{theirs:.2f} us", ratio, target)


def _repeat(work: Func, *args: Any) -> Work:
    def run(calls: int) -> None:
        for _ in range(calls):
            work(*args)

    return run
