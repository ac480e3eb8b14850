"""Event loops that come, go, crowd, and die: nothing leaks, nothing warns, nothing crosses."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from backendkit.core.errors import OutcomeUnknown
from tests.faults.load import Books, bare, counts, tick, token_of
from tests.ground.faults import Faults
from tests.ground.loops import in_subprocess, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.servers import Server
from tests.ground.single import SecureSingle, Single
from tests.ground.waiting import eventually

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")

Run = Callable[[Any], Any]


def _run_eagerly(main: Any) -> Any:
    async def outer() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore] # from 3.12 on
        return await main

    return asyncio.run(outer())


runs = pytest.mark.parametrize(
    "run",
    [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
    + [
        pytest.param(_run_eagerly, id="eager")
        for _ in range(hasattr(asyncio, "eager_task_factory"))
    ],
)


def url_of(server: Server) -> str:
    """Return the URL of a server."""
    return f"redis://127.0.0.1:{server.port}/0"


def sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(each.is_socket() for each in Path("/proc/self/fd").iterdir())


@runs
def test_six_loops_in_six_threads(redis_single: Single, namespace: str, run: Run) -> None:
    """One lane each, and every reply is its caller's own."""
    store = bare(redis_single.url, timeout=20.0)
    key = namespace.encode()
    ready = threading.Barrier(6)

    async def main() -> None:
        for _ in range(10):
            await asyncio.gather(*(store.aio.run(tick(key)) for _ in range(50)))
        ready.wait(20)
        assert store.stats().connections == 6
        ready.wait(20)

    in_threads(6, lambda _: run(main()))
    assert sum(counts(redis_single.server, key).values()) == 6 * 10 * 50
    assert store.stats().connections == 0
    store.close()


@runs
def test_a_hundred_loops_come_and_go(
    own_redis: Callable[..., Single], namespace: str, run: Run
) -> None:
    """No lane, connection or loop is left of them, and what they counted is."""
    server = own_redis().server
    store = bare(url_of(server), timeout=20.0)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(store.aio.run(tick(namespace.encode())) for _ in range(3)))

    for _ in range(101):
        run(main())
    gc.collect()
    eventually(lambda: server.info("clients")["connected_clients"] == "1", "only we still ask it")
    assert sum(loop() is not None for loop in loops) == 0
    assert len(store.aio._loops) <= 1
    stats = store.stats()
    assert stats.operations == 3 * 101 + stats.resent
    assert (stats.connects, stats.connections, stats.in_flight) == (101, 0, 0)
    store.close()


def test_loops_that_are_closed_without_a_word(redis_single: Single, namespace: str) -> None:
    """Their lanes are forgotten when the next loop comes."""
    store = bare(redis_single.url, timeout=20.0)
    dead: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    for _ in range(20):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(store.aio.run(tick(namespace.encode())))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        dead.append(weakref.ref(loop))
        del loop
    gc.collect()
    assert sum(loop() is not None for loop in dead) <= 1
    assert len(store.aio._loops) <= 1
    store.close()


@runs
@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_closing_leaves_nothing_open(
    redis_single: Single, redis_tls: SecureSingle, run: Run, kind: str
) -> None:
    """When `aio.close()` returns, the running loop's connections are closed."""
    tls_url = f"{redis_tls.url}?tls_ca={redis_tls.certificates.ca}"
    store = bare(redis_single.url if kind == "plain" else tls_url, timeout=10.0, connect_timeout=10)

    async def main() -> None:
        gc.collect()
        before = sockets()
        await asyncio.gather(store.aio.run(tick(b"a")), store.aio.run(tick(b"a", bytes(70_000))))
        assert sockets() >= before + 2
        await store.aio.close()
        assert sockets() == before
        assert len(asyncio.all_tasks()) == 1
        await store.aio.close()

    run(main())


def test_a_bare_loop_that_closes_right_after(redis_single: Single, redis_tls: SecureSingle) -> None:
    """Without `asyncio.run` and its extra turns; under -X dev, all warnings being errors."""
    urls = [redis_single.url, f"{redis_tls.url}?tls_ca={redis_tls.certificates.ca}"]
    source = f"""
import asyncio, gc, sys
from tests.faults.load import guarded, tick
failed = []
sys.unraisablehook = lambda what: failed.append(what.exc_value)
for url in {urls!r}:
    store = guarded(url, timeout=10, connect_timeout=10)
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda loop, context: failed.append(context))
    for _ in range(3):
        loop.run_until_complete(store.aio.run(tick(b"a")))
    loop.run_until_complete(store.aio.close())
    loop.close()
    del loop
    gc.collect()
assert not failed, failed
print("quiet")
"""
    assert "quiet" in in_subprocess(source)


