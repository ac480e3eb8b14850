"""A store that is paused, killed, flushed, failed over: protection stays, nothing of it reaches the caller."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from backendkit.core.events import Event
from backendkit.resilience import CircuitBreaker, CircuitOpen, CircuitTransition
from backendkit.stores import connect
from tests.ground.cluster import ClusterGroup
from tests.ground.lifeline import tied
from tests.ground.loops import in_fork, in_threads
from tests.ground.sentinel import SentinelGroup
from tests.ground.single import Single
from tests.ground.waiting import eventually

PATIENT_S = 10.0


def breaker_on(
    url: str, name: str = "pay", *, timeout: float = PATIENT_S, **options: Any
) -> CircuitBreaker:
    """One process, as a breaker with a store of its own that opens at the fourth failure."""
    usual: dict[str, Any] = {
        "window": 20,
        "minimum_calls": 4,
        "open_for": 60,
        "jitter": 0,
        "coalesce": 0,
    }
    store = connect(url, timeout=timeout, connect_timeout=timeout)
    return CircuitBreaker(name, store=store, **{**usual, **options})


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """Let calls fail."""

    def failing() -> None:
        raise OSError("down")

    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            breaker.call(failing)


def rejects(breaker: CircuitBreaker) -> bool:
    """Tell whether a call is rejected; it does nothing else."""
    try:
        breaker.call(int)
    except CircuitOpen:
        return True
    return False


def scripts(single: Single) -> int:
    """Scripts that the server has run."""
    calls = single.server.info("commandstats").get("cmdstat_evalsha", "calls=0")
    return int(calls.split("calls=")[1].split(",")[0])


def test_round_trips(own_redis: Callable[..., Single]) -> None:
    """A success one, coalesced hardly any; open at most one a second; a trial two."""
    single = own_redis()
    strict, lazy = (
        breaker_on(single.url, "strict", open_for=0.05),
        breaker_on(single.url, "lazy", coalesce=1),
    )
    strict.call(int)
    strict.call(int)

    def spent(calls: int, breaker: CircuitBreaker) -> tuple[int, float]:
        before, began = scripts(single), time.monotonic()
        for _ in range(calls):
            with suppress(CircuitOpen):
                breaker.call(int)
        return scripts(single) - before, time.monotonic() - began

    trips, took = spent(50, strict)
    assert 50 <= trips <= 50 + took + 1
    lazy.call(int)
    eventually(
        lambda: spent(100, lazy)[0] < 10, "a second has passed since the circuit was met", within=20
    )
    trips, took = spent(1000, lazy)
    assert trips <= 2 * took + 2
    lazy.open()
    trips, took = spent(1000, lazy)
    assert trips <= took + 1
    strict.reconfigure(trials=1)
    strict.open()
    before = scripts(single)
    eventually(lambda: not rejects(strict), "the trial was let through")
    assert strict.current_state == "closed"
    assert scripts(single) - before == 2


def test_paused_it_still_trips_and_nobody_waits(own_redis: Callable[..., Single]) -> None:
    """One timeout at most; then M failures, in microseconds each."""
    single = own_redis()
    breaker = breaker_on(single.url, timeout=0.2)
    for _ in range(5):
        breaker.call(int)
    fail(breaker)
    with single.server.paused():
        fail(breaker)
        took = []
        for _ in range(200):
            began = time.perf_counter()
            breaker.call(int)
            took.append(time.perf_counter() - began)
        assert sorted(took)[100] < 0.001
        eventually(lambda: fails_until_open(breaker), "it trips on its own")
    eventually(lambda: heard_again(breaker), "the store decides again")


def fails_until_open(breaker: CircuitBreaker) -> bool:
    """Fail so often that it opens, whatever it has seen before."""

    def failing() -> None:
        raise OSError("down")

    for _ in range(20):
        with suppress(OSError, CircuitOpen):
            breaker.call(failing)
    return rejects(breaker)


def heard_again(breaker: CircuitBreaker) -> bool:
    """Tell whether the store's circuit, which is closed, is the one that is asked."""
    return not rejects(breaker) and breaker.current_state == "closed"


