"""Reaching a server: TLS, ACL users, RESP2 and RESP3, Unix sockets, databases, and what each costs."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backendkit.core.errors import StoreUnavailable
from backendkit.stores.redis import RedisStore
from tests.faults.load import bare, counts, run_of, tick
from tests.ground.loops import StallMeter, in_threads
from tests.ground.proxy import FaultProxy
from tests.ground.single import SecureSingle, Single, UnixSocket

colours = pytest.mark.parametrize("colour", ["sync", "async"])


def use(store: RedisStore, colour: str, times: int = 5) -> None:
    """Run operations one after another, over one connection."""

    async def main() -> None:
        for _ in range(times):
            await store.aio.run(tick(b"handshake"))

    if colour == "async":
        asyncio.run(main())
    else:
        for _ in range(times):
            store.run(tick(b"handshake"))


@pytest.fixture(scope="module")
def users() -> Iterator[SecureSingle]:
    """A server with ACL users and without TLS, whose requests a proxy can read."""
    with SecureSingle(tls=False) as single:
        yield single


@colours
@pytest.mark.parametrize(
    ("options", "handshake"),
    [
        ("", []),
        ("?db=0", []),
        ("?db=2", ["SELECT"]),
        ("?protocol=3", ["HELLO"]),
        ("?protocol=3&db=2", ["HELLO", "SELECT"]),
    ],
)
def test_round_trips_of_a_handshake(
    redis_single: Single,
    fault_proxy: Callable[..., FaultProxy],
    colour: str,
    options: str,
    handshake: list[str],
) -> None:
    """Only what the options ask for: a plain connection has none at all."""
    proxy = fault_proxy(redis_single.server.address)
    store = bare(f"redis://127.0.0.1:{proxy.port}{options}", timeout=5.0, connect_timeout=5.0)
    use(store, colour)
    names = [request[0].decode() for request in proxy.requests()]
    assert [name for name in names if not name.startswith("EVAL")] == handshake
    assert proxy.connections == 1
    store.close()


@colours
@pytest.mark.parametrize(("protocol", "handshake"), [(2, ["AUTH"]), (3, ["HELLO"])])
def test_round_trips_with_a_password(
    users: SecureSingle,
    fault_proxy: Callable[..., FaultProxy],
    colour: str,
    protocol: int,
    handshake: list[str],
) -> None:
    """One, whichever the protocol; and the user is the one that was named."""
    proxy = fault_proxy(users.server.address)
    store = bare(
        f"redis://127.0.0.1:{proxy.port}",
        username="app",
        password=users.passwords["app"],
        protocol=protocol,
        timeout=5.0,
        connect_timeout=5.0,
    )
    use(store, colour)
    names = [request[0].decode() for request in proxy.requests()]
    assert [name for name in names if not name.startswith("EVAL")] == handshake
    assert users.passwords["app"] not in repr(store._shared.dial)
    store.close()


@colours
def test_a_password_without_a_user(users: SecureSingle, colour: str) -> None:
    """Means the default user."""
    url = f"redis://127.0.0.1:{users.server.port}"
    store = bare(url, password=users.passwords["default"], timeout=5.0, connect_timeout=5.0)
    use(store, colour)
    store.close()


@colours
@pytest.mark.parametrize("protocol", [2, 3])
def test_replies_are_the_same_in_both_protocols(
    redis_single: Single, colour: str, protocol: int
) -> None:
    """Numbers and bytes, empty lists, many items; errors leave the connection in step."""
    store = bare(redis_single.url, protocol=protocol, timeout=5.0)
    operations = [
        run_of("return {1, -5, 9007199254740991, 'text', '', '\\0\\r\\n'}"),
        run_of("return {}"),
        run_of("local t = {} for i = 1, 3000 do t[i] = i end return t"),
        run_of("return {ARGV[1]}", args=(b"\xff\x00" * 50_000,)),
    ]
    expected: list[Any] = [
        [1, -5, 9007199254740991, b"text", b"", b"\0\r\n"],
        [],
        list(range(1, 3001)),
        [b"\xff\x00" * 50_000],
    ]
    if colour == "sync":
        assert [store.run(operation) for operation in operations] == expected
    else:

        async def main() -> list[Any]:
            return await asyncio.gather(*map(store.aio.run, operations))

        assert asyncio.run(main()) == expected
    store.close()


@colours
def test_databases_are_kept_apart(redis_single: Single, namespace: str, colour: str) -> None:
    """The number in the path or the option, on every new connection."""
    store = bare(f"redis://127.0.0.1:{redis_single.server.port}/5", timeout=5.0)
    operation = tick(namespace.encode())
    if colour == "sync":
        in_threads(3, lambda _: store.run(tick(namespace.encode())))
    else:
        asyncio.run(store.aio.run(operation))
    assert counts(redis_single.server, namespace.encode()) == {}
    with redis_single.server.wire() as wire:
        wire.command("SELECT", 5)
        assert wire.command("HLEN", namespace) in (1, 3)
    store.close()


@colours
def test_a_unix_socket(colour: str) -> None:
    """Has no port, and comes back after a restart."""
    with UnixSocket() as single:
        store = bare(single.url, timeout=5.0)
        use(store, colour)
        single.server.restart()
        use(store, colour)
        single.server.kill()
        threading.Event().wait(0.005)  # what answered this very moment is not looked at
        with pytest.raises(StoreUnavailable, match=str(single.server.address)):
            store.run(tick(b"k"))
        with pytest.raises(StoreUnavailable, match=str(single.server.address)):
            asyncio.run(store.aio.run(tick(b"k")))
        store.close()


# TLS


def tls_url(single: SecureSingle, **options: object) -> str:
    """Return the URL of a TLS server with options for TLS."""
    given = {"tls_ca": single.certificates.ca, "timeout": 5, "connect_timeout": 5, **options}
    return f"{single.url}?" + "&".join(f"{name}={value}" for name, value in given.items())


@colours
@pytest.mark.parametrize("protocol", [2, 3])
def test_tls(redis_tls: SecureSingle, colour: str, protocol: int) -> None:
    """One connection serves many operations, idle times between them included."""
    store = bare(tls_url(redis_tls, protocol=protocol))
    use(store, colour, times=20)
    assert store.stats().connects == 1
    for _ in range(3):
        threading.Event().wait(0.005)  # idle for longer than a connection counts as fresh
        if colour == "sync":
            use(store, colour)
    assert store.stats().connects == 1
    store.close()


@colours
def test_the_context_is_built_once(redis_tls: SecureSingle, colour: str) -> None:
    """However many connections and loops there are; and not on an event loop's thread."""
    store = bare(tls_url(redis_tls))
    tls = store._shared.dial.tls
    assert tls is not None
    threads: list[int] = []
    made = ssl.create_default_context

    def spy(**options: Any) -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return made(**options)

    patch = pytest.MonkeyPatch()
    patch.setattr(ssl, "create_default_context", spy)
    with patch.context():
        in_threads(4, lambda _: use(store, colour))
        use(store, colour)
    patch.undo()
    assert len(threads) == 1
    if colour == "async":
        assert threads[0] != threading.get_ident()
    store.close()


