"""Forks: parent and child both go on, and neither gets what is the other's."""

import asyncio
import gc
import ssl
import threading
import time
import warnings

import pytest

from backendkit.stores.redis import RedisStore, Tls
from tests.faults.load import Load, bare, counts, spin, tick
from tests.ground.loops import in_fork, in_subprocess, in_threads
from tests.ground.single import SecureSingle, Single

ROUNDS = 40


@pytest.fixture(params=["plain", "tls"])
def url(request: pytest.FixtureRequest, redis_single: Single, redis_tls: SecureSingle) -> str:
    """The URL of a server, with and without TLS."""
    if request.param == "plain":
        return f"{redis_single.url}?timeout=10&connect_timeout=10"
    return f"{redis_tls.url}?tls_ca={redis_tls.certificates.ca}&timeout=10&connect_timeout=10"


def use(store: RedisStore, key: bytes) -> int:
    """Use both faces, and return how many operations were carried out; each checks its own reply."""

    async def main() -> None:
        for _ in range(ROUNDS):
            await asyncio.gather(*(store.aio.run(tick(key, b"x" * n)) for n in range(3)))

    for turn in range(ROUNDS):
        store.run(tick(key, b"y" * turn))
    asyncio.run(main())
    return 4 * ROUNDS


def test_forked_while_connections_are_idle(url: str, namespace: str) -> None:
    """Blocking: the child makes connections of its own, while the parent goes on with its old ones."""
    store = bare(url)
    key = namespace.encode()
    in_threads(4, lambda _: [store.run(tick(key)) for _ in range(5)])
    before = store.stats().connects
    parent = threading.Thread(target=lambda: use(store, key))
    result: list[tuple[int, int]] = []

    def child() -> tuple[int, int]:
        assert store.stats().connections == 0
        return use(store, key), store.stats().connections

    parent.start()
    result.append(in_fork(child))
    parent.join()
    assert result == [(4 * ROUNDS, 1)]
    use(store, key)
    assert store.stats().connects <= before + 4
    store.close()


def test_forked_while_other_threads_are_in_flight(url: str, namespace: str) -> None:
    """Locks that they held are free in the child, and their replies come to them, in the parent."""
    store = bare(url)
    key = namespace.encode()
    load = Load(store, lambda n: spin(key, 20_000) if n % 2 else tick(key), threads=4, tasks=6)
    with load.running():
        load.progress()
        for _ in range(5):
            assert in_fork(lambda: use(store, key)) == 4 * ROUNDS
            load.progress(20)
    assert not load.books.failed
    store.close()


def test_forked_within_a_running_loop(url: str, namespace: str) -> None:
    """The child has a loop of its own; the parent's hears from its connections as before."""
    store = bare(url)
    key = namespace.encode()

    async def main() -> None:
        await store.aio.run(tick(key))
        loop = asyncio.get_running_loop()
        for _ in range(3):
            flying = [asyncio.ensure_future(store.aio.run(tick(key))) for _ in range(20)]
            await asyncio.sleep(0)
            assert in_fork(lambda: (use(store, key), gc.collect())[0]) == 4 * ROUNDS
            await asyncio.gather(*flying)
            await asyncio.gather(*(store.aio.run(tick(key)) for _ in range(20)))
        started = loop.time()
        await asyncio.wait_for(loop.run_in_executor(None, time.sleep, 0), 5)
        assert loop.time() - started < 1
        assert store.stats().connects == 1

    asyncio.run(main())
    store.close()


def test_forked_beside_a_running_loop(url: str, namespace: str) -> None:
    """The loop runs in another thread, and is in the middle of something."""
    store = bare(url)
    key = namespace.encode()
    load = Load(store, lambda _: tick(key), threads=0, tasks=10, pause=0)
    with load.running():
        for _ in range(5):
            load.progress(20)
            assert in_fork(lambda: use(store, key)) == 4 * ROUNDS
        load.progress(50)
        assert store.stats().connects == 1
    assert not load.books.failed
    store.close()


