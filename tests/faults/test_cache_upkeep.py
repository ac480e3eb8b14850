"""The thread that a store has for its caches, around real servers: one for all, asleep, never disturbed, never lost."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from backendkit.cache import Cache, ChannelLost, ChannelUp, Coherence, JsonCodec, UpkeepFailed
from backendkit.cache.keeper import Turns
from backendkit.stores import connect
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.loops import in_fork
from tests.ground.proxy import FaultProxy
from tests.ground.single import SecureSingle, Single
from tests.ground.waiting import eventually


@pytest.fixture
def open_store() -> Iterator[Callable[..., Any]]:
    """Connect; closed with the test."""
    made: list[Any] = []

    def one(url: str, **options: Any) -> Any:
        options.setdefault("timeout", 2)
        made.append(connect(url, connect_timeout=2, **options))
        return made[-1]

    yield one
    for store in made:
        store.close()


def listening(store: Any, namespace: str, **coherence: Any) -> Cache:
    """Return a cache that is trusted."""
    coherence.setdefault("max_l1_staleness", 1.0)
    cache = Cache(store, namespace=namespace, codec=JsonCodec(), coherence=Coherence(**coherence))
    cache.get("nothing")
    eventually(lambda: cache.stats().trusted, "the cache listens")
    return cache


def subscribers(single: Single) -> int:
    """Return how many connections listen."""
    return single.server.text("CLIENT", "LIST", "TYPE", "pubsub").count("id=")


def forgets(cache: Cache) -> bool:
    """Tell whether a key is gone."""
    return cache.get("k") is None


def upkeepers() -> int:
    """Return how many threads keep caches in step."""
    return sum(thread.name == "backendkit-cache" for thread in threading.enumerate())


def test_all_caches_of_a_store_share_a_thread_and_a_connection(
    own_redis: Any, open_store: Any
) -> None:
    """Of three names; closing one disturbs none of the others; with the last both end."""
    single: Single = own_redis()
    store, other = open_store(single.url), open_store(single.url)
    before = upkeepers()
    caches = [listening(store, f"n{number}") for number in range(3)]
    same = listening(store, "n0")
    assert (subscribers(single), upkeepers() - before) == (1, 1)
    told: list[Any] = []
    for cache in (*caches[1:], same):
        cache.hooks.add(told.append, ChannelLost, ChannelUp)
    caches[0].close()
    for name, cache in (("n0", same), ("n1", caches[1]), ("n2", caches[2])):
        writer = Cache(other, namespace=name, codec=JsonCodec())
        cache.set("k", "old")
        assert cache.get("k") == "old"
        writer.invalidate("k")
        eventually(partial(forgets, cache), "it hears as before")
        writer.close()
    assert not told
    assert not caches[0].stats().trusted
    for cache in (*caches[1:], same):
        cache.close()
    eventually(lambda: (subscribers(single), upkeepers()) == (0, before), "both have ended")
    caches[0].get("k")
    eventually(lambda: caches[0].stats().trusted, "who is used again listens again")


def test_caches_that_have_gone_need_no_thread(own_redis: Any, open_store: Any) -> None:
    """The garbage collector takes them; nobody closes anything."""
    single: Single = own_redis()
    before = upkeepers()
    cache = listening(open_store(single.url), "n")
    assert upkeepers() == before + 1
    del cache
    gc.collect()
    eventually(lambda: (subscribers(single), upkeepers()) == (0, before), "both have ended")


def test_a_closed_store_ends_the_thread_at_once(own_redis: Any, open_store: Any) -> None:
    """And one that is opened again has another."""
    single: Single = own_redis()
    before, store = upkeepers(), open_store(single.url)
    cache = listening(store, "n", max_l1_staleness=600)
    store.close()
    eventually(lambda: upkeepers() == before, "it has ended")
    assert not cache.stats().trusted
    store.reopen()
    assert cache.get("k") is None
    eventually(lambda: cache.stats().trusted, "it listens again")


def test_an_idle_process_sleeps(
    redis_single: Single, namespace: str, open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns only for heartbeats; and a message, a lease, what waits wake it at once."""
    turns: list[float] = []
    turn = Turns.turn

    def counted(self: Turns, alarm: Any) -> None:
        turns.append(time.monotonic())
        turn(self, alarm)

    monkeypatch.setattr(Turns, "turn", counted)
    store = open_store(redis_single.url)
    cache = listening(store, namespace[:-1], max_l1_staleness=600, lease=0.2)
    other = listening(open_store(redis_single.url), namespace[:-1], max_l1_staleness=600)
    del turns[:]
    threading.Event().wait(1.0)
    assert len(turns) <= 4
    cache.set("k", "old")
    other.invalidate("k")
    eventually(lambda: cache.get("k") is None, "the message was handled")

    def load() -> str:
        # Thrice as long as its lease; the other process asks all the while.
        asking = threading.Thread(target=lambda: asked.append(other.get_or_load("l", lambda: "2")))
        asking.start()
        asking.join(0.6)
        return "1"

    asked: list[str] = []
    assert cache.get_or_load("l", load) == "1"
    eventually(lambda: asked == ["1"], "the lease was renewed")
    cache.close()
    other.close()