def test_building_the_context_stalls_no_loop(redis_tls: SecureSingle) -> None:
    """The loop goes on; the context is there before the first connection."""
    worst = []

    async def main() -> None:
        store = bare(tls_url(redis_tls))
        loop = threading.get_ident()
        made = ssl.create_default_context

        def slow(**options: Any) -> ssl.SSLContext:
            assert threading.get_ident() != loop
            threading.Event().wait(0.1)
            return made(**options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ssl, "create_default_context", slow)
            async with StallMeter() as meter:
                await asyncio.gather(*(store.aio.run(tick(b"handshake")) for _ in range(5)))
        worst.append(meter.worst)
        await store.aio.close()

    for _ in range(3):
        asyncio.run(main())
    assert min(worst) < 0.1  # as long as it takes to build one


def refused(store: RedisStore, colour: str) -> str:
    """Return what the error of a connection that cannot be made says."""
    with pytest.raises(StoreUnavailable) as caught:
        use(store, colour)
    assert store.stats().connections == 0
    store.close()
    return str(caught.value)


@colours
def test_a_wrong_authority(redis_tls: SecureSingle, tmp_path: Path, colour: str) -> None:
    """Is not trusted; nor is the system's."""
    with SecureSingle() as stranger:
        for url in (
            tls_url(redis_tls, tls_ca=stranger.certificates.ca),
            tls_url(redis_tls, tls_ca=""),
        ):
            assert "certificate verify failed" in refused(bare(url), colour).lower()


@colours
def test_a_wrong_hostname(redis_tls: SecureSingle, colour: str) -> None:
    """The certificate names 127.0.0.1 and localhost, and no other address of this machine."""
    with SecureSingle("bind 127.0.0.1 127.0.0.2") as single:
        url = tls_url(single).replace("127.0.0.1", "127.0.0.2")
        assert "127.0.0.2" in refused(bare(url), colour)
        store = bare(url + "&tls_check_hostname=no")
        use(store, colour)
        store.close()
        store = bare(url.replace(str(single.certificates.ca), "") + "&tls_verify=no")
        use(store, colour)
        store.close()


@colours
def test_mutual_tls(colour: str) -> None:
    """Whoever shows a certificate is let in; nobody else."""
    with SecureSingle(mutual=True) as single:
        certificates = single.certificates
        own = {
            "tls_cert": certificates.certificate("client"),
            "tls_key": certificates.key("client"),
        }
        store = bare(tls_url(single, **own))
        use(store, colour)
        store.close()
        refused(bare(tls_url(single)), colour)


@colours
@pytest.mark.parametrize("option", ["tls_ca", "tls_cert"])
def test_a_file_that_is_not_there(redis_tls: SecureSingle, colour: str, option: str) -> None:
    """The store's error, also where the servers must be asked first; no password in it."""
    url = tls_url(redis_tls, **{option: "/nowhere/file.pem"})
    text = refused(bare(url), colour)
    text += refused(bare(url.replace("rediss://", "rediss+cluster://").replace("/0?", "?")), colour)
    text += refused(
        bare(url.replace("rediss://", "rediss+sentinel://").replace("/0?", "/main?")), colour
    )
    assert redis_tls.passwords["app"] not in text


@colours
def test_plain_text_to_a_tls_port_and_back(
    redis_tls: SecureSingle, redis_single: Single, colour: str
) -> None:
    """Ends with the store's error, and in time."""
    plain = redis_tls.url.replace("rediss://", "redis://") + "?timeout=1"
    secure = (
        redis_single.url.replace("redis://", "rediss://") + f"?tls_ca={redis_tls.certificates.ca}"
    )
    refused(bare(plain), colour)
    refused(bare(secure), colour)


@colours
def test_an_encrypted_connection_is_lost(
    redis_tls: SecureSingle, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """The next operation connects anew."""
    proxy = fault_proxy(redis_tls.server.address)
    url = tls_url(redis_tls).replace(f":{redis_tls.server.port}", f":{proxy.port}")
    store = bare(url)
    for _ in range(3):
        use(store, colour)
        proxy.reset_now()
        threading.Event().wait(0.005)  # what answered this very moment is not looked at
    store.close()
