"""A server that forgets, restarts, hangs or cuts lines: no exception reaches the caller, and the stated policy holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.core.errors import RateLimited
from backendkit.ratelimit import Limit, RateLimiter, StoreFound, StoreLost
from backendkit.stores import MemoryStore, connect
from tests.ground.faults import Faults
from tests.ground.loops import StallMeter
from tests.ground.proxy import FaultProxy
from tests.ground.single import Single
from tests.ground.waiting import eventually


def made(url: str, *limits: Limit, timeout: float = 0.1, **options: Any) -> RateLimiter:
    """A limiter whose store waits so long."""
    return RateLimiter(connect(url, timeout=timeout, connect_timeout=timeout), limits, **options)


def test_script_flush_and_flushall(own_redis: Callable[..., Single]) -> None:
    """Scripts come back by themselves and count on; forgotten usage is forgotten, and nothing fails."""
    single = own_redis()
    limiter = made(single.url, Limit("x", "5/minute"), deny_cache_max=0)
    assert limiter.hit("a").remaining == 4
    single.server.command("SCRIPT", "FLUSH")
    assert limiter.hit("a").remaining == 3
    single.server.command("FLUSHALL")
    assert limiter.hit("a").remaining == 4
    assert limiter.hit("a").source == "store"


def test_a_restart_is_survived(own_redis: Callable[..., Single]) -> None:
    """Down it is decided by policy, up again by the store; an event marks each change."""
    single = own_redis()
    events: list[Any] = []
    limiter = made(
        single.url, Limit("x", 4, per=60, on_store_failure="local"), nodes=2, deny_cache_max=0
    )
    limiter.hooks.add(events.append, StoreLost, StoreFound)
    assert limiter.hit("a").source == "store"
    single.server.kill()
    decisions = [limiter.hit("a") for _ in range(5)]
    assert [d.allowed for d in decisions] == [True, True, False, False, False]
    assert {d.source for d in decisions} == {"local"}
    single.server.restart()
    eventually(lambda: limiter.hit("b").source == "store", "the store decides again")
    assert [type(event) for event in events] == [StoreLost, StoreFound]


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
def test_a_paused_server_costs_one_timeout(own_redis: Callable[..., Single], policy: Any) -> None:
    """Then the guard answers at once, and no event loop stalls for longer than the timeout."""
    single = own_redis()
    limiter = made(single.url, Limit("x", 1000, per=60, on_store_failure=policy), timeout=0.3)
    limiter.hit("a")

    async def play() -> tuple[float, list[float], set[str]]:
        await limiter.aio.hit("a")
        async with StallMeter() as meter:
            sources: set[str] = {(await limiter.aio.hit("a")).source for _ in range(3)}
            took: list[float] = []
            for _ in range(100):
                begun = time.perf_counter()
                sources.add((await limiter.aio.hit("a")).source)
                took.append(time.perf_counter() - begun)
        await limiter.store.aio.close()
        return meter.worst, took, sources

    with single.server.paused():
        begun = time.perf_counter()
        for _ in range(3):
            assert limiter.hit("a").source == policy
        assert time.perf_counter() - begun < 0.9
        took: list[float] = []
        for _ in range(100):
            begun = time.perf_counter()
            limiter.hit("a")
            took.append(time.perf_counter() - begun)
        worst, took_async, sources = asyncio.run(play())
    assert sources == {policy}
    # Most of them: a few may have found the cores busy.
    assert sorted(took)[80] < 0.001
    assert sorted(took_async)[80] < 0.001
    assert worst < 0.3


def test_a_lost_reply_may_have_counted_once(
    own_redis: Callable[..., Single], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """It is never sent again: two units at most after two hits, never three."""
    single = own_redis()
    proxy = fault_proxy(single.server.address)
    host, port = proxy.address
    limiter = made(f"redis://{host}:{port}/0", Limit("x", "9/minute"), deny_cache_max=0)
    limiter.hit("a")
    with proxy.injected(Faults(lose_replies=True)):
        assert limiter.hit("a").source == "open"
    direct = made(single.url, Limit("x", "9/minute"))
    assert direct.peek("a").remaining in (7, 8)


LOGINS = 50


@pytest.mark.parametrize("max_wait", [0, 30])
def test_simultaneous_logins(max_wait: float) -> None:
    """50 that fail: at most 5 get to the handler; 50 that succeed and may wait: all do, and the quota is full."""
    limiter = RateLimiter(MemoryStore(), Limit("login", "5/minute"))
    reached: list[int] = []

    async def login(n: int, *, succeeds: bool) -> bool:
        try:
            async with limiter.aio.reserve("ada", max_wait=max_wait) as seat:
                reached.append(n)
                await asyncio.sleep(0.001)
                if not succeeds:
                    seat.commit()
        except RateLimited:
            return False
        return True

    async def all_of(*, succeed: bool) -> int:
        wait = [login(n, succeeds=succeed) for n in range(LOGINS)]
        return sum(await asyncio.gather(*wait))

    if max_wait:
        assert asyncio.run(all_of(succeed=True)) == LOGINS
        assert limiter.peek("ada").remaining == 5
    else:
        assert asyncio.run(all_of(succeed=False)) == 5
        assert len(reached) == 5


def test_a_cancelled_waiter_gives_back_what_it_had(own_redis: Callable[..., Single]) -> None:
    """Cancelled at any moment: the units of those who went away are free again."""
    limiter = made(own_redis().url, Limit("x", "100/minute"))

    async def play() -> None:
        for n in range(20):
            task = asyncio.create_task(limiter.aio.acquire("a", max_wait=1))
            await asyncio.sleep(n * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled() and task.exception() is None:
                await limiter.aio.cancel(task.result())
        await asyncio.sleep(0.05)
        assert (await limiter.aio.peek("a")).remaining == 100
        await limiter.store.aio.close()

    asyncio.run(play())
