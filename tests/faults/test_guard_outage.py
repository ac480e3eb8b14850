"""The guard around real servers that pause, die, and come back."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from backendkit.core import context
from backendkit.core.errors import (
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreError,
    StoreUnavailable,
)
from backendkit.core.events import Event, Hooks
from backendkit.core.outcome import Error, Outcome
from backendkit.stores import FailurePolicy, Guarded, StoreDown, StoreUp
from tests.faults.load import Load, counts, guarded, tick
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.loops import in_fork, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.sentinel import SentinelGroup
from tests.ground.servers import Server
from tests.ground.single import Single
from tests.ground.waiting import eventually

PROBE = "backendkit-probe"


class Watch:
    """Keeps the guard's events, and when they came."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.events: list[Event] = []
        self.times: list[float] = []
        self.hooks.add(self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self.times.append(time.perf_counter())

    @property
    def kinds(self) -> list[str]:
        """The names of the events so far."""
        return [type(event).__name__ for event in self.events]


def url_of(server: Server) -> str:
    """Return the URL of a server."""
    return f"redis://127.0.0.1:{server.port}/0"


def call(store: Guarded, colour: str) -> tuple[Exception | None, float]:
    """Run one operation; return its error and the seconds it took."""
    return in_loop(store) if colour == "async" else timed(store)


def timed(store: Guarded) -> tuple[Exception | None, float]:
    """Run one operation, blocking."""
    operation = tick(b"k")
    started = time.perf_counter()
    try:
        store.run(operation)
    except StoreError as error:
        return error, time.perf_counter() - started
    return None, time.perf_counter() - started


async def timed_async(store: Guarded) -> tuple[Exception | None, float]:
    """Run one operation, awaiting."""
    operation = tick(b"k")
    started = time.perf_counter()
    try:
        await store.aio.run(operation)
    except StoreError as error:
        return error, time.perf_counter() - started
    return None, time.perf_counter() - started


def in_loop(store: Guarded) -> tuple[Exception | None, float]:
    """Run one operation in a loop of its own."""
    return asyncio.run(timed_async(store))


def probers() -> int:
    """Return how many probing threads there are, beside those of stores that other tests have left open."""
    return sum(t.name == PROBE and t not in _OTHERS for t in threading.enumerate())


_OTHERS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _no_prober_is_left() -> Any:
    _OTHERS.clear()
    _OTHERS.update(thread for thread in threading.enumerate() if thread.name == PROBE)
    yield
    eventually(lambda: probers() == 0, "the prober has ended", within=5)


def test_a_dead_server_from_threads(own_redis: Callable[..., Single]) -> None:
    """Refused: opens at once; the second call takes under 1 ms; recovery is noticed within a second."""
    server, watch = own_redis().server, Watch()
    store = guarded(url_of(server), hooks=watch.hooks)
    assert timed(store)[0] is None
    server.kill()
    error, took = timed(store)
    assert isinstance(error, StoreError)
    assert took < 0.4
    assert isinstance(timed(store)[0], StoreUnavailable)
    calls = [timed(store) for _ in range(50)]
    assert all(isinstance(error, StoreUnavailable) for error, _ in calls)
    assert sorted(took for _, took in calls)[40] < 0.001
    assert list(store.down) == [f"127.0.0.1:{server.port}"]
    eventually(lambda: len(watch.events) >= 1, "the event came")
    in_threads(20, lambda _: timed(store))
    assert probers() == 1
    server.start()
    back = time.perf_counter()
    eventually(lambda: not store.down, "it is up again", within=5, every=0.001)
    assert time.perf_counter() - back < 1.1
    assert watch.kinds == ["StoreDown", "StoreUp"]
    up = watch.events[1]
    assert isinstance(up, StoreUp)
    assert up.down_us == pytest.approx((watch.times[1] - watch.times[0]) * 1e6, abs=50_000)
    assert timed(store)[0] is None
    store.close()


def test_a_dead_server_from_a_loop(own_redis: Callable[..., Single]) -> None:
    """As from threads, by a task and without a thread."""
    server, watch = own_redis().server, Watch()
    store = guarded(url_of(server), hooks=watch.hooks)

    async def main() -> None:
        assert (await timed_async(store))[0] is None
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*(timed_async(store) for _ in range(30)))
        assert store.down
        calls = [await timed_async(store) for _ in range(50)]
        assert all(isinstance(error, StoreUnavailable) for error, _ in calls)
        assert sorted(took for _, took in calls)[40] < 0.001
        assert probers() == 0
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr] # every task here has one
        assert sum("_probe" in name for name in names) == 1
        await asyncio.to_thread(server.start)
        back = time.perf_counter()
        await asyncio.to_thread(eventually, lambda: not store.down, "it is up again", every=0.001)
        assert time.perf_counter() - back < 1.1
        assert (await timed_async(store))[0] is None
        await store.aio.close()

    asyncio.run(main())
    assert watch.kinds == ["StoreDown", "StoreUp"]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_paused_server(own_redis: Callable[..., Single], colour: str) -> None:
    """Two timeouts open it; who comes later waits no more; one event each, and back within a second."""
    server, watch = own_redis().server, Watch()
    store = guarded(url_of(server), hooks=watch.hooks)
    assert call(store, colour)[0] is None
    with server.paused():
        for _ in range(2):
            error, took = call(store, colour)
            assert isinstance(error, ReplyTimeout)
            assert 0.2 < took < 0.4
        calls = [call(store, colour) for _ in range(20)]
        assert all(isinstance(error, StoreUnavailable) for error, _ in calls)
        assert sorted(took for _, took in calls)[15] < 0.001
        time.sleep(1.2)  # the pauses between probes have grown
    back = time.perf_counter()
    while store.down:
        call(store, colour)
        time.sleep(0.005)
    assert time.perf_counter() - back < 1.1
    assert watch.kinds == ["StoreDown", "StoreUp"]
    assert call(store, colour)[0] is None
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_batch_that_is_late_counts_once(own_redis: Callable[..., Single], colour: str) -> None:
    """However many operations are in it: one write, one wait, one timeout of the two that open the guard."""
    server = own_redis().server
    store = guarded(url_of(server))
    assert call(store, colour)[0] is None

    async def many_async() -> list[Outcome[bytes]]:
        return await store.aio.run_many([tick(b"k") for _ in range(10)])

    def many() -> list[Outcome[bytes]]:
        return asyncio.run(many_async()) if colour == "async" else store.run_many([tick(b"k")] * 10)

    with server.paused():
        for down in ([], [f"127.0.0.1:{server.port}"]):
            outcomes = many()
            assert all(isinstance(o, Error) and isinstance(o.error, ReplyTimeout) for o in outcomes)
            assert list(store.down) == down
    store.close()


