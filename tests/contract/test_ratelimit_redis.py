"""What must hold on real servers: atomicity across processes, one command per check, memory, clocks, several slots."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from threading import Thread
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.ratelimit import (
    GCRA,
    Algorithm,
    Concurrency,
    Decision,
    FixedWindow,
    Lease,
    Limit,
    Penalty,
    RateLimiter,
    SlidingBuckets,
    SlidingLog,
)
from backendkit.stores import MemoryStore, connect
from tests.ground.cluster import ClusterGroup
from tests.ground.lifeline import tied
from tests.ground.loops import in_threads
from tests.ground.single import Single

US = 1_000_000
WORKER = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
real, step = time.time_ns, int(sys.argv[3]) * 10**9
time.time_ns = lambda: real() + step
time.time = lambda: time.time_ns() / 1e9
from backendkit.core.clock import SystemClock
from backendkit.ratelimit import Limit, RateLimiter
from backendkit.stores import connect
assert abs(SystemClock().wall_us() - (real() + step) // 1000) < 30_000_000
url, name = sys.argv[1:3]
limiter = RateLimiter(connect(url, timeout=10), Limit("x", 100, per=600), name=name, deny_cache_max=0)
with ThreadPoolExecutor(50) as pool:
    print(sum(pool.map(lambda n: limiter.hit("a").allowed, range(200))))
"""


def commands(single: Single) -> int:
    """Scripts that the server has run."""
    calls = single.server.info("commandstats").get("cmdstat_evalsha", "calls=0")
    return int(calls.split("calls=")[1].split(",")[0])


def limiter_on(url: str, name: str, *limits: Limit, **options: Any) -> RateLimiter:
    """A limiter with a store of its own, patient with a busy machine."""
    return RateLimiter(connect(url, timeout=10), limits, name=name, **options)


def test_processes_and_threads_admit_exactly_the_limit(
    redis_single: Single, namespace: str
) -> None:
    """4 processes x 50 threads on one key, on machines whose clocks are 61 seconds apart from each other."""
    argv = tied(sys.executable, "-c", WORKER, redis_single.url, namespace)
    workers = [
        subprocess.Popen([*argv, str(61 * n)], stdout=subprocess.PIPE) for n in (-1, 0, 1, 20)
    ]
    admitted = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(admitted) == 100


def test_one_check_is_one_command(own_redis: Callable[..., Single]) -> None:
    """Three limits and all header data in one; a thousand remembered denials in none."""
    single = own_redis()
    limits = [
        Limit("a", "9/minute"),
        Limit("b", 2, per=60, algorithm=SlidingBuckets()),
        Limit("c", 9, per=60, algorithm=GCRA()),
    ]
    limiter = limiter_on(single.url, "one", *limits)
    limiter.hit("warm")
    for n in range(3):
        before = commands(single)
        decision = limiter.hit("u")
        assert [view.remaining for view in decision.views] == [
            max(8 - n, 7),
            max(1 - n, 0),
            max(8 - n, 7),
        ]
        assert commands(single) == before + 1
    before = commands(single)
    assert all(limiter.hit("u").source == "remembered" for _ in range(1000))
    assert commands(single) == before


