"""A Cluster moves slots, fails over, and loses nodes, under load from threads and tasks."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from backendkit.core.errors import CrossSlot, NotSent, OutcomeUnknown, StoreError
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Value
from backendkit.stores import Guarded
from backendkit.stores.redis import RedisStore
from tests.faults.load import Books, Load, bare, counts, guarded, pair, replicated, tick, token_of
from tests.ground.cluster import ClusterGroup
from tests.ground.faults import Faults
from tests.ground.proxy import FaultProxy
from tests.ground.servers import Server
from tests.ground.slots import key_slot, tag_in
from tests.ground.waiting import eventually

SLOT = 4321
MOVING = [f"{{{tag_in(SLOT)}}}{n}".encode() for n in range(6)]

colours = pytest.mark.parametrize("colour", ["sync", "async"])


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterGroup]:
    """Three masters; each test leaves them well, with slots wherever they have come to lie."""
    with ClusterGroup(node_timeout_ms=30_000) as group:
        yield group


@pytest.fixture(autouse=True)
def _clean(cluster: ClusterGroup) -> None:
    for node in cluster.servers:
        node.command("FLUSHALL")


def other(cluster: ClusterGroup) -> Server:
    """Return a master that does not own the slot, once the slot may be moved to it.

    That is when all nodes know each other's latest epoch: whoever takes a slot before that may take it with an epoch
    that another has already, and then the nodes name each other for ever.
    """
    eventually(lambda: len(set(map(_epochs, cluster.servers))) == 1, "the nodes agree on epochs")
    return next(node for node in cluster.masters() if node is not cluster.owner(SLOT))


def _epochs(node: Server) -> frozenset[tuple[str, str]]:
    rows = [line.split() for line in node.text("CLUSTER", "NODES").splitlines()]
    return frozenset((row[0], row[6]) for row in rows)


def run(store: RedisStore | Guarded, operation: Operation[bytes], colour: str) -> bytes:
    """Run one operation."""
    if colour == "sync":
        return store.run(operation)
    return asyncio.run(store.aio.run(operation))


def test_slots_move_under_load(cluster: ClusterGroup) -> None:
    """MOVED and ASK are followed: no operation fails, none runs twice."""
    store = bare(cluster.url, timeout=5.0, connect_timeout=5.0)
    keys = [*MOVING, *(f"{{{cluster.tag_on(node)}}}".encode() for node in cluster.masters())]
    load = Load(store, lambda n: tick(keys[n % len(keys)]), threads=4, tasks=12)
    with load.running():
        load.progress(100)
        for _ in range(4):
            move = cluster.begin_move(SLOT, other(cluster))
            load.progress(30)
            while move.migrate(2):
                load.progress(30)
            load.progress(30)
            move.end()
            load.progress(30)
            cluster.settle()  # gossip that was under way may say otherwise for a moment
    assert not load.books.failed
    total = sum(
        (counts(cluster.owner_of(key), key) for key in keys[1:]),
        counts(cluster.owner(SLOT), keys[0]),
    )
    load.books.check(total)
    stats = store.stats()
    assert stats.resent > 4
    assert stats.operations == len(load.books.done) + stats.resent
    assert (stats.in_flight, stats.waiting) == (0, 0)
    store.close()


@colours
def test_a_slot_under_way(cluster: ClusterGroup, colour: str) -> None:
    """ASK: ASKING goes in the same write; what lies at the old owner is served there."""
    store = bare(cluster.url, timeout=5.0, connect_timeout=5.0)
    run(store, tick(MOVING[0]), colour)
    target = other(cluster)
    move = cluster.begin_move(SLOT, target)
    run(store, tick(MOVING[0]), colour)
    run(store, tick(MOVING[1]), colour)
    assert move.migrate() == 1
    run(store, tick(MOVING[0]), colour)
    move.end()
    cluster.settle()
    for _ in range(3):
        run(store, tick(MOVING[0]), colour)
        run(store, tick(MOVING[1]), colour)
    assert len(counts(target, MOVING[0])) == 6
    assert len(counts(target, MOVING[1])) == 4
    store.close()


@colours
def test_two_keys_of_a_slot_under_way(cluster: ClusterGroup, colour: str) -> None:
    """TRYAGAIN until both lie together; for too long, it was not sent, which makes no node a dead one."""
    store = guarded(cluster.url, timeout=0.5, connect_timeout=5.0)
    inner = store.store
    assert isinstance(inner, RedisStore)
    run(inner, pair(MOVING[0], MOVING[1]), colour)
    move = cluster.begin_move(SLOT, other(cluster))
    move.migrate_keys(MOVING[0])
    started = time.perf_counter()
    with pytest.raises(NotSent, match="TRYAGAIN") as caught:
        run(store, pair(MOVING[0], MOVING[1]), colour)
    assert type(caught.value) is NotSent
    assert 0.3 < time.perf_counter() - started < 1.0
    assert not store.down
    patient = bare(cluster.url, timeout=10.0, connect_timeout=5.0)
    load = Load(patient, lambda _: pair(MOVING[0], MOVING[1]), threads=2, tasks=4)
    with load.running():
        time.sleep(0.1)
        move.migrate()
        load.progress(20)
        move.end()
        load.progress(20)
        cluster.settle()
    assert not load.books.failed
    load.books.check(counts(cluster.owner(SLOT), MOVING[0]))
    load.books.check(counts(cluster.owner(SLOT), MOVING[1]))
    store.close()
    patient.close()


@colours
def test_a_lost_reply_of_an_asked_node(
    cluster: ClusterGroup, fault_proxy: Callable[..., FaultProxy], colour: str
) -> None:
    """After ASKING, too: the reply was lost, so it is unknown, and it is not sent again."""
    store = bare(cluster.url, timeout=0.4, connect_timeout=5.0)
    target = other(cluster)
    run(store, tick(MOVING[0]), colour)
    move = cluster.begin_move(SLOT, target)
    operation = tick(MOVING[1])
    run(store, tick(MOVING[1]), colour)  # both nodes know the script now
    target.pause()
    try:
        with pytest.raises(OutcomeUnknown):
            run(store, operation, colour)
    finally:
        target.resume()
    move.migrate()
    move.end()
    cluster.settle()
    assert counts(target, MOVING[1])[token_of(operation)] <= 1
    store.close()


@colours
def test_two_nodes_that_name_each_other(cluster: ClusterGroup, colour: str) -> None:
    """Not sent, in time, and without a storm of requests; no node is taken for a dead one."""
    store = guarded(cluster.url, timeout=0.4, connect_timeout=5.0)
    run(store, tick(MOVING[0]), colour)
    source, target = cluster.owner(SLOT), other(cluster)
    source.command("DEL", MOVING[0])
    source.command("CLUSTER", "SETSLOT", SLOT, "NODE", target.text("CLUSTER", "MYID"))
    before = store.stats().operations
    with pytest.raises(NotSent, match="MOVED") as caught:
        run(store, tick(MOVING[0]), colour)
    target.command("CLUSTER", "SETSLOT", SLOT, "IMPORTING", source.text("CLUSTER", "MYID"))
    target.command("CLUSTER", "SETSLOT", SLOT, "NODE", target.text("CLUSTER", "MYID"))
    cluster.settle()
    assert type(caught.value) is NotSent
    assert store.stats().operations - before < 40
    assert not store.down
    run(store, tick(MOVING[0]), colour)
    store.close()


@colours
def test_keys_in_several_slots(cluster: ClusterGroup, colour: str) -> None:
    """Refused by name before anything is sent; in a batch, the others go on."""
    store = bare(cluster.url, timeout=5.0, connect_timeout=5.0)
    far = pair(b"{a}", b"{b}")
    with pytest.raises(CrossSlot, match="must lie in one slot") as caught:
        run(store, far, colour)
    assert "To fix it" in str(caught.value)
    operations = [tick(b"{a}"), far, tick(b"{b}"), tick(b"{c}")]
    if colour == "sync":
        outcomes = store.run_many(operations)
    else:
        outcomes = asyncio.run(store.aio.run_many(operations))
    assert [isinstance(outcome, Value) for outcome in outcomes] == [True, False, True, True]
    assert isinstance(outcomes[1], Error)
    assert isinstance(outcomes[1].error, CrossSlot)
    store.close()


def test_a_batch_over_all_nodes(cluster: ClusterGroup) -> None:
    """In order, each from its own node, while slots move."""
    store = bare(cluster.url, timeout=5.0, connect_timeout=5.0)
    keys = [f"{{{cluster.tag_on(node)}}}".encode() for node in cluster.masters()] + MOVING
    for _ in range(2):
        operations = [tick(keys[n % len(keys)]) for n in range(60)]
        cluster.move_slot(SLOT, other(cluster))
        assert [o.unwrap() for o in store.run_many(operations)] == [token_of(o) for o in operations]
        operations = [tick(keys[n % len(keys)]) for n in range(60)]
        cluster.move_slot(SLOT, other(cluster))
        outcomes = asyncio.run(store.aio.run_many(operations))
        assert [outcome.unwrap() for outcome in outcomes] == [token_of(o) for o in operations]
    store.close()


def test_a_node_dies_and_its_replica_takes_over(own_cluster: Callable[..., ClusterGroup]) -> None:
    """Errors are true, and only of that node's slots; the replica serves without anybody being told."""
    cluster = own_cluster(replicas=1)
    victim, *rest = cluster.masters()
    keys = [f"{{{cluster.tag_on(node)}}}".encode() for node in rest]
    hit = f"{{{cluster.tag_on(victim)}}}".encode()
    slot = key_slot(hit)
    store = guarded(cluster.url, timeout=1.0, connect_timeout=1.0)
    healthy = Load(store, lambda n: tick(keys[n % 2]), threads=2, tasks=4)
    struck = Load(store, lambda _: tick(hit), threads=2, tasks=4)
    with healthy.running(), struck.running():
        healthy.progress()
        struck.progress()
        trusted = len(struck.books.done)
        replicated(victim, hit + b"replicated")
        died = time.perf_counter()
        victim.kill()
        eventually(lambda: store.down, "the guard has opened", every=0.001)
        eventually(lambda: not store.down, "the replica serves", within=30, every=0.001)
        settled = len(struck.books.done)
        assert time.perf_counter() - died < 12
        struck.progress(100)
        healthy.progress(100)
    heir = cluster.owner(slot)
    assert heir is not victim
    lost = struck.books.done[trusted:settled]
    struck.books.check(counts(heir, hit), may_be_lost=lost)
    assert not healthy.books.unknown
    assert not healthy.books.refused
    healthy.books.check(counts(rest[0], keys[0]) + counts(rest[1], keys[1]))
    assert struck.books.failed
    store.close()