def test_recovery_is_noticed_within_a_second(own_redis: Callable[..., Single]) -> None:
    """Also when it comes just after a probe, with the pauses grown to their longest."""
    server = own_redis().server
    store = guarded(url_of(server), timeout=0.1)
    server.pause()
    for _ in range(3):
        timed(store)
    time.sleep(2.5)
    circuit = next(iter(store.circuits.values()))
    seen = circuit.probe_us
    eventually(lambda: circuit.probe_us != seen, "a probe has just failed", every=0.001)
    server.resume()
    back = time.perf_counter()
    eventually(lambda: not store.down, "it is up again", every=0.001)
    assert time.perf_counter() - back < 1.05
    store.close()


def test_two_timeouts_further_apart_than_a_second(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Do not open it; two within a second do."""
    proxy = fault_proxy(redis_single.server.address)
    policy = FailurePolicy(within=0.3)
    store = guarded(f"redis://127.0.0.1:{proxy.port}", timeout=0.05, policy=policy)
    assert timed(store)[0] is None

    def one_timeout() -> None:
        with proxy.injected(Faults(lose_replies=True)):
            assert isinstance(timed(store)[0], ReplyTimeout)
        assert timed(store)[0] is None or store.down

    one_timeout()
    time.sleep(0.35)
    one_timeout()
    assert not store.down
    one_timeout()
    assert store.down
    eventually(lambda: not store.down, "it is up again")
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_callers_hurry_opens_nothing(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """That a deadline of 20 ms has passed says nothing about the server."""
    proxy = fault_proxy(redis_single.server.address)
    store = guarded(f"redis://127.0.0.1:{proxy.port}", timeout=5.0)
    assert call(store, colour)[0] is None
    with proxy.injected(Faults(delay_replies=0.06)):
        for _ in range(4):
            with context.until(time.monotonic_ns() // 1000 + 20_000):
                error, _ = call(store, colour)
            assert isinstance(error, NotSent | OutcomeUnknown)
    with proxy.injected(Faults(unreachable=True)):
        proxy.reset_now()
        for _ in range(4):
            with context.until(time.monotonic_ns() // 1000 + 20_000):
                assert call(store, colour)[0] is not None
    assert not store.down
    assert call(store, colour)[0] is None
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("group", ["cluster", "sentinel"])
def test_a_callers_hurry_to_find_the_server_opens_nothing(
    request: pytest.FixtureRequest, group: str, colour: str
) -> None:
    """That nobody has said within 20 ms where its key belongs is no outage: who comes next has time of its own."""
    topology: ClusterGroup | SentinelGroup = request.getfixturevalue(f"redis_{group}")
    asked = topology.sentinels if isinstance(topology, SentinelGroup) else topology.servers
    store = guarded(topology.url, timeout=5.0, connect_timeout=5.0)
    with ExitStack() as pauses:
        for server in asked:
            pauses.enter_context(server.paused())
        with context.until(time.monotonic_ns() // 1000 + 20_000):
            error, _ = call(store, colour)
    assert type(error) is NotSent
    assert not store.down
    assert call(store, colour)[0] is None
    store.close()


def test_the_probers_loop_ends(own_redis: Callable[..., Single]) -> None:
    """Whoever comes next, from another loop or a thread, probes on at once."""
    server, watch = own_redis().server, Watch()
    store = guarded(url_of(server), hooks=watch.hooks)
    server.kill()
    in_loop(store)
    assert store.down
    server.start()
    for colour in ("async", "sync"):
        call(store, colour)
    eventually(lambda: not store.down, "it is up again", within=1.1)
    assert watch.kinds == ["StoreDown", "StoreUp"]
    assert timed(store)[0] is None
    store.close()


def test_the_probers_loop_is_closed_under_it(own_redis: Callable[..., Single]) -> None:
    """A loop that is closed without a word, its tasks pending: the next caller takes over."""
    server = own_redis().server
    store = guarded(url_of(server))
    server.kill()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(timed_async(store))
    assert store.down
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    server.start()
    timed(store)
    eventually(lambda: not store.down, "it is up again", within=1.1)
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_probe_that_takes_long_calls_for_no_second_prober(
    own_redis: Callable[..., Single], colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a server that hangs is not dead, also where the timeout is long."""
    monkeypatch.setattr("backendkit.stores.guarded._LATE_US", 100_000)
    server = own_redis().server
    store = guarded(url_of(server), timeout=1.0, policy=FailurePolicy(timeouts=1))

    def tasks() -> int:
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr] # every task here has one
        return names.count("Guarded._probe")

    async def scene() -> None:
        assert (await timed_async(store) if colour == "async" else timed(store))[0] is None
        with server.paused():
            for _ in range(5):
                assert (await timed_async(store) if colour == "async" else timed(store))[0]
                assert (probers(), tasks()) == ((0, 1) if colour == "async" else (1, 0))
                await asyncio.sleep(0.15)  # a probe is under way for a second
        await asyncio.to_thread(eventually, lambda: not store.down, "it is up again")
        await store.aio.close()

    asyncio.run(scene())