@pytest.mark.parametrize("limit", [1, 5, 100, 1000, 10_000])
def test_a_full_log_fits_its_bound(redis_single: Single, namespace: str, limit: int) -> None:
    """At most 192 + len(key) + 9 * limit bytes."""
    limiter = limiter_on(redis_single.url, namespace, Limit("x", limit, per=3600))
    for cost in (1, limit // 3, limit):
        limiter.hit_up_to("a", max(1, cost))
    keys: Any = redis_single.server.command("KEYS", f"*{namespace.rstrip(':')}*")
    (key,) = [key for key in keys if b"}:" in key]
    used: Any = redis_single.server.command("MEMORY", "USAGE", key)
    assert used <= 192 + len(key) + 9 * limit
    assert limiter.peek("a").remaining == 0


def test_a_ring_is_laid_anew_only_where_it_must(redis_single: Single, namespace: str) -> None:
    """It doubles; it shrinks to what is left of the units, and to a limit that was lowered; else it stays as it is."""
    clock = ManualClock()
    store = connect(redis_single.url, timeout=10, clock=clock, now=clock.wall_us)

    def stamps_after(units: int, limit: int = 1000) -> int:
        limiter = RateLimiter(store, Limit("x", limit, per=60), name=namespace)
        assert limiter.hit("a", cost=units).allowed
        (key,) = limiter.shared[0].find("a")[0].keys([b"a"])
        length: Any = redis_single.server.command("STRLEN", key)
        return int((length - 28) // 7)

    assert [stamps_after(1), stamps_after(15), stamps_after(1)] == [16, 16, 34]
    assert stamps_after(1) == 34  # an admission that has room is written into it
    clock.advance(60 * US)
    assert [stamps_after(9), stamps_after(1)] == [34, 34]
    clock.advance(60 * US)
    assert stamps_after(8) == 16  # a quarter is enough
    assert stamps_after(92) == 200
    clock.advance(60 * US)
    assert stamps_after(51, limit=60) == 60
    assert stamps_after(9, limit=60) == 60


def test_looking_and_denying_write_nothing(own_redis: Callable[..., Single]) -> None:
    """The server's own count of changes does not move."""
    single = own_redis()
    kinds: list[Algorithm] = [SlidingLog(), SlidingBuckets(), GCRA(), FixedWindow()]
    limits = [Limit(f"l{n}", 1, per=60, algorithm=algorithm) for n, algorithm in enumerate(kinds)]
    limiter = limiter_on(single.url, "still", *limits, deny_cache_max=0)
    limiter.hit("u")

    def dirty() -> int:
        return int(single.server.info("persistence")["rdb_changes_since_last_save"])

    before = dirty()
    assert not limiter.hit("u").allowed
    assert not limiter.hit("u", cost=2).allowed
    assert limiter.hit("other", cost=0).allowed
    limiter.peek("u")
    assert dirty() == before


def test_clocks_of_applications_do_not_matter(redis_single: Single, namespace: str) -> None:
    """Two processes 61 seconds apart: never more than the limit, for the server's clock decides."""
    early, late = ManualClock(), ManualClock()
    late.step_wall(61 * US)
    limiters = [
        limiter_on(
            redis_single.url, namespace, Limit("x", "10/minute"), clock=clock, deny_cache_max=0
        )
        for clock in (early, late)
    ]
    assert sum(limiters[n % 2].hit("a").allowed for n in range(40)) == 10


@pytest.mark.parametrize(
    "algorithm", [SlidingLog(), SlidingBuckets(), GCRA(), FixedWindow()], ids=lambda a: a.kind
)
def test_the_servers_clock_steps_back_an_hour(
    redis_single: Single, namespace: str, algorithm: Any
) -> None:
    """No over-admission, and no lock-out longer than a window."""
    clock = ManualClock()
    store = connect(redis_single.url, timeout=10, clock=clock, now=clock.wall_us)
    limit = Limit("x", 5, per=60, algorithm=algorithm)
    limiter = RateLimiter(store, limit, name=namespace, deny_cache_max=0)
    assert [limiter.hit("a").allowed for _ in range(6)] == [True] * 5 + [False]
    clock.step_wall(-3600 * US)
    assert not limiter.hit("a").allowed
    waits = limiter.hit("a").retry_after
    assert waits is not None
    assert waits <= (66 if isinstance(algorithm, SlidingBuckets) else 60)  # a window, and a bucket
    clock.advance(round(waits * US) - 1)
    assert not limiter.hit("a").allowed
    clock.advance(1)
    assert limiter.hit("a").allowed


def test_a_state_outlives_its_last_write_by_a_window(redis_single: Single, namespace: str) -> None:
    """Garbage collection never takes what still counts, though not every write renews the time to live."""
    clock = ManualClock()
    clock.advance(60 * US - clock.wall_us() % (60 * US))
    store = connect(redis_single.url, timeout=10, clock=clock, now=clock.wall_us)
    limiter = RateLimiter(store, Limit("x", 50, per=60), name=namespace)
    (key,) = limiter.shared[0].find("a")[0].keys([b"a"])
    soon, whole = 30_000, 60_000

    def left_after(step_us: int) -> int:
        clock.step_wall(step_us)
        assert limiter.hit("a").allowed
        left: Any = redis_single.server.command("PTTL", key)
        redis_single.server.command("PEXPIRE", key, str(soon))
        return int(left)

    assert left_after(0) > whole
    assert left_after(1) <= soon  # the same quarter of a window: what it had is enough
    assert left_after(15 * US) > whole
    assert left_after(0) <= soon
    assert left_after(-3600 * US) > whole  # the server's times to live have stepped as well


@pytest.mark.parametrize(
    ("algorithm", "life"),
    [
        (SlidingLog(), 75_000),  # and a quarter, see there
        (SlidingBuckets(10), 66_000),
        (GCRA(), 12_000),
        (FixedWindow(), 60_000),
        (Concurrency(), 60_000),
    ],
    ids=str,
)
def test_a_time_to_live_is_a_states_life_and_a_second(
    redis_single: Single, namespace: str, algorithm: Any, life: int
) -> None:
    """As long as it means anything, in every algorithm; a penalty box until all is forgiven."""
    box = Penalty(after=1, within=10, block_for=20, longest=40)
    limit = Limit("x", 5, per=60, algorithm=algorithm, penalty=box)
    limiter = limiter_on(redis_single.url, namespace, limit)
    keys = limiter.shared[0].find("a")[0].keys([b"a"])

    def left(key: bytes) -> int:
        return int(cast("Any", redis_single.server.command("PTTL", key)))

    limiter.hit("a")
    assert life < left(keys[0]) <= life + 1001
    assert limiter.hit("a", cost=5).source == "penalty"
    assert 60_000 < left(keys[1]) <= 61_001


ADDRESS_AND_USER = (Limit("ip", "5/minute", by="address"), Limit("user", "3/minute", by="user"))


def test_several_subjects_on_a_cluster(redis_cluster: ClusterGroup, namespace: str) -> None:
    """All or nothing although no script can see both; peek, cancel and reset reach all slots."""
    limiter = limiter_on(redis_cluster.url, namespace, *ADDRESS_AND_USER, deny_cache_max=0)
    who = {"address": "192.0.2.1", "user": "ada"}
    decisions = [limiter.hit(who) for _ in range(4)]
    assert [d.allowed for d in decisions] == [True, True, True, False]
    assert decisions[3].limit.name == "user"
    seen = limiter.peek(who)
    assert {n: v.remaining for n, v in seen.by_limit.items()} == {"ip": 2, "user": 0}
    assert limiter.cancel(decisions[0])
    assert not limiter.cancel(decisions[0])
    assert {n: v.remaining for n, v in limiter.peek(who).by_limit.items()} == {"ip": 3, "user": 1}
    assert limiter.hit_up_to(who, 9).granted == 1
    assert limiter.reset(who)
    assert limiter.peek(who).remaining == 3
    assert asyncio.run(limiter.aio.hit(who)).allowed


def test_leases_of_several_subjects_on_a_cluster(
    redis_cluster: ClusterGroup, namespace: str
) -> None:
    """Permits are taken over several slots as units are; none too many, and the next hits ask nobody."""
    limiter = limiter_on(
        redis_cluster.url, namespace, *ADDRESS_AND_USER, lease=Lease(permits=2, ttl=60)
    )
    who = {"address": "192.0.2.1", "user": "ada"}
    assert [limiter.hit(who).source for _ in range(2)] == ["lease", "lease"]
    assert [limiter.hit(who).allowed for _ in range(3)] == [True, False, False]


def test_many_at_once_on_a_cluster_never_admit_too_much(
    redis_cluster: ClusterGroup, namespace: str
) -> None:
    """Spurious denials say so and are not remembered; nothing tentative stays behind."""
    limiter = limiter_on(redis_cluster.url, namespace, *ADDRESS_AND_USER)
    who = {"address": "192.0.2.1", "user": "ada"}
    decisions = in_threads(20, lambda _: limiter.hit(who))
    admitted = sum(d.allowed for d in decisions)
    assert admitted <= 3
    for decision in decisions:
        if decision.source == "tentative":
            assert (decision.retry_after or 0) <= 0.2
    admitted += sum(limiter.hit(who).allowed for _ in range(10))
    assert admitted == 3 or any(limiter.hit(who).source == "tentative" for _ in range(1))
    assert limiter.peek({"address": "192.0.2.1"}).by_limit["ip"].remaining >= 2


def test_tentative_units_end_by_themselves(redis_cluster: ClusterGroup, namespace: str) -> None:
    """A process that died between reserving and committing leaves nothing for longer than twice the timeout."""
    clock = ManualClock()
    store = connect(redis_cluster.url, timeout=10, clock=clock, now=clock.wall_us)
    limiter = RateLimiter(store, ADDRESS_AND_USER, name=namespace, deny_cache_max=1)
    who = {"address": "192.0.2.1", "user": "ada"}
    desk = limiter.shared[0]
    plan, tags = desk.find({"user": "ada"})
    keys = plan.keys(tags)
    store.run(plan.take(keys, 3, 3, 2, token=7, span=desk.hold_us))
    denied = limiter.hit(who)
    assert (denied.allowed, denied.source) == (False, "tentative")
    assert denied.retry_after == 0.2
    clock.advance(200_000 - 1)
    assert limiter.hit(who).source == "tentative"
    clock.advance(1)
    assert limiter.hit(who).allowed


moves = st.lists(
    st.tuples(
        st.sampled_from(["hit", "hit", "hit", "cancel", "raise", "lower", "lease"]),
        st.integers(1, 4),
        st.sampled_from([0, 0, 1, 200_000, 999_999, 1_000_000, 2_500_000]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=moves)
@pytest.mark.parametrize("algorithm", [SlidingLog(), SlidingBuckets(3)], ids=lambda a: a.kind)
def test_never_more_than_the_limit_in_any_window(
    algorithm: Any, history: list[tuple[str, int, int]]
) -> None:
    """Leases of two nodes, cancels, and a limit that is raised and lowered: what is spent stays below it."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)

    def node(amount: int) -> RateLimiter:
        limit = Limit("x", amount, per=1, algorithm=algorithm)
        return RateLimiter(store, limit, lease=Lease(permits=3, ttl=0.5), deny_cache_max=0)

    high, other, low = node(10), node(10), node(5)
    face = high
    spent: list[tuple[int, int]] = []
    open_decisions: list[tuple[int, int, Decision]] = []
    for verb, cost, step in history:
        clock.advance(step)
        now = clock.mono_us()
        if verb in ("raise", "lower"):
            face = high if verb == "raise" else low
        elif verb == "cancel" and open_decisions:
            when, taken, decision = open_decisions.pop()
            if face.cancel(decision):
                spent.remove((when, taken))
        else:
            decision = (other if verb == "lease" else face).hit("a", cost=cost)
            if decision.allowed:
                spent.append((now, cost))
                open_decisions.append((now, cost, decision))
        assert sum(c for when, c in spent if now - US < when <= now) <= 10


def test_threads_and_loops_share_one_limit(redis_single: Single, namespace: str) -> None:
    """Both colours at once, in several loops: exactly the limit."""
    limiter = limiter_on(redis_single.url, namespace, Limit("x", "50/minute"), deny_cache_max=0)
    counts: list[int] = []

    async def many() -> None:
        decisions = await asyncio.gather(*[limiter.aio.hit("a") for _ in range(40)])
        counts.append(sum(d.allowed for d in decisions))

    def blocking() -> None:
        counts.append(sum(limiter.hit("a").allowed for _ in range(40)))

    threads = [Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    threads += [Thread(target=blocking) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 50
    limiter.store.close()
