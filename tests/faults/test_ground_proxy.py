"""Every fault of the proxy, seen from a client and from the server behind it."""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest

from tests.ground.faults import Faults
from tests.ground.loops import in_subprocess, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.resp import Login, Wire, pack
from tests.ground.single import SecureSingle, Single, UnixSocket
from tests.ground.waiting import eventually

LATE_S = 0.15


@pytest.fixture
def proxy(redis_single: Single) -> Iterator[FaultProxy]:
    """A proxy before the shared server."""
    with FaultProxy(redis_single.server.address) as proxy:
        yield proxy


@pytest.fixture
def wire(proxy: FaultProxy) -> Iterator[Wire]:
    """A connection through the proxy that has worked."""
    with Wire(proxy.address, timeout=3.0) as wire:
        assert wire.command("PING") == b"PONG"
        yield wire


def connect(proxy: FaultProxy, timeout: float = 3.0) -> Wire:
    """Return another connection through the proxy."""
    return Wire(proxy.address, timeout=timeout)


def test_healthy_it_passes_everything(proxy: FaultProxy, namespace: str) -> None:
    """Big values both ways, many connections, all counted."""
    value = bytes(range(256)) * 20_000

    def work(number: int) -> bool:
        with connect(proxy, timeout=20.0) as wire:
            wire.command("SET", f"{namespace}{number}", value)
            return wire.command("GETDEL", f"{namespace}{number}") == value

    assert all(in_threads(4, work))
    assert proxy.connections == 4
    assert proxy.bytes_up > 4 * len(value) < proxy.bytes_down
    eventually(lambda: proxy.open_connections == 0, "all connections are closed")


def test_delayed_replies(proxy: FaultProxy, wire: Wire, namespace: str) -> None:
    """Late and in order; those sent together are late together, not one after the other."""
    proxy.inject(Faults(delay_replies=LATE_S, jitter=LATE_S / 3))
    started = time.monotonic()
    for _ in range(10):
        wire.send("INCR", namespace)
    assert [wire.read() for _ in range(10)] == list(range(1, 11))
    assert LATE_S / 2 < time.monotonic() - started < 5 * LATE_S
    proxy.heal()
    assert wire.command("INCR", namespace) == 11


def test_delayed_requests(
    proxy: FaultProxy, wire: Wire, redis_single: Single, namespace: str
) -> None:
    """The server has not seen them yet."""
    with proxy.injected(Faults(delay_requests=LATE_S)):
        started = time.monotonic()
        wire.send("INCR", namespace)
        seen_early = redis_single.server.command("GET", namespace)
        looked = time.monotonic() - started
        assert wire.read() == 1
    assert time.monotonic() - started >= LATE_S
    assert seen_early is None or looked >= LATE_S


def test_lost_replies(proxy: FaultProxy, redis_single: Single, namespace: str) -> None:
    """Executed, never answered; the connection stays mute, new ones are well after healing."""
    with connect(proxy, timeout=0.2) as wire:
        proxy.inject(Faults(lose_replies=True))
        with pytest.raises(TimeoutError):
            wire.command("INCR", namespace)
        assert redis_single.server.command("GET", namespace) == b"1"
        proxy.heal()
        with pytest.raises(TimeoutError):
            wire.command("INCR", namespace)
    with connect(proxy) as wire:
        assert wire.command("GET", namespace) == b"2"


def test_blackhole(proxy: FaultProxy, redis_single: Single, namespace: str) -> None:
    """Never executed; new connections are accepted."""
    with (
        connect(proxy, timeout=0.2) as old,
        proxy.injected(Faults(blackhole=True)),
        connect(proxy, timeout=0.2) as new,
    ):
        for wire in (old, new):
            with pytest.raises(TimeoutError):
                wire.command("INCR", namespace)
    assert redis_single.server.command("GET", namespace) is None
    assert proxy.requests_seen(b"INCR") == 2


def test_unreachable(proxy: FaultProxy) -> None:
    """Connecting itself times out, and works after healing."""
    with connect(proxy, timeout=0.2) as old, proxy.injected(Faults(unreachable=True)):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                connect(proxy, timeout=0.2)
        with pytest.raises(TimeoutError):
            old.command("PING")
    with connect(proxy) as wire:
        assert wire.command("PING") == b"PONG"


def test_reset(proxy: FaultProxy, wire: Wire) -> None:
    """Old connections get a RST, new ones too, until healed."""
    with proxy.injected(Faults(reset=True)):
        with pytest.raises(ConnectionResetError):
            wire.read()
        with pytest.raises(ConnectionError), connect(proxy) as new:
            new.command("PING")
        assert proxy.open_connections == 0
    with connect(proxy) as new:
        assert new.command("PING") == b"PONG"


def test_reset_once(proxy: FaultProxy, wire: Wire) -> None:
    """New connections are welcome at once."""
    proxy.reset_now()
    with pytest.raises(ConnectionResetError):
        wire.read()
    with connect(proxy) as new:
        assert new.command("PING") == b"PONG"


