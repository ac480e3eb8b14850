"""Bounds that hold whatever comes: an operation's time, a batch's, connections that nobody needs, prepared heads."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from backendkit.core.errors import NotSent, ReplyTimeout, StoreError, StoreUnavailable
from backendkit.core.operation import Change, Operation, Script
from backendkit.core.outcome import Error
from backendkit.stores import Guarded, connect
from backendkit.stores.redis import RedisStore
from backendkit.stores.redis.shared import CHUNK
from backendkit.stores.redis.wire import Packer
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.loops import in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.single import Single

ONE = Script("one", lua="return {1}", fold=lambda states, now, args: Change((), [1]))


def one() -> Operation[Any]:
    """Return an operation that answers one."""
    return Operation(ONE, (b"k",), (), read=list)


TWO = Script("two", lua="return {2}", fold=lambda states, now, args: Change((), [2]))


def other() -> Operation[Any]:
    """Return an operation of another script, that answers two."""
    return Operation(TWO, (b"k",), (), read=list)


def bare(url: str, *, timeout: float = 0.25, connect_timeout: float = 0.25) -> RedisStore:
    """Return a store without its guard, which would answer in its place."""
    guarded = connect(url, timeout=timeout, connect_timeout=connect_timeout)
    assert isinstance(guarded, Guarded)
    store = guarded.store
    assert isinstance(store, RedisStore)
    return store


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_slow_refusal_leaves_the_next_attempt_only_the_rest_of_the_time(
    colour: str, own_redis: Callable[..., Single], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Two attempts of almost a timeout each are not one operation within its timeout."""
    proxy = fault_proxy(own_redis().server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}/0", timeout=0.5, connect_timeout=0.05)
    proxy.inject(Faults(delay_replies=0.4))  # the first answer is NOSCRIPT
    begun = time.monotonic()
    with pytest.raises(StoreError):
        store.run(one()) if colour == "sync" else asyncio.run(store.aio.run(one()))
    assert time.monotonic() - begun < 0.7
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_large_batch_to_a_paused_server_ends_after_one_timeout(
    colour: str, own_redis: Callable[..., Single]
) -> None:
    """What was sent may have run; the rest has not."""
    redis = own_redis()
    store = bare(redis.url, timeout=1.0, connect_timeout=1.0)
    store.run(one())
    operations = [one()] * (3 * CHUNK)
    with redis.server.paused():
        begun = time.monotonic()
        many = store.run_many if colour == "sync" else lambda o: asyncio.run(store.aio.run_many(o))
        outcomes = many(operations)
        spent = time.monotonic() - begun
    failures = [type(outcome.error) for outcome in outcomes if isinstance(outcome, Error)]
    assert failures == [ReplyTimeout] * CHUNK + [NotSent] * (2 * CHUNK)
    assert 1.0 <= spent < 2.0
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_huge_batch_is_carried_out(colour: str, own_redis: Callable[..., Single]) -> None:
    """A healthy server is given it in chunks, and no outage is seen where there is none."""
    store = bare(own_redis().url, timeout=1.0, connect_timeout=1.0)
    operations = [one()] * 20_500
    many = store.run_many if colour == "sync" else lambda o: asyncio.run(store.aio.run_many(o))
    assert [outcome.unwrap() for outcome in many(operations)] == [[1]] * 20_500
    assert store.stats().largest_batch == CHUNK  # a fraction of the time that a whole one takes
    assert many([]) == []
    store.close()


def test_a_batch_of_unknown_scripts_goes_twice_not_each_by_itself(
    own_redis: Callable[..., Single],
) -> None:
    """After a restart a server knows no script: the batch is sent again, each script's text once."""
    redis = own_redis()
    store = bare(redis.url, timeout=5.0, connect_timeout=5.0)
    operations = [one() if n % 2 else other() for n in range(40)]
    assert [outcome.unwrap() for outcome in store.run_many(operations)] == [[2], [1]] * 20
    stats = store.stats()
    assert (stats.batches, stats.resent, stats.largest_batch) == (2, 40, 40)
    calls = {
        name: int(line.split("calls=")[1].split(",")[0])
        for name, line in redis.server.info("commandstats").items()
    }
    assert (calls["cmdstat_eval"], calls["cmdstat_evalsha"]) == (2, 40 + 38)
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_batch_waits_once_for_all_nodes(
    colour: str, own_cluster: Callable[..., ClusterGroup]
) -> None:
    """Each is sent its share before the first is waited for: what hangs on two costs one timeout."""
    cluster = own_cluster(node_timeout_ms=60_000)
    masters = cluster.masters()
    keys = [f"{{{cluster.tag_on(node)}}}".encode() for node in masters]
    store = bare(cluster.url, timeout=1.0, connect_timeout=1.0)
    many = store.run_many if colour == "sync" else lambda o: asyncio.run(store.aio.run_many(o))
    operations = [Operation(ONE, (keys[n % 3],), (), read=list) for n in range(9)]
    assert [outcome.unwrap() for outcome in many(operations)] == [[1]] * 9
    with masters[0].paused(), masters[1].paused():
        begun = time.monotonic()
        outcomes = many(operations)
        spent = time.monotonic() - begun
    failed = [isinstance(outcome, Error) for outcome in outcomes]
    assert failed == [True, True, False] * 3
    assert 1.0 <= spent < 1.9
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_first_batch_is_one_per_node(colour: str, redis_cluster: ClusterGroup) -> None:
    """Where its operations belong is asked once, and not by each of them."""
    keys = [f"{{{redis_cluster.tag_on(node)}}}".encode() for node in redis_cluster.masters()]
    operations = [Operation(ONE, (keys[n % 3],), (), read=list) for n in range(60)]
    store = bare(redis_cluster.url, timeout=5.0, connect_timeout=5.0)
    store.run_many(operations)  # now all nodes know the script
    store.close()
    store = bare(redis_cluster.url, timeout=5.0, connect_timeout=5.0)
    many = store.run_many if colour == "sync" else lambda o: asyncio.run(store.aio.run_many(o))
    assert [outcome.unwrap() for outcome in many(operations)] == [[1]] * 60
    assert store.stats().batches == 3
    store.close()


