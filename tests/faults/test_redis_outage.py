"""A server that is paused, dead, or refuses: each operation ends in time, with the error that is true."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from backendkit.core import context
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import (
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error
from backendkit.stores.redis import RedisStore
from tests.faults.load import Books, bare, counts, run_of, spin, tick, token_of
from tests.ground.faults import Faults
from tests.ground.loops import StallMeter, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.servers import Server
from tests.ground.single import SecureSingle, Single
from tests.ground.waiting import eventually

TIMEOUT_S = 0.25
SLACK_S = 0.15
"""What a busy machine may add; a second wait of any kind is longer."""


def url_of(server: Server) -> str:
    """Return the URL of a server."""
    return f"redis://127.0.0.1:{server.port}/0"


def error_of(store: RedisStore, operation: Operation[Any], *, colour: str) -> StoreError:
    """Return the error that an operation ends with."""
    run = store.run if colour == "sync" else lambda o: asyncio.run(store.aio.run(o))
    with pytest.raises(StoreError) as caught:
        run(operation)
    return caught.value


colours = pytest.mark.parametrize("colour", ["sync", "async"])


def test_a_paused_server(own_redis: Callable[..., Single]) -> None:
    """Every operation of threads and tasks ends within its timeout, and the loop goes on meanwhile."""
    server = own_redis().server
    store = bare(url_of(server), timeout=TIMEOUT_S)
    books = Books()
    took: list[float] = []
    worst: list[float] = []

    def thread(number: int) -> None:
        started = time.perf_counter()
        assert not books.run(store, tick(b"k"))
        took.append(time.perf_counter() - started)

    async def task(number: int) -> None:
        await asyncio.sleep(number * 0.001)
        started = time.perf_counter()
        assert not await books.run_async(store.aio, tick(b"k"))
        took.append(time.perf_counter() - started)

    async def main() -> None:
        # What the code does shows in every round, what the machine does hardly in all.
        for _ in range(3):
            await store.aio.run(tick(b"k"))
            with server.paused():
                async with StallMeter() as meter:
                    threads = asyncio.to_thread(in_threads, 8, thread)
                    await asyncio.gather(threads, *map(task, range(100)))
            worst.append(meter.worst)
        stats = store.stats()
        assert (stats.in_flight, stats.waiting) == (0, 0)
        assert stats.timeouts == 3 * 108
        await store.aio.close()

    asyncio.run(main())
    assert max(took) < 2 * TIMEOUT_S + SLACK_S  # a thread may have to connect first
    assert min(worst) < 0.020
    assert {type(error) for error in books.failed} == {ReplyTimeout}
    eventually(lambda: len(counts(server, b"k")) >= 3, "the server has caught up")
    books.check(counts(server, b"k"))


@colours
def test_a_new_connection_to_a_paused_server(own_redis: Callable[..., Single], colour: str) -> None:
    """The kernel accepts for it: connecting succeeds, and the reply does not come."""
    server = own_redis().server
    store = bare(url_of(server), timeout=TIMEOUT_S)
    with server.paused():
        started = time.perf_counter()
        error = error_of(store, tick(b"k"), colour=colour)
        assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    assert isinstance(error, ReplyTimeout)
    store.close()


@colours
@pytest.mark.parametrize(
    "fault", [Faults(unreachable=True), Faults(refuse=True)], ids=["SYN", "RST"]
)
def test_an_unreachable_server(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy], colour: str, fault: Faults
) -> None:
    """Not sent, within the time to connect."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=TIMEOUT_S)
    with proxy.injected(fault):
        started = time.perf_counter()
        error = error_of(store, tick(b"k"), colour=colour)
        assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    assert isinstance(error, StoreUnavailable)
    assert str(proxy.port) in str(error)
    store.close()


