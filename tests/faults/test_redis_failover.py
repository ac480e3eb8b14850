"""Sentinel fails over under load: callers get true errors for a moment, then the new master."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backendkit.core.errors import NotSent, StoreError, StoreUnavailable
from tests.faults.load import Books, Load, bare, counts, guarded, replicated, tick
from tests.ground.proxy import FaultProxy
from tests.ground.sentinel import SentinelGroup
from tests.ground.servers import Server
from tests.ground.single import Single
from tests.ground.waiting import eventually

KEY = b"failover"


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    """A group of these tests' own: each leaves it settled."""
    with SentinelGroup() as group:
        yield group


@pytest.fixture(autouse=True)
def _clean(group: SentinelGroup) -> None:
    group.settle()
    group.master().command("DEL", KEY)
    replicated(group.master())


def check(load: Load, master: Server, trusted: int, settled: int) -> None:
    """Check the books against the new master.

    Replication is asynchronous: what the old master acknowledged between `trusted` and `settled` (positions in what
    was done), and only that, may be lost by Redis itself. Nothing may ever have run twice, and no NotSent may have run.
    """
    load.books.check(counts(master, KEY), may_be_lost=load.books.done[trusted:settled])
    assert len(load.books.done) >= settled + 150


@contextmanager
def failing_over(store: Any, **options: Any) -> Iterator[Load]:
    """Run a load around a block that changes the master; it must have gone on afterwards."""
    load = Load(store, lambda _: tick(KEY), **options)
    with load.running():
        load.progress(100)
        yield load
        load.progress(200)


@pytest.mark.parametrize("guard", [False, True], ids=["bare", "guarded"])
def test_failover_on_command(group: SentinelGroup, guard: bool) -> None:
    """The old master lives on as a replica: READONLY and killed connections."""
    store = (guarded if guard else bare)(group.url, timeout=1.0, connect_timeout=1.0)
    with failing_over(store) as load:
        trusted = len(load.books.done)
        replicated(group.master())
        new = group.failover()
        settled = len(load.books.done)
    check(load, new, trusted, settled)
    with failing_over(store) as after:
        pass
    assert not after.books.failed
    store.close()


def test_failover_by_death(group: SentinelGroup) -> None:
    """Refused until another is elected; each error comes in time; the service resumes by itself."""
    store = guarded(group.url)
    took: list[float] = []
    with failing_over(store) as load:
        old = group.master()
        trusted = len(load.books.done)
        replicated(old)
        died = time.perf_counter()
        old.kill()
        eventually(lambda: store.down, "the guard has opened", every=0.001)
        eventually(lambda: not store.down, "a new master serves", within=30, every=0.001)
        settled = len(load.books.done)
        took.append(time.perf_counter() - died)
        group.settle()
    new = group.master()
    assert new is not old  # settled by now
    check(load, new, trusted, settled)
    assert load.books.failed
    assert took[0] < 10
    group.restart(old)
    store.close()


def test_the_master_is_paused_not_killed(group: SentinelGroup) -> None:
    """Connections to it hang; the new master is found all the same, and the old one, when it wakes, is left alone."""
    store = guarded(group.url)
    with failing_over(store) as load:
        old = group.master()
        trusted = len(load.books.done)
        replicated(old)
        with old.paused():
            eventually(lambda: store.down, "the guard has opened")
            eventually(lambda: not store.down, "a new master serves", within=30)
            settled = len(load.books.done)
            load.progress(200)
            # One sentinel knows it, and has told the store; the others hear of it now.
            eventually(lambda: group.master() is not old, "another master is elected")
        group.settle()
        load.progress(200)
    check(load, group.master(), trusted, settled)
    store.close()