def test_a_message_that_cannot_be_handled_is_not_forgotten(
    redis_single: Single, namespace: str, open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That cache trusts nothing until it has begun anew; the other one goes on."""
    store = open_store(redis_single.url)
    cache, calm = listening(store, namespace[:-1]), listening(store, namespace[:-1] + "b")
    writer = Cache(open_store(redis_single.url), namespace=namespace[:-1], codec=JsonCodec())
    told: list[Any] = []
    calmly: list[Any] = []
    cache.hooks.add(told.append)
    calm.hooks.add(calmly.append, ChannelLost, UpkeepFailed)

    drop = type(cache._local).drop

    def fails(self: Any, key: str) -> None:
        if self is cache._local:
            raise ValueError(key)
        drop(self, key)

    cache.set("k", "old")
    assert cache.get("k") == "old"
    monkeypatch.setattr(type(cache._local), "drop", fails)
    writer.invalidate("k")
    eventually(lambda: UpkeepFailed("ValueError") in told, "it is told", detail=lambda: str(told))
    monkeypatch.undo()
    assert cache.get("k") is None
    eventually(lambda: cache.stats().trusted, "it listens again")
    assert not calmly
    assert calm.stats().trusted
    for each in (cache, calm, writer):
        each.close()


def test_a_flood_of_messages(redis_single: Single, namespace: str, open_store: Any) -> None:
    """100,000 at once: the connection is kept, and what follows them is heard."""
    store = open_store(redis_single.url)
    cache = listening(store, namespace[:-1], max_l1_staleness=30)
    told: list[Any] = []
    cache.hooks.add(told.append, ChannelLost)
    names = cache._core.names
    flood = "for i = 1, tonumber(ARGV[2]) do redis.call('PUBLISH', ARGV[1], ARGV[3]) end return 1"
    raw = b"k" + b"o" * 16 + b"flooded"
    for _ in range(10):
        redis_single.server.command("EVAL", flood, "0", names.channel, "10000", raw)
    writer = Cache(open_store(redis_single.url), namespace=namespace[:-1], codec=JsonCodec())
    cache.set("k", "old")
    writer.invalidate("k")
    eventually(lambda: cache.get("k") is None, "what came last was heard", within=60)
    assert not told
    cache.close()
    writer.close()


def test_a_subscription_that_redis_ends(own_redis: Any, open_store: Any) -> None:
    """Who reads too slowly is cut off: memory is emptied, and it listens again."""
    single: Single = own_redis()
    cache = listening(open_store(single.url), "n")
    told: list[Any] = []
    cache.hooks.add(told.append, ChannelLost, ChannelUp)
    cache.set("k", "v")
    for _ in range(3):
        del told[:]
        single.server.command("CLIENT", "KILL", "TYPE", "pubsub")
        eventually(lambda: len(told) == 2, "it was lost, and is back")
        eventually(lambda: cache.stats().trusted, "it is trusted")
    assert cache.get("k") == "v"


@pytest.mark.parametrize("protocol", [2, 3])
def test_it_listens_by_tls(
    redis_tls: SecureSingle, namespace: str, open_store: Any, protocol: int
) -> None:
    """What lies in the TLS layer is not waited for in the socket; a large message comes whole."""
    authority = str(redis_tls.certificates.ca)
    store = open_store(redis_tls.url, protocol=protocol, tls_ca=authority)
    cache = listening(store, namespace[:-1], max_l1_staleness=600)
    second = open_store(redis_tls.url, tls_ca=authority)
    other = listening(second, namespace[:-1], max_l1_staleness=600)
    key = "k" * 100_000
    for number in range(20):
        cache.set(key, number)
        other.invalidate(key, *(f"x{each}" for each in range(20)), "last")
        eventually(lambda: cache.get(key) is None, "all was heard")
    cache.close()
    other.close()


def test_a_cluster_that_changes(
    redis_cluster: ClusterGroup, namespace: str, open_store: Any
) -> None:
    """Who is told of other servers begins anew there."""
    store = open_store(redis_cluster.url)
    cache = listening(store, namespace[:-1])
    told: list[Any] = []
    cache.hooks.add(told.append, ChannelUp, ChannelLost)
    inner = store.store
    primaries = type(inner).primaries
    fewer = primaries(inner)[:-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(inner), "primaries", lambda self: fewer)
        eventually(lambda: any(e == ChannelUp(tuple(fewer)) for e in told), "it listens to fewer")
    eventually(lambda: told and len(getattr(told[-1], "servers", ())) == 3, "it listens to all")
    eventually(lambda: cache.stats().trusted, "it is trusted")
    cache.close()


def test_closing_while_it_opens(
    redis_single: Single, fault_proxy: Any, namespace: str, open_store: Any
) -> None:
    """Where nothing answers: closing waits for a moment at the most, and nothing is left."""
    proxy: FaultProxy = fault_proxy(redis_single.server.address)
    before = upkeepers()
    with proxy.injected(Faults(blackhole=True)):
        for _ in range(3):
            store = open_store(f"redis://127.0.0.1:{proxy.port}/0", timeout=0.25)
            cache = Cache(store, namespace=namespace[:-1], codec=JsonCodec())
            cache.get("k")
            cache.close()
        eventually(lambda: upkeepers() == before, "all have ended")


def test_a_child_has_a_thread_and_locks_of_its_own(
    redis_single: Single, namespace: str, open_store: Any
) -> None:
    """Forked again and again while the parent's thread works and others count."""
    cache = listening(open_store(redis_single.url), namespace[:-1])
    ends = threading.Event()

    def busy() -> None:
        while not ends.is_set():
            cache._core.counts.all()
            cache.invalidate("other")

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> bool:
        cache.set("k", "child")
        cache.stats()
        eventually(lambda: cache.stats().trusted, "the child listens")
        cache.close()
        return True

    try:
        assert all(in_fork(child) for _ in range(8))
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    eventually(lambda: cache.stats().trusted, "the parent was not disturbed")
    cache.close()


@pytest.mark.parametrize("denied", ["-subscribe", "-info", "-ping"])
def test_who_may_not_listen_is_told_once(own_redis: Any, open_store: Any, denied: str) -> None:
    """All else works: entries count for `max_l1_staleness` each, and what others remove is gone by then."""
    single: Single = own_redis()
    single.server.command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", denied)
    store = open_store(f"redis://app:pw@127.0.0.1:{single.server.port}/0")
    coherence = Coherence(max_l1_staleness=0.2)
    cache = Cache(store, namespace="n", codec=JsonCodec(), coherence=coherence)
    told: list[Any] = []
    cache.hooks.add(told.append, ChannelLost)
    cache.set("k", "old")
    eventually(lambda: told, "it is told")
    writer = Cache(open_store(single.url), namespace="n", codec=JsonCodec())
    writer.invalidate("k")
    eventually(partial(forgets, cache), "it is gone")
    assert not cache.stats().trusted
    assert denied == "-ping" or len(told) == 1
    for each in (cache, writer):
        each.close()