@pytest.mark.parametrize("how", ["killed", "flushed"])
def test_an_open_circuit_stays_open(own_redis: Callable[..., Single], how: str) -> None:
    """While the server is away, and when it is back and knows nothing."""
    single = own_redis()
    one, other = breaker_on(single.url), breaker_on(single.url)
    other.call(int)
    fail(one, 3)
    assert rejects(one)
    if how == "killed":
        single.server.kill()
        assert rejects(one)
        single.server.restart()
    else:
        single.server.command("FLUSHALL")
        single.server.command("SCRIPT", "FLUSH")
    eventually(lambda: rejects(one) and rejects(other), "what one knew is shared again")
    assert other.current_state == "open"


def test_every_window_expires_and_no_order_does(own_redis: Callable[..., Single]) -> None:
    """In every state, of both windows."""
    single = own_redis()
    for n, window in enumerate([20, timedelta(seconds=10)]):
        breaker = breaker_on(single.url, f"b{n}", window=window)
        for order, expires in [
            ("close", True),
            ("open", True),
            ("half_open", True),
            ("force_open", False),
            ("disable", False),
            ("measure_only", False),
        ]:
            getattr(breaker, order)()
            rejects(breaker)
            (key,) = [k for k in keys(single) if b"{b%d}" % n in k]
            left: Any = single.server.command("PTTL", key)
            assert (left > 0) is expires, order


def keys(single: Single) -> list[bytes]:
    """Return all keys."""
    found: Any = single.server.command("KEYS", "*")
    return list(found)


@pytest.mark.parametrize("responses", ["2", "3"])
def test_protocols(redis_single: Single, namespace: str, responses: str) -> None:
    """Replies are read alike under both."""
    one = breaker_on(f"{redis_single.url}?protocol={responses}", namespace)
    fail(one, 4)
    assert one.current_state == "open"


def test_a_failover_keeps_the_circuit(own_sentinel: Callable[..., SentinelGroup]) -> None:
    """The new master has it, or is told."""
    group = own_sentinel()
    one, other = breaker_on(group.url, timeout=1), breaker_on(group.url, timeout=1)
    other.call(int)
    fail(one, 3)
    assert rejects(one)
    group.failover_by_kill()
    assert rejects(one)
    eventually(lambda: rejects(one) and rejects(other), "the fleet still rejects", within=30)


def test_a_cluster_shares_and_loses_a_node(own_cluster: Callable[..., ClusterGroup]) -> None:
    """Circuits on other nodes go on; that of the lost one is decided here."""
    group = own_cluster()
    many = [breaker_on(group.url, f"host{n}", timeout=1) for n in range(6)]
    for breaker in many:
        breaker.call(int)
    group.kill(group.masters()[0])
    for breaker in many:
        fails_until_open(breaker)
        assert rejects(breaker)


TRIALS = """
import asyncio, sys, threading, time
from backendkit.resilience import CircuitBreaker, CircuitOpen
from backendkit.stores import connect
url, name, go = sys.argv[1:]
store = connect(url, timeout=10, connect_timeout=10)
breaker = CircuitBreaker(name, store=store, window=20, minimum_calls=4, trials=5, open_for=60, lease=120, failure_rate=1, coalesce=0)
let, refused = [], []
done = threading.Event()
print("ready", flush=True)
sys.stdin.readline()
def hold():
    let.append(1)
    done.wait(30)
def sync():
    try:
        breaker.call(hold)
    except CircuitOpen:
        refused.append(1)
async def one():
    try:
        async with breaker:
            let.append(1)
            await asyncio.get_running_loop().run_in_executor(None, done.wait, 30)
    except CircuitOpen:
        refused.append(1)
async def tasks():
    await asyncio.gather(*(one() for _ in range(50)))
threads = [threading.Thread(target=sync) for _ in range(8)]
threads.append(threading.Thread(target=asyncio.run, args=(tasks(),)))
for thread in threads: thread.start()
while len(let) + len(refused) < 58: time.sleep(0.01)
print(len(let), flush=True)
sys.stdin.readline()
done.set()
for thread in threads: thread.join()
"""


