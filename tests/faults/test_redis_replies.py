"""Replies reach their own caller, whatever is done to the connection and to the callers."""

import asyncio
import random
import signal
import threading
from collections.abc import Callable

import pytest

from backendkit.core.errors import NotSent, OutcomeUnknown, ReplyTimeout, StoreError
from backendkit.core.operation import Operation
from backendkit.core.outcome import Value
from tests.faults.load import (
    Books,
    Load,
    bare,
    counts,
    run_of,
    script,
    spin,
    tick,
    token_of,
)
from tests.ground.faults import Faults
from tests.ground.loops import in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.single import Single

KB = 1024


def through(proxy: FaultProxy) -> str:
    """Return the URL of what stands behind a proxy."""
    return f"redis://127.0.0.1:{proxy.port}/0"


def test_6000_random_cancellations(redis_single: Single, namespace: str) -> None:
    """Cancelled before the flush: never sent. After it: it runs once, and nobody gets its reply."""
    key = namespace.encode()
    store = bare(redis_single.url, timeout=5.0)
    dice = random.Random(7)
    early: list[bytes] = []
    late: list[bytes] = []
    books = Books()

    async def caller(turns: int) -> None:
        operation = tick(key, b"x" * dice.choice([0, 10, 2000]))
        task = asyncio.ensure_future(books.run_async(store.aio, operation))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():
            # After one turn the task has submitted, and the flush comes later in that same turn.
            (early if turns <= 1 else late).append(token_of(operation))
        await asyncio.gather(task, return_exceptions=True)

    async def main() -> None:
        await store.aio.run(tick(key))
        for _ in range(100):
            await asyncio.gather(
                *(caller(dice.choice([0, 1, 2, 3, 4])) for _ in range(60)),
                *(books.run_async(store.aio, tick(key)) for _ in range(10)),
            )
        await store.aio.run(tick(key))
        stats = store.stats()
        assert (stats.in_flight, stats.waiting, stats.connections) == (0, 0, 1)
        await store.aio.close()

    asyncio.run(main())
    counted = counts(redis_single.server, key)
    books.check(counted)
    assert not books.failed
    assert len(early) > 1500
    assert len(late) > 1500
    assert not set(early) & set(counted), "cancelled before the flush, yet sent"
    assert set(late) <= set(counted), "sent, yet not run"


@pytest.mark.parametrize("sever", [1, 7, 40])
def test_connection_lost_in_mid_batch(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy], sever: int
) -> None:
    """What was sent is unknown, what was not goes out with the next connection, and nothing is sent twice."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=5.0)
    key = namespace.encode()
    books = Books()

    async def main() -> None:
        await store.aio.run(tick(key))
        proxy.inject(Faults(sever_after=sever))
        proxy.forget_requests()
        await asyncio.gather(*(books.run_async(store.aio, tick(key)) for _ in range(50)))
        assert await books.run_async(store.aio, tick(key))
        assert store.stats().in_flight == 0
        await store.aio.close()

    asyncio.run(main())
    books.check(counts(redis_single.server, key))
    assert len(books.unknown) == 50
    assert not books.refused
    assert proxy.requests_seen(b"EVALSHA") == 51


def test_connection_lost_in_mid_batch_of_a_thread(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """The replies that came are told, the others are unknown."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=5.0)
    key = namespace.encode()
    store.run(tick(key))
    operations = [tick(key) for _ in range(30)]
    proxy.inject(Faults(sever_after=10))
    outcomes = store.run_many(operations)
    books = Books()
    for operation, outcome in zip(operations, outcomes, strict=True):
        books.note(operation, None if isinstance(outcome, Value) else outcome.error)  # type: ignore[arg-type] # no store raises less than an Exception
    assert not books.refused
    assert len(books.unknown) >= 20
    counted = counts(redis_single.server, key)
    assert len([t for t in books.unknown if t in counted]) <= 10
    books.check(counted)
    store.run(tick(key))
    store.close()