def test_closing_a_store_that_is_down(own_redis: Callable[..., Single]) -> None:
    """The prober goes with it: no task is left pending, no thread goes on, and nobody begins again."""
    server = own_redis().server
    server.kill()
    store = guarded(url_of(server))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(timed_async(store))
    assert store.down
    loop.run_until_complete(store.aio.close())
    assert not asyncio.all_tasks(loop)
    loop.close()
    gc.collect()

    store = guarded(url_of(server))
    timed(store)
    assert probers() == 1
    store.close()
    assert isinstance(timed(store)[0], NotSent)
    eventually(lambda: probers() == 0, "the prober has ended", within=0.5)


def test_closed_while_an_operation_fails(own_redis: Callable[..., Single]) -> None:
    """A failure that comes in after the store was closed opens nothing and starts no prober."""
    server = own_redis().server
    store = guarded(url_of(server), timeout=0.2, policy=FailurePolicy(timeouts=1))
    assert timed(store)[0] is None
    with server.paused():
        threading.Timer(0.05, store.close).start()
        assert isinstance(timed(store)[0], ReplyTimeout)
    assert not store.down
    assert probers() == 0


def test_no_thread_can_be_started(
    own_redis: Callable[..., Single], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At interpreter shutdown, say: callers get the store's error all the same."""
    server = own_redis().server
    server.kill()
    store = guarded(url_of(server))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            assert isinstance(timed(store)[0], StoreUnavailable)
    server.start()
    timed(store)
    eventually(lambda: not store.down, "it is up again", within=1.1)
    store.close()


def test_forked_while_down(own_redis: Callable[..., Single]) -> None:
    """The child probes for itself, with one thread of its own, and so does the parent."""
    server, watch = own_redis().server, Watch()
    store = guarded(url_of(server), hooks=watch.hooks)
    server.kill()
    timed(store)
    assert probers() == 1
    started = threading.Event()

    def child() -> tuple[int, int, list[str], bool]:
        before = probers()
        in_threads(8, lambda _: timed(store))
        during = probers()
        eventually(lambda: not store.down, "it is up again, for the child", within=10)
        return before, during, watch.kinds, timed(store)[0] is None

    def start() -> None:
        time.sleep(0.5)
        server.start()
        started.set()

    threading.Thread(target=start).start()
    assert in_fork(child) == (0, 1, ["StoreDown", "StoreUp"], True)
    assert started.wait(10)
    eventually(lambda: not store.down, "it is up again, for the parent", within=2)
    assert watch.kinds == ["StoreDown", "StoreUp"]
    assert timed(store)[0] is None
    store.close()


def test_forked_from_the_probers_loop(own_redis: Callable[..., Single]) -> None:
    """The task stays with the parent's loop; the child takes over with a thread."""
    server = own_redis().server
    store = guarded(url_of(server))
    server.kill()

    def child() -> bool:
        timed(store)
        eventually(lambda: not store.down, "it is up again, for the child", within=10)
        gc.collect()
        return timed(store)[0] is None

    async def main() -> None:
        await timed_async(store)
        threading.Timer(0.3, server.start).start()
        assert in_fork(child)
        await asyncio.to_thread(eventually, lambda: not store.down, "it is up again")
        assert (await timed_async(store))[0] is None

    asyncio.run(main())
    store.close()


@pytest.mark.parametrize("fault", ["dead", "paused"])
def test_one_node_of_a_cluster(own_cluster: Callable[..., ClusterGroup], fault: str) -> None:
    """It has a circuit of its own: operations on the other nodes never fail, nor wait."""
    cluster, watch = own_cluster(node_timeout_ms=30_000), Watch()
    masters = cluster.masters()
    bad, good = masters[0], masters[1:]  # the first in the URL: the one that would be asked first
    keys = [f"{{{cluster.tag_on(node)}}}".encode() for node in good]
    bad_key = f"{{{cluster.tag_on(bad)}}}".encode()
    store = guarded(cluster.url, hooks=watch.hooks, timeout=1.0, connect_timeout=1.0)
    load = Load(store, lambda n: tick(keys[n % 2]), threads=2, tasks=6)
    sick = Load(store, lambda _: tick(bad_key), threads=1, tasks=2)
    with load.running(), sick.running():
        load.progress()
        sick.progress()
        bad.pause() if fault == "paused" else bad.kill()
        eventually(lambda: store.down, "the guard has opened")
        assert list(store.down) == [f"127.0.0.1:{bad.port}"]
        time.sleep(1.0)
        load.progress()
        bad.resume() if fault == "paused" else bad.start()
        if fault == "dead":
            cluster.settle()
        eventually(lambda: not store.down, "the guard has closed", within=10)
        sick.progress()
    assert not load.books.failed
    assert sick.books.failed
    load.books.check(counts(good[0], keys[0]) + counts(good[1], keys[1]))
    assert watch.kinds[:1] == ["StoreDown"]
    assert watch.kinds[-1:] == ["StoreUp"]
    routes = {e.route for e in watch.events if isinstance(e, StoreDown | StoreUp)}
    assert routes == {f"127.0.0.1:{bad.port}"}
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_node_that_is_back_does_not_wait_for_those_that_are_not(
    own_cluster: Callable[..., ClusterGroup], colour: str
) -> None:
    """All that are down are probed at once: those that hang cost a round one timeout, however many they are."""
    cluster = own_cluster(masters=5, node_timeout_ms=60_000)
    nodes = cluster.masters()
    operations = [tick(f"{{{cluster.tag_on(node)}}}".encode()) for node in nodes]
    policy = FailurePolicy(timeouts=1)
    store = guarded(cluster.url, timeout=1.0, connect_timeout=1.0, policy=policy)
    assert not any(isinstance(outcome, Error) for outcome in store.run_many(operations))

    def abreast() -> bool:
        return len({circuit.probe_us for circuit in list(store.circuits.values())}) == 1

    async def scene() -> None:
        if colour == "async":
            await store.aio.run_many(operations)
        else:
            store.run_many(operations)
        assert len(store.down) == 4
        await asyncio.to_thread(eventually, abreast, "all were probed at once")
        nodes[4].resume()
        await asyncio.to_thread(eventually, lambda: len(store.down) == 3, "one is up again")
        await store.aio.close()

    with ExitStack() as pauses:
        for node in nodes[1:]:
            pauses.enter_context(node.paused())
        asyncio.run(scene())
