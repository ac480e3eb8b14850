"""What a topology makes of answers that servers give rarely, and of an asker that is gone."""

import asyncio
from typing import Any

import pytest

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import StoreUnavailable
from backendkit.core.operation import Change, Operation, Script
from backendkit.stores.redis import Address, Cluster, Dial

FIRST, SECOND, OWNER = Address("first", 1), Address("second", 2), Address("owner", 3)
MAP = [[0, 16383, [b"owner", 3, b"id"]]]
LOOK = Script("look", lua="return {1}", fold=lambda *_: Change((), [1]))
OPERATION = Operation(LOOK, (b"k",), (), len)


class Answers:
    """A wire on which each server has its answer; None: it never comes."""

    blocks = False

    def __init__(self, clock: ManualClock, **answers: Any) -> None:
        self.clock = clock
        self.answers = answers
        self.asked: list[str] = []

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        """Answer."""
        self.asked.append(address.host)
        answer = self.answers[address.host]
        return await asyncio.Event().wait() if answer is None else answer

    async def wait(self, us: int) -> None:
        """Let time pass on the clock, and others run."""
        await self.clock.sleep_async(us)


@pytest.fixture
def clock() -> ManualClock:
    """Return the time of the topology under test."""
    return ManualClock()


@pytest.fixture
def cluster(clock: ManualClock) -> Cluster:
    """Return a Cluster of two nodes that nothing is known of."""
    cluster = Cluster(Dial(), [FIRST, SECOND])
    cluster._time = clock  # type: ignore[assignment] # it takes the system's, for servers fail in real time
    return cluster


def test_a_node_that_has_left_the_cluster_is_passed_over(
    cluster: Cluster, clock: ManualClock
) -> None:
    """It answers, and knows of no slots; the next one does."""
    wire = Answers(clock, first=[], second=MAP)
    asyncio.run(cluster.learn(wire, cluster.generation, SECOND_US))
    assert wire.asked == ["first", "second"]
    assert cluster.address(OPERATION) == OWNER


def test_a_cluster_without_slots(cluster: Cluster, clock: ManualClock) -> None:
    """Says so of every node, and what was known stays known."""
    asyncio.run(cluster.learn(Answers(clock, first=MAP), 0, SECOND_US))
    wire = Answers(clock, first=[], second=[], owner=[])
    with pytest.raises(StoreUnavailable, match="first:1 knows of no slots; second:2 knows"):
        asyncio.run(cluster.learn(wire, 1, SECOND_US))
    assert cluster.address(OPERATION) == OWNER


def test_an_asker_whose_loop_was_closed_under_it(cluster: Cluster, clock: ManualClock) -> None:
    """Never lets go: a second after its time whoever waits asks in its place."""
    gone = asyncio.new_event_loop()
    asker = gone.create_task(cluster.learn(Answers(clock, first=None), 0, SECOND_US // 4))
    gone.run_until_complete(asyncio.sleep(0))
    gone.close()
    wire = Answers(clock, first=MAP)
    with pytest.raises(StoreUnavailable, match="nobody has found out in time"):
        asyncio.run(cluster.learn(wire, 0, SECOND_US // 2))
    assert wire.asked == []
    asyncio.run(cluster.learn(wire, 0, 2 * SECOND_US))
    assert clock.mono_us() >= SECOND_US
    assert cluster.address(OPERATION) == OWNER
    asker._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio's own, for this
    asker.get_coro().close()