@colours
def test_a_host_of_several_unreachable_addresses(
    redis_single: Single,
    fault_proxy: Callable[..., FaultProxy],
    colour: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time to connect is for all of them together."""
    proxies = [fault_proxy(redis_single.server.address) for _ in range(3)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", proxy.address) for proxy in proxies]
    resolve = socket.getaddrinfo

    def resolved(host: Any, *args: Any, **kwargs: Any) -> Any:
        return found if host == "several.test" else resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    for proxy in proxies:
        proxy.inject(Faults(unreachable=True))
    store = bare("redis://several.test", timeout=TIMEOUT_S)
    started = time.perf_counter()
    assert isinstance(error_of(store, tick(b"k"), colour=colour), StoreUnavailable)
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    store.close()


@colours
def test_a_handshake_that_drags_on(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """Connection and handshake together have `connect_timeout`, and not each step of it."""
    proxy = fault_proxy(redis_single.server.address)
    options = {"db": 3, "protocol": 3, "timeout": TIMEOUT_S, "connect_timeout": TIMEOUT_S}
    store = bare(f"redis://127.0.0.1:{proxy.port}", **options)
    with proxy.injected(Faults(delay_replies=0.2)):
        started = time.perf_counter()
        error = error_of(store, tick(b"k"), colour=colour)
        assert time.perf_counter() - started < 2 * TIMEOUT_S + SLACK_S
    assert isinstance(error, StoreUnavailable)
    store.close()


def test_a_batch_ends_within_one_timeout(
    redis_single: Single, namespace: str, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Not within one for each of its operations, however slowly their replies drip."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=TIMEOUT_S)
    key = namespace.encode()
    store.run(tick(key))
    operations = [spin(key, 5_000_000) for _ in range(40)]  # some 50 ms each
    store.run(spin(key, 1))
    started = time.perf_counter()
    outcomes = store.run_many(operations)
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Error)]
    assert errors
    assert {type(error) for error in errors} == {ReplyTimeout}
    eventually(
        lambda: set(counts(redis_single.server, key)) >= {token_of(o) for o in operations}, "done"
    )
    store.close()


@colours
def test_loading(own_redis: Callable[..., Single], colour: str) -> None:
    """Waits for a server that is loading its data, as long as there is time; nothing runs then."""
    server = own_redis("enable-debug-command yes").server
    server.command("DEBUG", "POPULATE", 2_000, "x", 10)
    server.command(
        "CONFIG", "SET", "key-load-delay", 1_000, "loading-process-events-interval-bytes", 1024
    )
    store = bare(url_of(server), timeout=TIMEOUT_S)
    wire = server.wire(timeout=30)
    wire.send("DEBUG", "RELOAD")
    eventually(lambda: "loading:1" in server.text("INFO", "persistence"), "it loads", within=5)
    books = Books()
    run = books.run if colour == "sync" else lambda s, o: asyncio.run(books.run_async(s.aio, o))
    started = time.perf_counter()
    assert not run(store, tick(b"k"))
    assert time.perf_counter() - started < TIMEOUT_S + SLACK_S
    started = time.perf_counter()
    many = [tick(b"k") for _ in range(10)]
    for operation, outcome in zip(many, store.run_many(many), strict=True):
        assert isinstance(outcome, Error)
        assert isinstance(outcome.error, StoreError)
        books.note(operation, outcome.error)
    assert time.perf_counter() - started < 2 * TIMEOUT_S + SLACK_S
    assert any("LOADING" in str(error) for error in books.failed)
    patient = bare(url_of(server), timeout=20)
    assert run(patient, tick(b"k"))
    assert wire.read() == b"OK"
    wire.close()
    books.check(counts(server, b"k"))
    store.close()
    patient.close()


@colours
def test_busy_with_a_script(own_redis: Callable[..., Single], colour: str) -> None:
    """Another's endless script: refused, nothing ran."""
    server = own_redis("busy-reply-threshold 50").server
    store = bare(url_of(server), timeout=2.0)
    wire = server.wire()
    wire.send("EVAL", "while true do end", 0)
    eventually(lambda: _refuses(server, "BUSY"), "it is busy")
    error = error_of(store, tick(b"k"), colour=colour)
    assert type(error) is NotSent
    assert "BUSY" in str(error)
    server.command("SCRIPT", "KILL")
    eventually(lambda: server.command("PING"), "the script has ended")
    wire.close()
    # The server answers before the script has ended.
    eventually(lambda: not _refuses(server, "BUSY"), "it is through")
    store.run(tick(b"k"))
    assert len(counts(server, b"k")) == 1
    store.close()


def _refuses(server: Server, code: str) -> bool:
    try:
        server.command("PING")
    except OSError as error:
        return str(error).startswith(code)
    return False


@colours
def test_out_of_memory(own_redis: Callable[..., Single], colour: str) -> None:
    """`maxmemory` is reached and nothing may be evicted: refused at the first write."""
    server = own_redis("maxmemory-policy noeviction").server
    server.command("CONFIG", "SET", "maxmemory", 1)
    store = bare(url_of(server), timeout=5.0)
    error = error_of(store, tick(b"k", bytes(10)), colour=colour)
    assert type(error) is NotSent
    assert "OOM" in str(error)
    assert counts(server, b"k") == {}
    server.command("CONFIG", "SET", "maxmemory", 0)
    store.run(tick(b"k"))
    assert store.stats().in_flight == 0
    store.close()


@colours
def test_a_replica_that_was_taken_for_the_master(
    own_redis: Callable[..., Single], colour: str
) -> None:
    """READONLY: nothing ran; and it will not change, so the time is not waited out in a busy loop."""
    master, replica = own_redis().server, own_redis().server
    replica.command("REPLICAOF", "127.0.0.1", master.port)
    store = bare(url_of(replica), timeout=TIMEOUT_S)
    error = error_of(store, tick(b"k"), colour=colour)
    assert isinstance(error, NotSent)
    assert "READONLY" in str(error) or "read only" in str(error)
    assert store.stats().operations < 30
    assert counts(master, b"k") == {}
    store.close()


@colours
def test_not_enough_replicas(own_redis: Callable[..., Single], colour: str) -> None:
    """NOREPLICAS: nothing ran."""
    server = own_redis("min-replicas-to-write 1").server
    store = bare(url_of(server), timeout=TIMEOUT_S)
    error = error_of(store, tick(b"k"), colour=colour)
    assert isinstance(error, NotSent)
    assert "NOREPLICAS" in str(error)
    assert counts(server, b"k") == {}
    store.close()


@colours
def test_no_permission(colour: str) -> None:
    """A script may have written before it met what it may not do: unknown, and the message names no secret."""
    with SecureSingle(tls=False) as single:
        store = bare(single.url_for("reader"), timeout=5.0)
        error = error_of(store, tick(b"k"), colour=colour)
        assert isinstance(error, OutcomeUnknown | NotSent)
        assert single.passwords["reader"] not in f"{error}{error!r}{error.__cause__}"
        half = run_of("redis.call('INCR', KEYS[1]) redis.call('ACL', 'LIST') return {1}", b"n")
        store.close()
        single.server.command("ACL", "SETUSER", "half", "on", ">half", "~*", "+@all", "-acl")
        store = bare(f"redis://half:half@127.0.0.1:{single.server.port}", timeout=5.0)
        error = error_of(store, half, colour=colour)
        assert isinstance(error, OutcomeUnknown)
        assert single.server.command("GET", "n") == b"1"
        store.close()


@colours
@pytest.mark.parametrize("protocol", [2, 3])
def test_wrong_and_missing_passwords(colour: str, protocol: int) -> None:
    """Not sent, and the message shows neither the wrong nor the right one."""
    with SecureSingle(tls=False) as single:
        port = single.server.port
        for url in (f"redis://app:gu3ss@127.0.0.1:{port}", f"redis://127.0.0.1:{port}"):
            store = bare(url, timeout=5.0, connect_timeout=5.0, protocol=protocol)
            error = error_of(store, tick(b"k"), colour=colour)
            assert isinstance(error, NotSent)
            shown = f"{error}{error!r}{error.__cause__!r}{error.__context__!r}"
            assert "gu3ss" not in shown
            assert single.passwords["app"] not in shown
            assert counts(single.server, b"k") == {}
            store.close()


@colours
def test_too_many_clients(own_redis: Callable[..., Single], colour: str) -> None:
    """The server turns a new connection away before it reads a word: not sent."""
    server = own_redis().server
    store = bare(url_of(server), timeout=5.0)
    store.run(tick(b"k"))
    wire = server.wire()
    wire.command("CONFIG", "SET", "maxclients", 2)
    gate = bare(url_of(server), timeout=5.0)
    error = error_of(gate, tick(b"k"), colour=colour)
    assert isinstance(error, NotSent)
    assert "max number of clients" in str(error)
    wire.command("CONFIG", "SET", "maxclients", 100)
    if colour == "sync":
        gate.run(tick(b"k"))
    else:
        asyncio.run(gate.aio.run(tick(b"k")))
    assert len(counts(server, b"k")) == 2
    wire.close()
    store.close()
    gate.close()


# Deadlines


def deadline(seconds: float) -> Any:
    """Set the context's deadline for a block."""
    return context.until(time.monotonic_ns() // 1000 + int(seconds * SECOND_US))


@colours
def test_a_deadline_that_has_passed(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """Not sent, which the proxy can see."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=5.0)
    store.run(tick(b"deadline"))
    proxy.forget_requests()
    with deadline(-0.001):
        error = error_of(store, tick(b"deadline"), colour=colour)
        (outcome,) = store.run_many([tick(b"deadline")])
    assert type(error) is NotSent
    assert "deadline" in str(error)
    assert isinstance(outcome, Error)
    assert type(outcome.error) is NotSent
    assert proxy.requests() == []
    store.run(tick(b"deadline"))
    store.close()


@colours
@pytest.mark.parametrize("known", [True, False], ids=["connected", "not yet connected"])
def test_a_deadline_before_the_timeout(
    redis_single: Single, fault_proxy: Callable[..., FaultProxy], colour: str, known: bool
) -> None:
    """It ends by the deadline, also while connecting; the shared lane and its other operations stay."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}", timeout=5.0, connect_timeout=5.0)

    async def main() -> StoreError:
        if known:
            await store.aio.run(tick(b"deadline"))
            proxy.inject(Faults(delay_replies=0.3))
        else:
            proxy.inject(Faults(unreachable=True))
        patient = asyncio.ensure_future(store.aio.run(tick(b"deadline")))
        started = time.perf_counter()
        with deadline(0.1), pytest.raises(StoreError) as caught:
            await store.aio.run(tick(b"deadline"))
        took.append(time.perf_counter() - started)
        proxy.heal()
        await patient
        assert store.stats().connects == 1
        assert store.stats().in_flight == 0
        await store.aio.close()
        return caught.value

    took: list[float] = []
    if colour == "async":
        error: StoreError = asyncio.run(main())
    else:
        if known:
            store.run(tick(b"deadline"))
            proxy.inject(Faults(delay_replies=0.3))
        else:
            proxy.inject(Faults(unreachable=True))
        started = time.perf_counter()
        with deadline(0.1):
            error = error_of(store, tick(b"deadline"), colour=colour)
        took.append(time.perf_counter() - started)
    assert took[0] < 0.1 + SLACK_S
    assert isinstance(error, OutcomeUnknown if known else NotSent)
    proxy.heal()
    store.close()


# Closing


def test_closed_while_threads_are_in_flight(own_redis: Callable[..., Single]) -> None:
    """What is under way ends by itself; no connection is left; what comes later is refused."""
    server = own_redis().server
    store = bare(url_of(server), timeout=10.0)
    books = Books()

    def work(number: int) -> None:
        if number == 0:
            eventually(lambda: store.stats().in_flight == 6, "all are in flight")
            store.close()
            server.resume()
        else:
            books.run(store, tick(b"k"))

    store.run(tick(b"k"))
    server.pause()
    in_threads(7, work)
    books.check(counts(server, b"k"))
    assert len(books.done) == 6
    stats = store.stats()
    assert (stats.connections, stats.in_flight) == (0, 0)
    with pytest.raises(StoreClosed):
        store.run(tick(b"k"))
    assert isinstance(store.run_many([tick(b"k")])[0], Error)
    store.close()


def test_closed_while_tasks_are_in_flight(own_redis: Callable[..., Single]) -> None:
    """What was sent is unknown, what was not is refused, both at once, and both are true."""
    server = own_redis().server
    store = bare(url_of(server), timeout=10.0)
    books = Books()

    async def main(close: Callable[[], Any]) -> None:
        await store.aio.run(tick(b"k"))
        with server.paused():
            tasks = [asyncio.ensure_future(books.run_async(store.aio, tick(b"k"))) for _ in "x" * 9]
            await asyncio.sleep(0.02)
            tasks += [
                asyncio.ensure_future(books.run_async(store.aio, tick(b"k"))) for _ in "x" * 9
            ]
            await asyncio.sleep(0)
            started = time.perf_counter()
            await close()
            await asyncio.gather(*tasks)
            assert time.perf_counter() - started < 0.5
        with pytest.raises(StoreClosed):
            await store.aio.run(tick(b"k"))

    asyncio.run(main(store.aio.close))
    eventually(lambda: len(counts(server, b"k")) >= 10, "the server has caught up")
    books.check(counts(server, b"k"))
    assert len(books.unknown) == 9
    assert len(books.refused) == 9
    stats = store.stats()
    assert (stats.connections, stats.in_flight, stats.waiting) == (0, 0, 0)