def test_refuse(proxy: FaultProxy, wire: Wire) -> None:
    """As a dead server, and on the same port when it is back; more than once."""
    port = proxy.port
    for _ in range(3):
        with proxy.injected(Faults(refuse=True)), pytest.raises(ConnectionRefusedError):
            connect(proxy)
        with connect(proxy) as new:
            assert new.command("PING") == b"PONG"
    with pytest.raises(ConnectionResetError):
        wire.read()
    assert proxy.port == port


@pytest.mark.parametrize(("size", "received"), [(0, b""), (3, b"+PO"), (7, b"+PONG\r\n")])
def test_truncate(proxy: FaultProxy, size: int, received: bytes) -> None:
    """So many bytes of replies, then the end; counted from the injection."""
    with socket.create_connection(proxy.address, timeout=3) as old:
        old.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert old.recv(100) == b"+PONG\r\n"
        proxy.inject(Faults(truncate=size))
        with socket.create_connection(proxy.address, timeout=3) as new:
            for client in (old, new):
                client.sendall(b"*1\r\n$4\r\nPING\r\n")
                assert client.makefile("rb").read() == received


def test_one_byte_at_a_time(proxy: FaultProxy, wire: Wire, namespace: str) -> None:
    """All arrives, in many pieces."""
    proxy.inject(Faults(one_byte=True))
    value = bytes(range(256)) * 4
    wire.command("SET", namespace, value)
    assert wire.command("GET", namespace) == value
    # One that was not scheduled until all had come sees one piece: look again.
    assert eventually(lambda: len(pieces_of_reply(proxy)) > 1, "a reply comes in pieces")


def pieces_of_reply(proxy: FaultProxy) -> list[bytes]:
    """Return what each read of one reply gave."""
    pieces: list[bytes] = []
    with socket.create_connection(proxy.address, timeout=3) as client:
        client.sendall(pack("ECHO", "123456789"))
        while b"".join(pieces) != b"$9\r\n123456789\r\n":
            pieces.append(client.recv(100))
    return pieces


def test_sever_after_a_number_of_requests(
    proxy: FaultProxy, wire: Wire, redis_single: Single, namespace: str
) -> None:
    """The last one is executed and not answered; another connection does not notice."""
    with connect(proxy) as other:
        assert other.command("PING") == b"PONG"
        proxy.inject(Faults(sever_after=3))
        assert [wire.command("INCR", namespace), wire.command("INCR", namespace)] == [1, 2]
        with pytest.raises(ConnectionResetError):
            wire.command("INCR", namespace)
        eventually(lambda: redis_single.server.command("GET", namespace) == b"3", "the last ran")
        assert other.command("PING") == b"PONG"
        assert proxy.faults == Faults()


def test_sever_within_a_pipeline(proxy: FaultProxy, redis_single: Single, namespace: str) -> None:
    """What stands behind the last request in the same packet is not executed."""
    proxy.inject(Faults(sever_after=3))
    with socket.create_connection(proxy.address, timeout=3) as client:
        client.sendall(pack("INCR", namespace) * 5)
        with pytest.raises(ConnectionResetError):
            client.makefile("rb").read()
    eventually(lambda: redis_single.server.command("GET", namespace) == b"3", "three ran")
    eventually(lambda: proxy.open_connections == 0, "the connection is gone")
    assert redis_single.server.command("GET", namespace) == b"3"
    assert proxy.requests_seen(b"INCR") == 5


def test_requests_are_seen(proxy: FaultProxy, wire: Wire, namespace: str) -> None:
    """By command name in any case, or by argument; the count can be started anew."""
    key = namespace.encode()
    wire.command("set", key, "get")
    wire.command("GET", key)
    wire.command("get", key)
    assert proxy.requests()[1:] == [(b"set", key, b"get"), (b"GET", key), (b"get", key)]
    assert proxy.requests_seen(b"GET") == 2
    assert proxy.requests_seen(b"SET") == 1
    assert proxy.requests_seen(key) == 3
    assert proxy.requests_seen(b"EVALSHA") == 0
    proxy.forget_requests()
    assert proxy.requests_seen(key) == 0


def test_before_tls(redis_tls: SecureSingle, fault_proxy: Callable[..., FaultProxy]) -> None:
    """Faults work; requests cannot be counted, and that is said."""
    proxy = fault_proxy(redis_tls.server.address)
    login = redis_tls.login_for("app")
    with Wire(proxy.address, login=login) as wire:
        assert wire.command("PING") == b"PONG"
        with pytest.raises(RuntimeError, match="did not speak plain RESP"):
            proxy.requests_seen(b"PING")
        proxy.inject(Faults(one_byte=True, delay_replies=0.01))
        assert wire.command("PING") == b"PONG"
        proxy.inject(Faults(reset=True))
        with pytest.raises((ConnectionError, ssl.SSLEOFError)):
            wire.command("PING")
    proxy.inject(Faults(lose_replies=True))
    with pytest.raises(TimeoutError):
        Wire(proxy.address, login=Login(tls=login.tls), timeout=0.2)