@pytest.mark.parametrize("fault", ["dead", "paused"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_first_sentinels_are_down(group: SentinelGroup, fault: str, colour: str) -> None:
    """The others are asked: no operation fails for it, not even the first."""
    bad = group.sentinels[:2]
    for sentinel in bad:
        sentinel.kill() if fault == "dead" else sentinel.pause()
    try:
        store = bare(group.url, timeout=0.5, connect_timeout=0.5)
        started = time.perf_counter()
        if colour == "sync":
            store.run(tick(KEY))
        else:
            asyncio.run(store.aio.run(tick(KEY)))
        assert time.perf_counter() - started < 0.7
        store.close()
    finally:
        for sentinel in bad:
            if fault == "dead":
                sentinel.restart()
                group._hurry(sentinel)
            else:
                sentinel.resume()
        group.settle()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_all_sentinels_are_down(own_sentinel: Callable[..., SentinelGroup], colour: str) -> None:
    """Who knows the master goes on; who must ask is told, in time, what each of them said."""
    group = own_sentinel(down_after_ms=10_000)
    store = bare(group.url, timeout=0.3, connect_timeout=0.3)
    fresh = bare(group.url, timeout=0.3, connect_timeout=0.3)

    def run(store: Any) -> None:
        store.run(tick(KEY)) if colour == "sync" else asyncio.run(store.aio.run(tick(KEY)))

    run(store)
    for sentinel in group.sentinels:
        sentinel.pause()
    run(store)
    started = time.perf_counter()
    with pytest.raises(StoreUnavailable, match="no master of 'main' found"):
        run(fresh)
    with pytest.raises(StoreError):
        fresh.run_many([tick(KEY) for _ in range(10)])[9].unwrap()
    assert time.perf_counter() - started < 2 * 0.3 + 0.3
    for sentinel in group.sentinels:
        sentinel.resume()
    run(fresh)
    store.close()
    fresh.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_sentinel_that_names_an_old_master(
    own_sentinel: Callable[..., SentinelGroup], own_redis: Callable[..., Single], colour: str
) -> None:
    """It was cut off. The server that it names says itself that it is none: the next sentinel is asked."""
    group = own_sentinel(down_after_ms=10_000)
    replica = group.replicas()[0]
    liar = Server(
        f"sentinel monitor main 127.0.0.1 {replica.port} 9",
        "sentinel down-after-milliseconds main 60000",
        role="sentinel",
    )
    # It would learn from the replica who its master is, given ten seconds.
    with_liar = group.url.replace("//", f"//127.0.0.1:{liar.port},")
    liar.start()
    try:
        store = bare(with_liar, timeout=2.0, connect_timeout=2.0)
        if colour == "sync":
            store.run(tick(KEY))
        else:
            asyncio.run(store.aio.run(tick(KEY)))
        assert len(counts(group.master(), KEY)) == 1
        store.close()
        store = bare(f"redis+sentinel://127.0.0.1:{liar.port}/main", timeout=0.5)
        with pytest.raises(StoreUnavailable, match="is no master"):
            store.run(tick(KEY))
        store.close()
        store = bare(f"redis+sentinel://127.0.0.1:{liar.port}/other", timeout=0.5)
        with pytest.raises(StoreUnavailable, match="does not know 'other'"):
            store.run(tick(KEY))
        store.close()
    finally:
        liar.close()


def test_a_blocking_call_while_a_task_of_its_loop_asks(
    own_sentinel: Callable[..., SentinelGroup], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """The task cannot go on while the call blocks its loop: the call asks for itself."""
    group = own_sentinel(down_after_ms=10_000)
    store = bare(group.url, timeout=3.0, connect_timeout=3.0)

    async def main() -> None:
        asking = asyncio.ensure_future(store.aio.run(tick(KEY)))
        await asyncio.sleep(0)
        assert store._shared.topology._asking.locked()  # type: ignore[attr-defined] # of SentinelMaster
        started = time.perf_counter()
        store.run(tick(KEY))
        assert time.perf_counter() - started < 1.0
        await asking
        await store.aio.close()

    asyncio.run(main())


def test_many_ask_at_once(group: SentinelGroup, fault_proxy: Callable[..., FaultProxy]) -> None:
    """One asks, the others take what it learns: sentinels are not stormed by 200 tasks."""
    proxy = fault_proxy(group.sentinels[0].address)
    url = f"redis+sentinel://127.0.0.1:{proxy.port}/main"
    store = bare(url, timeout=5.0, connect_timeout=5.0)
    books = Books()

    async def main() -> None:
        await asyncio.gather(*(books.run_async(store.aio, tick(KEY)) for _ in range(200)))
        await store.aio.close()

    asyncio.run(main())
    assert len(books.done) == 200
    assert proxy.requests_seen(b"SENTINEL") == 1


def test_a_batch_for_a_master_that_hangs(own_sentinel: Callable[..., SentinelGroup]) -> None:
    """Fifty operations that find no connection take the time of one, and not of fifty."""
    group = own_sentinel(down_after_ms=10_000)
    store = bare(
        group.url, timeout=0.3, connect_timeout=0.3, protocol=3
    )  # a handshake that will hang
    store.run(tick(KEY))
    store._leases.clear()
    with group.master().paused():
        started = time.perf_counter()
        outcomes = store.run_many([tick(KEY) for _ in range(50)])
        assert time.perf_counter() - started < 3 * 0.3 + 0.2
    for outcome in outcomes:
        with pytest.raises(NotSent):
            outcome.unwrap()
    store.close()
