"""The cache: hits of both tiers beside the floors below them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis

from backendkit.cache import Cache, JsonCodec
from backendkit.core.store import Store
from backendkit.stores import MemoryStore, connect
from tests.benchmarks.measure import duel, median_cost
from tests.benchmarks.report import Row, write
from tests.ground.single import Single

VALUE = {"id": 1, "name": "x" * 50, "tags": list(range(10))}
KEYS = [f"m{number}" for number in range(100)]

TEXT = """
The floor of the first tier is a Python function that returns `d[k]`; that of the second is redis-py, which neither decodes
nor compares versions. Lower is better.
"""


def page() -> str:
    """Measure everything and write the page."""
    with Single() as single:
        rows = [*_first_tier(), *_awaited(), *_second_tier(single.url)]
    return write("cache", "The cache", TEXT, rows, ["redis", "hiredis", "cachetools", "orjson"])


def _first_tier() -> list[Row]:
    cache = Cache(MemoryStore())
    cache.set("k", "v", ttl=3_600)
    held = {"k": "v"}

    def floor(key: str) -> str:
        return held[key]

    @cache.cached("user:{user_id}", ttl=3_600)
    def user(user_id: int) -> str:
        return "v"

    user(1)
    hit = duel(_repeat(cache.get, "k"), _repeat(floor, "k"), 50_000)
    load = duel(_repeat(cache.get_or_load, "k", str), _repeat(floor, "k"), 50_000)
    cost = median_cost(_repeat(user, 1), 50_000)
    return [
        _row("L1 `get`", hit, "`d[k]` in a function", 3.5),
        _row("`get_or_load`, an L1 hit", load, "`d[k]` in a function", 6.0),
        Row("decorated, an L1 hit", f"{cost.wall:.2f} us", "bound", "1 us", cost.wall, 1.0),
    ]


def _awaited() -> list[Row]:
    cache = Cache(MemoryStore())
    cache.set("k", "v", ttl=3_600)
    held = {"k": "v"}

    async def floor(key: str) -> str:
        return held[key]

    @cache.cached("user:{user_id}", ttl=3_600)
    async def user(user_id: int) -> str:
        return "v"

    with asyncio.Runner() as runner:

        def turns(work: Callable[..., Any], *args: Any) -> Callable[[int], None]:
            async def play(calls: int) -> None:
                for _ in range(calls):
                    await work(*args)

            return lambda calls: runner.run(play(calls))

        load = duel(turns(cache.aio.get_or_load, "k", str), turns(floor, "k"), 50_000)
        cost = median_cost(turns(user, 1), 50_000)
    return [
        _row("`aio.get_or_load`, an L1 hit", load, "a coroutine that returns `d[k]`", 4.0),
        Row(
            "decorated `async def`, an L1 hit",
            f"{cost.wall:.2f} us",
            "bound",
            "1.5 us",
            cost.wall / 1.5,
            1.0,
        ),
    ]


def _second_tier(url: str) -> list[Row]:
    store: Store = connect(url, timeout=5)
    cache = Cache(store, namespace="bench", codec=JsonCodec())
    client = redis.Redis.from_url(url)
    cache.set_many(dict.fromkeys(["k", *KEYS], VALUE), ttl=3_600, tags=["t"])
    for key in ["k", *KEYS]:
        client.set(key, JsonCodec().encode(VALUE))
    l1 = cache._local.l1

    def one(calls: int) -> None:
        for _ in range(calls):
            l1.drop("k")
            cache.get("k")

    def many(calls: int) -> None:
        for _ in range(calls):
            for key in KEYS:
                l1.drop(key)
            cache.get_many(KEYS)

    rows = [
        _row("an L2 hit, decoded, tags compared", duel(one, _repeat(client.get, "k"), 1_500), "GET", 1.0),
        _row("100 keys of L2", duel(many, _repeat(client.mget, KEYS), 50), "MGET", 2.0),
        _row(
            "`invalidate`", duel(_repeat(cache.invalidate, "z"), _repeat(client.get, "k"), 1_500), "GET", 1.0
        ),
    ]  # fmt: skip
    cache.close()
    store.close()
    client.close()
    return rows


def _row(what: str, result: Any, rival: str, target: float) -> Row:
    return Row(
        what,
        f"{result.ours.wall:.2f} us",
        rival,
        f"{result.theirs.wall:.2f} us",
        result.wall_ratio,
        target,
    )


def _repeat(work: Callable[..., Any], *args: Any) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            work(*args)

    return run