def test_permits_of_all_processes_threads_and_tasks(redis_single: Single, namespace: str) -> None:
    """4 processes of 8 threads and 50 tasks each: N calls are let through, not one more."""
    breaker_on(redis_single.url, namespace, trials=5).half_open()
    argv = tied(sys.executable, "-c", TRIALS, redis_single.url, namespace, "go")
    workers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    let = [int(worker.stdout.readline()) for worker in workers if worker.stdout]
    for worker in workers:
        worker.communicate("done\n", timeout=60)
    assert sum(let) == 5


def test_a_killed_trial_blocks_nobody_beyond_the_lease(
    redis_single: Single, namespace: str
) -> None:
    """Its process is gone with the permit; after the lease it is open, then others try."""
    options: dict[str, Any] = {"trials": 1, "lease": 0.3, "open_for": 0.1}
    breaker = breaker_on(redis_single.url, namespace, **options)
    breaker.half_open()

    def die_with_it() -> str:
        mine = breaker_on(redis_single.url, namespace, **options)
        mine.__enter__()
        return mine.current_state

    assert in_fork(die_with_it) == "half-open"
    assert rejects(breaker)
    eventually(lambda: not rejects(breaker), "another trial was let through")
    assert breaker.current_state == "closed"


def test_a_cancelled_caller_leaves_no_permit_behind(redis_single: Single, namespace: str) -> None:
    """Cancelled while it asks, or while its call runs: the permit comes back through a task that nobody awaits."""
    breaker = breaker_on(redis_single.url, namespace, trials=2, lease=60)

    @breaker
    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def play() -> None:
        for spins in range(12):
            task = asyncio.create_task(hang())
            for _ in range(spins):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError, CircuitOpen):
                await task
        for _ in range(2):
            await asyncio.to_thread(eventually, lambda: not rejects(breaker), "a permit is free")

    breaker.half_open()
    asyncio.run(play())
    assert breaker.current_state == "closed"


def test_one_bad_process_of_ten_trips_nobody(redis_single: Single, namespace: str) -> None:
    """Its failures are a tenth of all; told at once, while the others tell theirs together."""
    fleet = [
        breaker_on(redis_single.url, namespace, window=100, minimum_calls=10, coalesce=0.1)
        for _ in range(10)
    ]
    events: list[Event] = []
    for breaker in fleet:
        breaker.hooks.add(events.append, CircuitTransition)

    def work(place: int) -> None:
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            if place:
                fleet[place].call(time.sleep, 0.005)
            else:
                with suppress(OSError):
                    fleet[0].call(_late_failure)

    in_threads(10, work)
    assert events == []


def _late_failure() -> None:
    time.sleep(0.005)
    raise OSError("only here")


def test_loops_threads_and_sync_code_at_once(redis_single: Single, namespace: str) -> None:
    """One breaker used from two event loops and from threads."""
    breaker = breaker_on(redis_single.url, namespace, window=1000)

    @breaker
    async def fine() -> int:
        await asyncio.sleep(0)
        return 1

    async def many() -> int:
        return sum([await fine() for _ in range(100)])

    def work(place: int) -> int:
        if place < 2:
            return asyncio.run(many())
        return sum(breaker.call(int, 1) for _ in range(100))

    assert in_threads(4, work) == [100] * 4
    assert breaker.totals.succeeded == 400
    eventually(lambda: breaker.call(int) == 0 and breaker.success_counter >= 400, "all were told")
