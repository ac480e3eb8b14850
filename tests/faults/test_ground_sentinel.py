"""A Sentinel group fails over, on command and by death, and heals."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults.load import replicated
from tests.ground.resp import ReplyError
from tests.ground.sentinel import SentinelGroup
from tests.ground.waiting import NeverCame


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    """A group of these tests' own: each leaves it settled."""
    with SentinelGroup() as group:
        yield group


def test_shared_group(redis_sentinel: SentinelGroup, namespace: str) -> None:
    """It has a master, a replica that follows, and says where the sentinels are."""
    master, (replica,) = redis_sentinel.master(), redis_sentinel.replicas()
    replicated(master, namespace.encode())
    assert replica.command("GET", namespace) == b"1"
    with pytest.raises(ReplyError, match="READONLY"):
        replica.command("SET", namespace, 2)
    addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in redis_sentinel.sentinels)
    assert redis_sentinel.url == f"redis+sentinel://{addresses}/main"


def test_failover_on_command(group: SentinelGroup) -> None:
    """The old master lives on as a replica, and data is kept."""
    old = group.master()
    replicated(old, b"kept")
    new = group.failover()
    assert new is not old
    assert group.replicas() == [old]
    assert new.command("GET", "kept") == b"1"
    assert new.command("SET", "written", 1) == b"OK"
    with pytest.raises(ReplyError, match="READONLY"):
        old.command("SET", "written", 2)


def test_failover_by_death(group: SentinelGroup) -> None:
    """The replica takes over, the dead one comes back as a replica; again at once."""
    for _ in range(2):
        old = group.master()
        new = group.failover_by_kill()
        assert new is not old
        assert new.command("SET", "written", 1) == b"OK"
        assert group.replicas() == []
        group.restart(old)
        assert group.master() is new
        assert group.replicas() == [old]


def test_a_minority_of_sentinels_may_die(group: SentinelGroup) -> None:
    """The others still know the master; a majority's death is told."""
    first, second, _ = group.sentinels
    master = group.master()
    first.kill()
    assert group.master() is master
    second.kill()
    with pytest.raises(LookupError, match="no majority"):
        group.master()
    second.restart()
    group.restart(first)
    assert group.master() is master


def test_two_replicas(own_sentinel: Callable[..., SentinelGroup]) -> None:
    """One is promoted, the other follows it."""
    group = own_sentinel(replicas=2, name="orders")
    assert len(group.replicas()) == 2
    assert group.url.endswith("/orders")
    old = group.master()
    new = group.failover_by_kill()
    assert [replica for replica in group.replicas() if replica is old] == []
    assert len(group.replicas()) == 1
    replicated(new)


def test_a_group_that_cannot_form_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its failure shows the servers' logs."""
    monkeypatch.setattr("tests.ground.sentinel.SETTLED_WITHIN_S", 0.5)
    group = SentinelGroup(replicas=1)
    monkeypatch.setattr(group, "_settled", lambda: False)
    with pytest.raises(NeverCame, match=r"the group is settled(.|\n)*sentinel server at"):
        group.start()
    assert not any(server.alive for server in group.servers)
    assert not any(server.directory.exists() for server in group.servers)