@colours
@pytest.mark.parametrize("fault", ["dead", "paused"])
def test_a_node_without_a_replica(
    own_cluster: Callable[..., ClusterGroup], fault: str, colour: str
) -> None:
    """Its slots fail, in time, also without a guard and though it is the first that would be asked."""
    cluster = own_cluster(node_timeout_ms=60_000)
    victim, *rest = cluster.masters()
    key = f"{{{cluster.tag_on(rest[0])}}}".encode()
    hit = f"{{{cluster.tag_on(victim)}}}".encode()
    store = bare(cluster.url, timeout=0.4, connect_timeout=0.4)
    fresh = bare(cluster.url, timeout=0.4, connect_timeout=0.4)
    books = Books()
    run(store, tick(hit), colour)
    victim.kill() if fault == "dead" else victim.pause()
    for _ in range(3):
        started = time.perf_counter()
        with pytest.raises(StoreError):
            run(store, tick(hit), colour)
        assert time.perf_counter() - started < 0.4 + 0.2
        for each in (store, fresh):
            operation = tick(key)
            started = time.perf_counter()
            assert run(each, operation, colour)
            if each is store:  # it knows this node, and need not ask the one that hangs
                assert time.perf_counter() - started < 0.1
            books.note(operation, None)
    books.check(counts(rest[0], key))
    if fault == "paused":
        victim.resume()
    else:
        cluster.restart(victim)
    run(store, tick(hit), colour)
    store.close()
    fresh.close()