@runs
def test_the_loop_ends_while_operations_are_in_flight(
    own_redis: Callable[..., Single], run: Run
) -> None:
    """No task is left, no warning comes, the next loop is served, and nothing is sent again."""
    server = own_redis().server
    store = bare(url_of(server), timeout=10.0)
    store.run(tick(b"k"))
    books = Books()

    async def main() -> None:
        await store.aio.run(tick(b"k"))
        server.pause()
        for _ in range(20):
            asyncio.get_running_loop().create_task(books.run_async(store.aio, tick(b"k")))
        await asyncio.sleep(0.02)

    run(main())
    server.resume()
    gc.collect()
    eventually(lambda: len(counts(server, b"k")) == 22, "the server has caught up")
    books.check(counts(server, b"k"))
    stats = store.stats()
    assert (stats.in_flight, stats.waiting, stats.connections) == (0, 0, 1)  # the thread's

    async def again() -> None:
        await store.aio.run(tick(b"k"))

    run(again())
    store.close()


def test_operations_while_the_loop_goes_down(redis_single: Single, namespace: str) -> None:
    """A task that cleans up when it is cancelled gets an answer or the store's error, and nobody hangs."""
    source = f"""
import asyncio, gc, sys
from backendkit.core.errors import NotSent, OutcomeUnknown
from tests.faults.load import guarded, tick
failed = []
sys.unraisablehook = lambda what: failed.append(what.exc_value)
store = guarded({redis_single.url!r}, timeout=10, connect_timeout=10)
done = []

async def tidy():
    try:
        await asyncio.sleep(100)
    finally:
        try:
            done.append(await store.aio.run(tick({namespace.encode()!r})))
        except (NotSent, OutcomeUnknown) as error:
            done.append(error)

async def main():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
    await store.aio.run(tick({namespace.encode()!r}))
    task = asyncio.create_task(tidy())
    await asyncio.sleep(0)

asyncio.run(main())
gc.collect()
assert len(done) == 1, done
assert not failed, failed
print("quiet")
"""
    assert "quiet" in in_subprocess(source)


def test_closed_from_elsewhere(redis_single: Single, namespace: str) -> None:
    """Closing in one thread closes the lanes of loops that run in others, and of none that are gone."""
    store = bare(redis_single.url, timeout=10.0)
    books = Books()
    running = threading.Barrier(5)
    closed = threading.Event()

    async def main() -> None:
        assert await books.run_async(store.aio, tick(namespace.encode()))
        running.wait(10)
        while not closed.is_set():
            await books.run_async(store.aio, tick(namespace.encode()))
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1

    def work(number: int) -> None:
        if number < 4:
            asyncio.run(main())
        else:
            running.wait(10)
            store.close()
            closed.set()

    gone = asyncio.new_event_loop()
    gone.run_until_complete(store.aio.run(tick(namespace.encode())))
    for task in asyncio.all_tasks(gone):
        task.cancel()
    gone.run_until_complete(asyncio.sleep(0.01))
    gone.close()
    in_threads(5, work)
    assert store.stats().connections == 0
    books.check(counts(redis_single.server, namespace.encode()))


@runs
def test_nothing_inherits_the_first_requests_context(
    redis_single: Single, namespace: str, run: Run
) -> None:
    """Neither the lane's tasks nor its callbacks; each task of the caller keeps its own."""
    store = bare(redis_single.url, timeout=10.0)
    key = namespace.encode()
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        factory = loop.get_task_factory()

        def spy(loop: Any, work: Any, **options: Any) -> Any:
            context = options.get("context")
            seen.append((context or contextvars.copy_context()).get(REQUEST, "empty"))
            if factory is not None:
                return factory(loop, work, **options)
            return asyncio.Task(work, loop=loop, **options)

        REQUEST.set("first")
        loop.set_task_factory(spy)
        await store.aio.run(tick(key))
        await asyncio.gather(
            store.aio.run(tick(key, bytes(70_000))),
            store.aio.run(tick(key)),
            return_exceptions=True,
        )
        loop.set_task_factory(factory)
        assert REQUEST.get() == "first"

    run(main())
    assert seen
    # Three are the caller's own: of `gather`.
    assert sorted(seen)[:-2] == ["empty"] * (len(seen) - 2)
    store.close()


@runs
def test_contexts_are_not_kept_alive(redis_single: Single, namespace: str, run: Run) -> None:
    """What a request has bound dies with it, though the lane that it opened lives on."""
    store = bare(redis_single.url, timeout=10.0)

    class Bound:
        pass

    variable: contextvars.ContextVar[Bound] = contextvars.ContextVar("bound")

    async def request() -> weakref.ref[Bound]:
        bound = Bound()
        variable.set(bound)
        await store.aio.run(tick(namespace.encode()))
        return weakref.ref(bound)

    async def main() -> None:
        reference = await asyncio.get_running_loop().create_task(request())
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None
        assert store.stats().connections == 1

    run(main())
    store.close()