def test_before_a_unix_socket(fault_proxy: Callable[..., FaultProxy]) -> None:
    """The client speaks TCP, the server a Unix socket."""
    with UnixSocket() as single, connect(fault_proxy(single.server.address)) as wire:
        assert wire.command("PING") == b"PONG"


def test_before_a_dead_server(
    own_redis: Callable[..., Single], fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Connections end with the server; new ones are reset; after its restart all is well."""
    server = own_redis().server
    proxy = fault_proxy(server.address)
    with connect(proxy) as old:
        assert old.command("PING") == b"PONG"
        server.kill()
        with pytest.raises(ConnectionError):
            old.read()
    with pytest.raises(ConnectionError), connect(proxy) as wire:
        wire.command("PING")
    server.restart()
    with connect(proxy) as wire:
        assert wire.command("PING") == b"PONG"


def test_a_client_that_leaves_does_not_take_back_its_request(
    proxy: FaultProxy, redis_single: Single, namespace: str
) -> None:
    """What was sent before closing is executed."""
    for _ in range(20):
        with connect(proxy) as wire:
            wire.send("INCR", namespace)
    eventually(lambda: redis_single.server.command("GET", namespace) == b"20", "all ran")


def test_back_pressure_bounds_what_is_held(
    proxy: FaultProxy, redis_single: Single, namespace: str
) -> None:
    """A client that does not read does not fill the proxy's memory."""
    size = 64 * 1024 * 1024
    redis_single.server.command("SETRANGE", namespace, size - 1, b"x")
    with connect(proxy, timeout=20) as wire:
        wire.send("GET", namespace)
        eventually(lambda: proxy.bytes_down > 0, "the reply begins")
        before = -1
        while proxy.bytes_down != before:  # until the stream stands still for a moment
            before = proxy.bytes_down
            time.sleep(0.1)
        assert before < size / 2
        reply = wire.read()
        assert isinstance(reply, bytes)
        assert len(reply) == size
    redis_single.server.command("DEL", namespace)


def test_faults_are_switched_from_many_threads(proxy: FaultProxy, namespace: str) -> None:
    """Under traffic, with every fault in turn, and well in the end."""
    several = [
        Faults(delay_replies=0.001),
        Faults(lose_replies=True),
        Faults(blackhole=True),
        Faults(unreachable=True),
        Faults(reset=True),
        Faults(refuse=True),
        Faults(truncate=2),
        Faults(one_byte=True),
        Faults(sever_after=2),
    ]

    def work(number: int) -> None:
        for turn in range(12):
            if number < 2:
                proxy.inject(several[(number + turn) % len(several)])
            try:
                with connect(proxy, timeout=0.02) as wire:
                    wire.command("INCR", namespace)
            except OSError:
                continue

    in_threads(6, work)
    proxy.heal()
    with connect(proxy) as wire:
        assert wire.command("PING") == b"PONG"


def test_closing_is_clean(redis_single: Single) -> None:
    """No warning, no pending task, no thread; connections are cut; closing twice does no harm."""
    source = """
import gc, sys, threading, logging
logging.basicConfig(level=logging.DEBUG)
from tests.ground.faults import Faults
from tests.ground.proxy import FaultProxy
from tests.ground.resp import Wire
for faults in [Faults(), Faults(delay_replies=5), Faults(blackhole=True), Faults(unreachable=True)]:
    with FaultProxy(("127.0.0.1", int(sys.argv[1]))) as proxy:
        wires = [Wire(proxy.address) for _ in range(5)]
        proxy.inject(faults)
        for wire in wires:
            wire.send("PING")
    proxy.close()
    for wire in wires:
        wire.close()
    del proxy
    gc.collect()
print(threading.active_count())
"""
    assert in_subprocess(source, str(redis_single.server.port)) == "1\n"


def test_inside_a_running_loop(redis_single: Single) -> None:
    """Its loop is its own: a test's coroutine may use it."""

    async def main() -> bytes:
        with FaultProxy(redis_single.server.address) as proxy:
            reader, writer = await asyncio.open_connection(*proxy.address)
            writer.write(b"*1\r\n$4\r\nPING\r\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line

    assert asyncio.run(main()) == b"+PONG\r\n"
    gc.collect()


@pytest.mark.parametrize("wrong", [{"delay_replies": -1.0}, {"truncate": -1}, {"sever_after": 0}])
def test_faults_that_make_no_sense(wrong: dict[str, float]) -> None:
    """Are refused when they are described."""
    with pytest.raises(ValueError, match="must"):
        Faults(**wrong)  # type: ignore[arg-type]  # numbers by name, checked by the class