def test_an_operation_that_meets_a_cluster_that_is_down(
    own_cluster: Callable[..., ClusterGroup],
) -> None:
    """CLUSTERDOWN: nothing ran; it is asked again for as long as there is time, not in a busy loop."""
    cluster = own_cluster()
    node = cluster.masters()[0]
    key = f"{{{cluster.tag_on(node)}}}".encode()
    store = bare(cluster.url, timeout=0.4, connect_timeout=1.0)
    store.run(tick(key))
    node.command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    for each in cluster.masters()[1:]:
        each.kill()
    eventually(
        lambda: "cluster_state:fail" in node.text("CLUSTER", "INFO"), "it is down", within=15
    )
    started = time.perf_counter()
    with pytest.raises(NotSent):
        store.run(tick(key))
    assert time.perf_counter() - started < 0.4 + 1.0
    assert store.stats().operations < 30
    store.close()


def test_a_slow_start(cluster: ClusterGroup, fault_proxy: Callable[..., FaultProxy]) -> None:
    """The first node in the URL hangs, the second refuses: the third is asked, by everybody at once."""
    hanging, refusing = (
        fault_proxy(cluster.servers[0].address),
        fault_proxy(cluster.servers[1].address),
    )
    hanging.inject(Faults(blackhole=True))
    refusing.inject(Faults(refuse=True))
    ports = [hanging.port, refusing.port, cluster.servers[2].port]
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    store = bare(url, timeout=0.6, connect_timeout=0.6)
    load = Load(store, lambda n: tick(MOVING[n % 6]), threads=4, tasks=20)
    with load.running():
        load.progress(200)
    assert not load.books.failed
    store.close()
