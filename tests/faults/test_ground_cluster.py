"""A cluster moves slots step by step, and fails over."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults.load import replicated
from tests.ground.cluster import ClusterGroup
from tests.ground.resp import ReplyError
from tests.ground.servers import Server
from tests.ground.slots import key_slot, tag_in

SLOT = 4321
KEYS = [f"{{{tag_in(SLOT)}}}{name}" for name in "abc"]


def error_of(server: Server, *command: str | int) -> str:
    """Return the error that a command gets."""
    with pytest.raises(ReplyError) as caught:
        server.command(*command)
    return str(caught.value)


def test_shared_cluster(redis_cluster: ClusterGroup, namespace: str) -> None:
    """Slots are shared out, and each node serves its own keys."""
    masters = redis_cluster.masters()
    assert len(masters) == 3
    for master in masters:
        key = f"{namespace}{{{redis_cluster.tag_on(master)}}}"
        assert redis_cluster.owner_of(key) is master
        assert master.command("SET", key, 1) == b"OK"
    first, last = redis_cluster.owner(0), redis_cluster.owner(16_383)
    assert first is not last
    key = f"{{{redis_cluster.tag_on(last)}}}"
    assert error_of(first, "GET", key) == f"MOVED {key_slot(key)} 127.0.0.1:{last.port}"
    assert redis_cluster.url.count("127.0.0.1:") == 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterGroup]:
    """A cluster of these tests' own: each leaves its slots and keys as they were."""
    with ClusterGroup() as cluster:
        yield cluster


def test_a_slot_moves_with_its_keys(cluster: ClusterGroup) -> None:
    """ASK and TRYAGAIN while it is under way, MOVED when it has gone, and back again."""
    source = cluster.owner(SLOT)
    target = next(node for node in cluster.masters() if node is not source)
    source.command("MSET", *(part for key in KEYS for part in (key, 1)))

    move = cluster.begin_move(SLOT, target)
    assert cluster.owner(SLOT) is source
    assert source.command("GET", KEYS[0]) == b"1"
    assert error_of(source, "GET", KEYS[0] + "new") == f"ASK {SLOT} 127.0.0.1:{target.port}"
    assert error_of(target, "GET", KEYS[0]).startswith("MOVED")

    move.migrate_keys(KEYS[0])
    assert error_of(source, "GET", KEYS[0]).startswith("ASK")
    assert error_of(source, "MGET", *KEYS).startswith("TRYAGAIN")
    with target.wire() as wire:
        assert wire.command("ASKING") == b"OK"
        assert wire.command("GET", KEYS[0]) == b"1"
        assert wire.command("ASKING") == b"OK"
        with pytest.raises(ReplyError, match="TRYAGAIN"):
            wire.command("MGET", *KEYS)

    assert move.migrate(1) == 1
    assert move.migrate() == 1
    assert move.migrate() == 0
    move.end()
    cluster.settle()
    assert cluster.owner(SLOT) is target
    assert target.command("MGET", *KEYS) == [b"1", b"1", b"1"]
    assert error_of(source, "GET", KEYS[0]) == f"MOVED {SLOT} 127.0.0.1:{target.port}"

    cluster.move_slot(SLOT, source)
    assert cluster.owner(SLOT) is source
    assert source.command("MGET", *KEYS) == [b"1", b"1", b"1"]
    source.command("DEL", *KEYS)


def test_a_move_can_be_given_up(cluster: ClusterGroup) -> None:
    """The source serves all keys of the slot again."""
    source = cluster.owner(SLOT)
    move = cluster.begin_move(SLOT, next(n for n in cluster.masters() if n is not source))
    assert error_of(source, "GET", KEYS[0]).startswith("ASK")
    move.cancel()
    assert source.command("GET", KEYS[0]) is None


def test_failover_with_replicas(own_cluster: Callable[..., ClusterGroup]) -> None:
    """On command and by death; the dead node comes back as a replica."""
    cluster = own_cluster(replicas=1)
    slot = key_slot("key")
    old = cluster.owner_of("key")
    (heir,) = cluster.replicas_of(old)
    replicated(old, b"key")

    cluster.failover(heir)
    assert cluster.owner(slot) is heir
    assert cluster.replicas_of(heir) == [old]
    assert heir.command("GET", "key") == b"1"

    new = cluster.failover_by_kill(heir)
    assert new is old
    assert new.command("SET", "key", 2) == b"OK"
    cluster.restart(heir)
    assert cluster.replicas_of(new) == [heir]


def test_a_dead_node_without_a_replica(own_cluster: Callable[..., ClusterGroup]) -> None:
    """Its keys are out of reach, the others' are not; it comes back empty, with its slots."""
    cluster = own_cluster()
    dead = cluster.owner(SLOT)
    dead.command("SET", KEYS[0], 1)
    cluster.kill(dead)
    survivor = cluster.masters()[0]
    assert survivor.command("SET", f"{{{cluster.tag_on(survivor)}}}", 1) == b"OK"
    with pytest.raises(ConnectionRefusedError):
        dead.command("GET", KEYS[0])
    cluster.restart(dead)
    assert dead.command("GET", KEYS[0]) is None
    assert cluster.owner(SLOT) is dead