def test_a_child_that_drops_the_store(url: str, namespace: str) -> None:
    """Collecting the parent's lanes in the child, a loop running there, must not make the parent deaf."""
    store = bare(url)
    key = namespace.encode()
    box: list[RedisStore] = [store]
    del store

    def child() -> bool:
        async def inside() -> bool:
            await box[0].aio.run(tick(key))
            await box[0].aio.close()
            box.clear()
            for _ in range(3):
                gc.collect()
                await asyncio.sleep(0)
            return True

        return asyncio.run(inside())

    load = Load(box[0], lambda _: tick(key), threads=0, tasks=5, pause=0)
    with load.running():
        load.progress()

        def drop() -> bool:
            load._store = None
            return child()

        assert in_fork(drop)
        load.progress(100)
        assert box[0].stats().connects == 1
    assert not load.books.failed
    box[0].close()


def test_a_child_that_drops_the_parents_loop(url: str, namespace: str) -> None:
    """The store keeps in the child what was the parent's loop's: closing it would make the parent's deaf."""
    store = bare(url)
    key = namespace.encode()
    box = [asyncio.new_event_loop()]

    def child() -> None:
        warnings.simplefilter("ignore", ResourceWarning)
        box.clear()
        gc.collect()
        use(store, key)
        gc.collect()

    async def main() -> None:
        for _ in range(5):
            await asyncio.wait_for(store.aio.run(tick(key)), 5)
            await asyncio.wait_for(asyncio.to_thread(time.sleep, 0), 5)

    box[0].run_until_complete(main())
    in_fork(child)
    box[0].run_until_complete(main())
    assert store.stats().connects == 1
    box[0].run_until_complete(store.aio.close())
    box[0].run_until_complete(box[0].shutdown_default_executor())
    box[0].close()


def test_a_child_that_closes_the_store(url: str, namespace: str) -> None:
    """It closes its own connections only."""
    store = bare(url)
    key = namespace.encode()
    load = Load(store, lambda _: tick(key), threads=2, tasks=5)

    def child() -> tuple[int, int]:
        use(store, key)
        store.close()
        return store.stats().connections, store.stats().in_flight

    with load.running():
        load.progress()
        assert in_fork(child) == (0, 0)
        load.progress()
    assert not load.books.failed
    store.close()


def test_a_child_that_ends_like_any_program(redis_single: Single, namespace: str) -> None:
    """By `sys.exit`, with finalizers and the collection of all that is left: the parent's loop goes on."""
    source = f"""
import asyncio, gc, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tests.faults.load import bare, tick
store = bare({redis_single.url!r}, timeout=5.0)
key = {namespace.encode()!r}
running, forked = threading.Event(), threading.Event()
result = []

def serve(store):
    async def main():
        await store.aio.run(tick(key))
        running.set()
        while not forked.is_set():
            await store.aio.run(tick(key))
            await asyncio.sleep(0.001)
        for _ in range(50):
            await store.aio.run(tick(key))
        result.append(store.stats().connects)
        await store.aio.close()
    asyncio.run(main())

thread = threading.Thread(target=serve, args=(store,))
thread.start()
running.wait()
pid = os.fork()
if pid == 0:
    async def child():
        global store, serve, thread
        await store.aio.run(tick(key))
        del store, serve, thread
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
    asyncio.run(child())
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
forked.set()
thread.join()
assert result == [1], result
print("both went on")
"""
    assert "both went on" in in_subprocess(source)


def test_forked_while_the_tls_context_is_built(redis_tls: SecureSingle) -> None:
    """A lock that was held then is free in the child."""
    tls = Tls(ca_file=str(redis_tls.certificates.ca))
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with tls._lock:
            held.set()
            let_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    try:
        assert in_fork(lambda: isinstance(tls.context(), ssl.SSLContext), within=10)
    finally:
        let_go.set()
        thread.join()


def test_many_children_at_once(redis_single: Single, namespace: str) -> None:
    """As a server that forks its workers, each with threads and a loop: no reply crosses."""
    store = bare(redis_single.url, timeout=20.0, connect_timeout=20.0)
    key = namespace.encode()
    use(store, key)

    def worker() -> int:
        return sum(in_threads(3, lambda _: use(store, key)))

    assert in_threads(4, lambda _: in_fork(worker)) == [12 * ROUNDS] * 4
    use(store, key)
    counted = counts(redis_single.server, key)
    # Each child continues the parent's numbering of tokens, so that they repeat; the sum does not lie.
    assert sum(counted.values()) == (4 * 3 + 2) * 4 * ROUNDS
    store.close()