@runs
def test_lost_while_writing(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy], run: Run
) -> None:
    """Whatever a loop's transport raises when it is written to: the store's error, at once, and then all is well."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=10.0)
    key = namespace.encode()
    books = Books()

    async def main() -> None:
        for turn in range(30):
            await store.aio.run(tick(key))
            proxy.reset_now()
            if turn % 2:
                await asyncio.sleep(0.001)
            started = asyncio.get_running_loop().time()
            await asyncio.gather(
                *(books.run_async(store.aio, tick(key, bytes(3000))) for _ in range(10))
            )
            assert asyncio.get_running_loop().time() - started < 3.0
        await store.aio.close()

    run(main())
    eventually(lambda: proxy.open_connections == 0, "all that was sent has run")
    books.check(counts(redis_single.server, key))


@runs
def test_back_pressure_on_every_loop(own_redis: Callable[..., Single], run: Run) -> None:
    """The write that does not drain at once, resumed by a task, then given up."""
    server = own_redis().server
    store = bare(url_of(server), timeout=2.0, connect_timeout=2.0)
    books = Books()

    async def main() -> None:
        await asyncio.gather(store.aio.run(tick(b"k", bytes(70_000))), store.aio.run(tick(b"k")))
        server.pause()
        tasks = [
            asyncio.ensure_future(books.run_async(store.aio, tick(b"k", bytes(2_000_000))))
            for _ in range(5)
        ]
        await asyncio.sleep(0.05)
        tasks += [
            asyncio.ensure_future(books.run_async(store.aio, tick(b"k", bytes(70_000))))
            for _ in range(5)
        ]
        await asyncio.sleep(0.05)
        server.resume()
        await asyncio.gather(*tasks)
        assert not books.failed
        server.pause()
        await asyncio.gather(
            *(books.run_async(store.aio, tick(b"k", bytes(2_000_000))) for _ in range(5))
        )
        assert len(books.failed) == 5
        server.resume()
        assert await books.run_async(store.aio, tick(b"k", bytes(70_000)))
        await store.aio.close()

    run(main())
    books.check(counts(server, b"k"))


@runs
def test_cancellations_on_every_loop(redis_single: Single, namespace: str, run: Run) -> None:
    """Before the flush: never sent; after it: runs once. Also by a timeout, and by the group they belong to."""
    store = bare(redis_single.url, timeout=10.0)
    key = namespace.encode()

    async def main() -> tuple[set[bytes], set[bytes]]:
        await store.aio.run(tick(key))
        early: set[bytes] = set()
        late: set[bytes] = set()
        for turn in range(60):
            operation = tick(key)
            task = asyncio.ensure_future(store.aio.run(operation))
            await asyncio.sleep(0)
            # Under eager tasks the submission came before this turn, and the flush has been.
            if turn % 2:
                await asyncio.sleep(0)
            if task.cancel():
                (late if turn % 2 else early).add(token_of(operation))
            await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.aio.run(tick(key))
        await store.aio.run(tick(key))
        return early, late

    early, late = run(main())
    counted = counts(redis_single.server, key)
    assert set(counted.values()) == {1}
    assert late <= set(counted)
    if run is asyncio.run:
        assert early
        assert not early & set(counted)
    store.close()


def test_a_synchronous_call_on_the_loops_thread(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """It never waits for a task of the loop that it blocks: it has connections of its own."""
    store = bare(redis_single.url, timeout=5.0)
    key = namespace.encode()

    async def main() -> None:
        flying = [asyncio.ensure_future(store.aio.run(tick(key))) for _ in range(10)]
        await asyncio.sleep(0)
        for _ in range(10):
            store.run(tick(key))
        await asyncio.gather(*flying)

    asyncio.run(main())
    assert len(counts(redis_single.server, key)) == 20
    store.close()


def test_tasks_that_never_end_well(own_redis: Callable[..., Single]) -> None:
    """Under -X dev: a paused server, megabytes unsent, the loop ends, and nobody complains."""
    server = own_redis().server
    source = f"""
import asyncio, gc, sys
from tests.faults.load import bare, tick
failed = []
sys.unraisablehook = lambda what: failed.append(what.exc_value)
store = bare({url_of(server)!r}, timeout=0.3)

async def main():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
    await asyncio.gather(
        *(store.aio.run(tick(b"k", bytes(3_000_000))) for _ in range(4)), return_exceptions=True
    )
    await asyncio.gather(*(store.aio.run(tick(b"k")) for _ in range(4)), return_exceptions=True)

async def in_flight():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context))
    work = [store.aio.run(tick(b"k", bytes(3_000_000))) for _ in range(4)]
    task = asyncio.gather(*work, return_exceptions=True)
    await asyncio.sleep(0.05)

asyncio.run(main(), debug=True)
asyncio.run(in_flight(), debug=True)
gc.collect()
store.close()
assert not failed, failed
print("quiet")
"""
    with server.paused():
        assert "quiet" in in_subprocess(source)


def test_the_errors_of_a_dead_loop_are_true(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """What was sent is unknown, what was not is refused."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=10.0)
    key = namespace.encode()

    async def main() -> None:
        await store.aio.run(tick(key))
        proxy.inject(Faults(lose_replies=True))
        task = asyncio.ensure_future(store.aio.run(tick(key)))
        await asyncio.sleep(0.02)
        lanes = store.aio._loops[id(asyncio.get_running_loop())]
        (lane,) = lanes.by_server.values()
        assert lane._reader is not None
        lane._reader.cancel()  # as whoever cancels all tasks of a loop does
        with pytest.raises(OutcomeUnknown, match="closed before an answer came"):
            await task
        proxy.heal()
        await store.aio.run(tick(key))

    asyncio.run(main())
    store.close()