def test_a_batch_that_nobody_can_place(own_cluster: Callable[..., ClusterGroup]) -> None:
    """One question, one timeout for all, and one error each."""
    cluster = own_cluster(node_timeout_ms=60_000)
    store = bare(cluster.url, timeout=1.0, connect_timeout=1.0)
    with ExitStack() as pauses:
        for node in cluster.servers:
            pauses.enter_context(node.paused())
        begun = time.monotonic()
        outcomes = store.run_many([one()] * 30)
        spent = time.monotonic() - begun
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Error)]
    assert [type(error) for error in errors] == [StoreUnavailable] * 30
    assert len(set(map(id, errors))) == 30
    assert 1.0 <= spent < 1.9
    assert store.run_many([one()] * 30)[29].unwrap() == [1]
    store.close()


def test_an_interrupt_within_a_batch_leaves_no_connection_out_of_step(
    own_cluster: Callable[..., ClusterGroup],
) -> None:
    """What was sent to other nodes is not received any more: their connections are closed."""
    cluster = own_cluster(node_timeout_ms=60_000)
    masters = cluster.masters()
    keys = [f"{{{cluster.tag_on(node)}}}".encode() for node in masters]
    store = bare(cluster.url, timeout=20.0, connect_timeout=20.0)
    operations = [Operation(ONE, (key,), (), read=list) for key in keys]
    store.run_many(operations)

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    me = threading.main_thread().ident
    try:
        with masters[0].paused():
            threading.Timer(0.2, signal.pthread_kill, (me, signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                store.run_many(operations)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert store.stats().connections == 0
    twos = [Operation(TWO, (key,), (), read=list) for key in keys]
    assert [outcome.unwrap() for outcome in store.run_many(twos)] == [[2]] * 3
    store.close()


@pytest.mark.parametrize("batch", [1, CHUNK])
def test_a_stalled_loop_takes_no_server_for_dead(
    batch: int, own_redis: Callable[..., Single]
) -> None:
    """The replies came in time and lie in the socket: whoever comes late to read them is the application."""
    store = bare(own_redis().url, timeout=0.2, connect_timeout=5.0)

    async def main() -> list[Any]:
        await store.aio.run(one())
        running = [asyncio.ensure_future(store.aio.run(one())) for _ in range(batch)]
        before = store.stats().operations
        for _ in range(3):
            await asyncio.sleep(0)
        assert store.stats().operations == before + batch  # they are sent
        time.sleep(0.5)  # noqa: ASYNC251  # the stall
        return await asyncio.gather(*running)

    assert asyncio.run(main()) == [[1]] * batch
    assert store.stats().timeouts == 0
    store.close()


def test_connections_of_a_peak_are_closed_when_they_lay_idle_long(
    own_redis: Callable[..., Single],
) -> None:
    """One with each operation after it; what is in use stays."""
    store = bare(own_redis().url)
    in_threads(12, lambda n: [store.run(one()) for _ in range(20)])
    [leases] = store._leases.values()
    held = len(leases._idle)
    assert held > 1
    for lease in leases._idle:
        lease.used_us -= 61_000_000
    for _ in range(held + 5):
        store.run(one())
    assert store.stats().connections == 1
    store.close()


def test_prepared_heads_are_bounded() -> None:
    """Every number of keys is a shape of its own, and each holds the whole text of its script."""
    packer = Packer()
    for count in range(1, 1_500):
        packed = packer.pack(Operation(ONE, (b"{k}",) * count, (), read=list))
        assert packed.startswith(b"*%d\r\n" % (3 + count))
    assert len(packer._heads) <= 1_024


def test_waits_for_a_connection_are_counted(own_redis: Callable[..., Single]) -> None:
    """The first operation of a thread or loop waits for one; later ones do not."""
    store = bare(own_redis().url)
    store.run(one())
    store.run(one())
    assert store.stats().waits == 1

    async def both() -> None:
        await asyncio.gather(store.aio.run(one()), store.aio.run(one()))
        await store.aio.run(one())

    asyncio.run(both())
    assert store.stats().waits == 3
    store.close()