def test_replies_cut_short(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """A connection that ends in the middle of a reply is given up in both colours."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=5.0)
    key = namespace.encode()
    store.run(tick(key))
    with proxy.injected(Faults(truncate=11)), pytest.raises(OutcomeUnknown, match="may have run"):
        store.run(tick(key))
    store.run(tick(key))

    async def main() -> None:
        await store.aio.run(tick(key))
        with proxy.injected(Faults(truncate=11)):
            results = await asyncio.gather(
                *(store.aio.run(tick(key)) for _ in range(5)), return_exceptions=True
            )
        assert [type(result) for result in results] == [OutcomeUnknown] * 5
        await store.aio.run(tick(key))
        await store.aio.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "faults", [Faults(one_byte=True), Faults(delay_replies=0.02, jitter=0.02)], ids=["1B", "late"]
)
def test_sliced_and_late_replies(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy], faults: Faults
) -> None:
    """Threads, tasks, small and large values, and operations that are given up, all at once."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=10.0)
    key = namespace.encode()
    store.run(tick(key))
    proxy.inject(faults)

    def threads(number: int) -> None:
        for turn in range(15):
            assert store.run(tick(key, b"%d" % number * turn))

    async def one(number: int) -> None:
        dice = random.Random(number)
        for _ in range(8):
            task = asyncio.ensure_future(store.aio.run(tick(key, b"y" * dice.randrange(40))))
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() * 0.01)
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result()

    async def main() -> None:
        await store.aio.run(tick(key, b"z" * 3000))
        await asyncio.gather(*map(one, range(40)))

    in_threads(5, lambda n: asyncio.run(main()) if n == 4 else threads(n))
    stats = store.stats()
    assert (stats.in_flight, stats.timeouts) == (0, 0)
    store.close()


def test_large_values_do_not_hold_up_small_ones(redis_single: Single, namespace: str) -> None:
    """Over 64 KiB travels on a second lane; every reply is whole and its caller's own."""
    store = bare(redis_single.url, timeout=10.0)
    key = namespace.encode()

    async def main() -> None:
        await asyncio.gather(
            *(store.aio.run(tick(key, b"%06d" % n * 15_000)) for n in range(12)),
            *(store.aio.run(tick(key, b"%d" % n)) for n in range(200)),
        )
        assert store.stats().connections == 2
        large = [
            asyncio.ensure_future(store.aio.run(tick(key, bytes(2_000_000)))) for _ in "x" * 15
        ]
        await asyncio.sleep(0)
        await store.aio.run(tick(key))
        assert sum(task.done() for task in large) < 8
        await asyncio.gather(*large)

    asyncio.run(main())
    in_threads(4, lambda n: store.run(tick(key, b"%06d" % n * 50_000)))
    store.close()


def test_slow_scripts_do_not_mix_with_quick_ones(redis_single: Single, namespace: str) -> None:
    """They have a lane of their own, and replies do not cross between the two."""
    store = bare(redis_single.url, timeout=10.0)
    key = namespace.encode()

    async def main() -> None:
        for _ in range(5):
            await asyncio.gather(
                *(store.aio.run(spin(key, 100_000)) for _ in range(3)),
                *(store.aio.run(tick(key)) for _ in range(30)),
            )
        assert store.stats().connections == 2
        await store.aio.close()

    asyncio.run(main())


def test_back_pressure_and_cancellation_during_it(own_redis: Callable[..., Single]) -> None:
    """A paused server, megabytes under way: what waits behind the write is sent whole, or never."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=20.0)
    books = Books()
    cancelled: list[bytes] = []

    async def main() -> None:
        await asyncio.gather(store.aio.run(tick(b"k", bytes(70_000))), store.aio.run(tick(b"k")))
        with server.paused():
            first = [tick(b"k", bytes(3_000_000)) for _ in range(6)]
            tasks = [asyncio.ensure_future(books.run_async(store.aio, o)) for o in first]
            await asyncio.sleep(0.05)
            assert store.stats().waiting == 0
            second = [tick(b"k", bytes(70_000)) for _ in range(40)]
            later = [asyncio.ensure_future(books.run_async(store.aio, o)) for o in second]
            await asyncio.sleep(0.05)
            assert store.stats().waiting == 40, "the write has drained: no back-pressure"
            for task, operation in list(zip(later, second, strict=True))[::2]:
                task.cancel()
                cancelled.append(token_of(operation))
            tasks[1].cancel()  # in the middle of the write: it runs
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks, *later, return_exceptions=True)
        assert await books.run_async(store.aio, tick(b"k", bytes(70_000)))
        assert token_of(first[1]) in counts(server, b"k")
        stats = store.stats()
        assert (stats.in_flight, stats.waiting, stats.timeouts) == (0, 0, 0)
        await store.aio.close()

    asyncio.run(main())
    counted = counts(server, b"k")
    books.check(counted)
    assert not books.failed
    assert not set(cancelled) & set(counted)


def test_back_pressure_that_never_ends(own_redis: Callable[..., Single]) -> None:
    """What was written is unknown, what waited was not sent; the next connection is in step."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=0.3)
    books = Books()

    async def main() -> None:
        await asyncio.gather(store.aio.run(tick(b"k", bytes(70_000))), store.aio.run(tick(b"k")))
        with server.paused():
            written = [tick(b"k", bytes(3_000_000)) for _ in range(4)]
            tasks = [asyncio.ensure_future(books.run_async(store.aio, o)) for o in written]
            await asyncio.sleep(0.05)
            waiting = [tick(b"k", bytes(70_000)) for _ in range(10)]
            tasks += [asyncio.ensure_future(books.run_async(store.aio, o)) for o in waiting]
            await asyncio.gather(*tasks)
            assert {token_of(o) for o in written} == set(books.unknown)
            assert {token_of(o) for o in waiting} == set(books.refused)
        assert await books.run_async(store.aio, tick(b"k", bytes(70_000)))
        stats = store.stats()
        assert (stats.in_flight, stats.waiting, stats.timeouts) == (0, 0, 14)
        await store.aio.close()

    asyncio.run(main())
    books.check(counts(server, b"k"))


def test_a_thread_that_cannot_write_it_all(own_redis: Callable[..., Single]) -> None:
    """The last bytes never left: not sent, which is true."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=0.3)
    books = Books()
    store.run(tick(b"k"))
    with server.paused():
        assert not books.run(store, tick(b"k", bytes(20_000_000)))
    assert len(books.refused) == 1
    assert books.run(store, tick(b"k"))
    books.check(counts(server, b"k"))
    store.close()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_lost_reply_is_never_sent_again(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """The server ran it, the reply was lost: ReplyTimeout, and exactly one on the wire."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=0.15)
    key = namespace.encode()
    store.run(tick(key))
    operation = tick(key)
    before = store.stats()
    proxy.inject(Faults(lose_replies=True))
    run = store.run if colour == "sync" else lambda o: asyncio.run(store.aio.run(o))
    with pytest.raises(ReplyTimeout, match="may have run"):
        run(operation)
    proxy.heal()
    seen = proxy.requests_seen(token_of(operation))
    assert seen == 1
    assert counts(redis_single.server, key)[token_of(operation)] == 1
    after = store.stats()
    assert after.timeouts == 1
    assert (after.operations, after.resent) == (before.operations + 1, before.resent)
    store.close()


def test_a_lost_reply_to_a_script_that_is_not_known(
    own_redis: Callable[..., Single], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """NOSCRIPT is answered by EVAL; when that one's reply is lost, nothing follows."""
    server = own_redis().server
    proxy = fault_proxy(server.address)
    store = bare(through(proxy), timeout=0.3)
    operation = tick(b"k")

    async def main() -> None:
        with pytest.raises(OutcomeUnknown):
            await store.aio.run(operation)
        await store.aio.close()

    proxy.inject(Faults(sever_after=2))
    asyncio.run(main())
    assert [request[0] for request in proxy.requests()] == [b"EVALSHA", b"EVAL"]
    assert counts(server, b"k") == {token_of(operation): 1}


def test_error_replies_leave_the_connection_in_step(redis_single: Single, namespace: str) -> None:
    """A script that fails, a reader that raises, a reply that is no list: the next one gets its own."""
    store = bare(redis_single.url, timeout=5.0)
    key = namespace.encode()
    store.run(tick(key))
    wrong_type = run_of("return {redis.call('GET', KEYS[1])}", key)
    no_list = run_of("return 7")
    bad_reader = Operation(script("return {1}"), (key,), (), lambda reply: 1 // (len(reply) - 1))

    def errors() -> None:
        with pytest.raises(OutcomeUnknown, match="WRONGTYPE"):
            store.run(wrong_type)
        with pytest.raises(OutcomeUnknown, match="not a list"):
            store.run(no_list)
        with pytest.raises(ZeroDivisionError):
            store.run(bad_reader)
        store.run(tick(key))

    async def main() -> None:
        for _ in range(20):
            results = await asyncio.gather(
                *(store.aio.run(o) for o in (wrong_type, tick(key), no_list, bad_reader)),
                return_exceptions=True,
            )
            kinds = [type(result) for result in results]
            assert kinds == [OutcomeUnknown, bytes, OutcomeUnknown, ZeroDivisionError]
        outcomes = await store.aio.run_many([wrong_type, tick(key), bad_reader, tick(key)])
        assert [isinstance(outcome, Value) for outcome in outcomes] == [False, True, False, True]
        await store.aio.close()

    for _ in range(20):
        errors()
    mixed = store.run_many([tick(key), wrong_type, tick(key), bad_reader, no_list, tick(key)])
    good = [isinstance(outcome, Value) for outcome in mixed]
    assert good == [True, False, True, False, False, True]
    asyncio.run(main())
    stats = store.stats()
    assert stats.in_flight == 0
    assert stats.connects == 2, "an error reply must not cost the connection"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupted_in_mid_exchange(
    own_redis: Callable[..., Single],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
) -> None:
    """Ctrl-C between write and read: the connection, out of step, is dropped, and the next call is fine."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=10.0)
    store.run(tick(b"k"))

    def handler(number: int, frame: object) -> None:
        raise kind

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with server.paused():
            threading.Timer(
                0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1)
            ).start()
            with pytest.raises(kind):
                store.run(tick(b"k"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    for _ in range(5):
        store.run(tick(b"k"))
    stats = store.stats()
    assert (stats.in_flight, stats.connections, stats.connects) == (0, 1, 2)
    store.close()


def test_16_threads_200_tasks_6_loops(redis_single: Single, namespace: str) -> None:
    """All on one store at once: every reply is its caller's own, and nothing is left behind."""
    store = bare(redis_single.url, timeout=20.0)
    keys = [f"{namespace}{n}".encode() for n in range(8)]

    def thread(number: int) -> int:
        for turn in range(40):
            store.run(tick(keys[(number + turn) % 8]))
        outcomes = store.run_many([tick(keys[n % 8]) for n in range(20)])
        return 40 + sum(isinstance(outcome, Value) for outcome in outcomes)

    async def loop() -> int:
        async def task(number: int) -> int:
            for turn in range(10):
                await store.aio.run(tick(keys[(number + turn) % 8]))
            if number % 10 == 0:
                store.run(tick(keys[0]))  # synchronous code on the loop's own thread
                return 11
            return 10

        return sum(await asyncio.gather(*map(task, range(200))))

    done = sum(in_threads(22, lambda n: thread(n) if n < 16 else asyncio.run(loop())))
    assert done == 16 * 60 + 6 * (200 * 10 + 20)
    assert sum(counts(redis_single.server, *keys).values()) == done
    stats = store.stats()
    assert stats.in_flight == stats.waiting == stats.timeouts == 0
    assert stats.operations == done + stats.resent
    assert stats.largest_batch >= 200
    store.close()
    assert store.stats().connections == 0


def test_script_flush_in_mid_flight(own_redis: Callable[..., Single]) -> None:
    """Under load from threads and tasks: no failure, nothing run twice."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=10.0)
    load = Load(store, lambda n: tick(b"k%d" % (n % 4)), pause=0)
    with load.running():
        for _ in range(25):
            load.progress(20)
            server.command("SCRIPT", "FLUSH")
    assert not load.books.failed
    load.books.check(counts(server, *(b"k%d" % n for n in range(4))))
    stats = store.stats()
    assert stats.resent >= 25
    assert stats.operations == len(load.books.done) + stats.resent
    store.close()


def test_restart_with_40_idle_connections(own_redis: Callable[..., Single]) -> None:
    """None of the 40 operations that find a dead connection fails; nor does the lane's."""
    server = own_redis().server
    store = bare(f"redis://127.0.0.1:{server.port}/0", timeout=5.0)
    gate = threading.Barrier(40)

    def work(number: int) -> None:
        gate.wait(20)
        store.run(spin(b"k", 300_000))

    async def main() -> None:
        await store.aio.run(tick(b"k"))
        await asyncio.to_thread(in_threads, 40, work)
        assert store.stats().connections >= 20
        await asyncio.to_thread(server.restart)
        await asyncio.to_thread(in_threads, 40, work)
        await asyncio.gather(*(store.aio.run(tick(b"k")) for _ in range(40)))
        await store.aio.close()

    asyncio.run(main())
    assert store.stats().in_flight == 0


def test_every_outcome_has_a_type(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Whatever the network does, callers get the store's errors and no others."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(through(proxy), timeout=0.1, connect_timeout=0.1)
    faults = [
        Faults(reset=True),
        Faults(refuse=True),
        Faults(blackhole=True),
        Faults(unreachable=True),
        Faults(truncate=0),
        Faults(lose_replies=True),
    ]

    async def one() -> None:
        await store.aio.run(tick(b"every"))

    for fault in faults:
        store.run(tick(b"every"))
        asyncio.run(one())
        with proxy.injected(fault):
            for _ in range(2):
                with pytest.raises((NotSent, OutcomeUnknown)) as caught:
                    store.run(tick(b"every"))
                assert isinstance(caught.value, StoreError)
                with pytest.raises((NotSent, OutcomeUnknown)):
                    asyncio.run(one())
    store.close()
