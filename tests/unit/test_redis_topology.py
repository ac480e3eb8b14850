"""What a topology makes of answers that servers give rarely, of an asker that is gone, and of one in a hurry."""

import asyncio
from typing import Any

import pytest

from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import NotSent, StoreUnavailable
from backendkit.core.operation import Change, Operation, Script
from backendkit.stores.redis import Address, Cluster, Dial

FIRST, SECOND, OWNER = Address("first", 1), Address("second", 2), Address("owner", 3)
MAP = [[0, 16383, [b"owner", 3, b"id"]]]
LOOK = Script("look", lua="return {1}", fold=lambda *_: Change((), [1]))
OPERATION = Operation(LOOK, (b"k",), (), len)


LATE = object()


class Answers:
    """A wire on which each server has its answer; None: it never comes; `LATE`: not in time."""

    blocks = False

    def __init__(self, clock: ManualClock, **answers: Any) -> None:
        self.clock = clock
        self.answers = answers
        self.asked: list[str] = []

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        """Answer."""
        self.asked.append(address.host)
        answer = self.answers[address.host]
        if answer is LATE:
            await self.clock.sleep_async(due_us - self.clock.mono_us())
            raise StoreUnavailable(f"{address} is late")
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


def test_who_is_late_is_asked_after_who_has_answered(cluster: Cluster, clock: ManualClock) -> None:
    """A node that hangs costs half of the time, once: not all who wait again at each change."""
    wire = Answers(clock, first=LATE, second=MAP)
    asyncio.run(cluster.learn(wire, 0, SECOND_US))
    assert (wire.asked, clock.mono_us()) == (["first", "second"], SECOND_US // 2)
    cluster.suspect()
    asyncio.run(cluster.learn(wire, 1, SECOND_US))
    assert wire.asked == ["first", "second", "second"]
    cluster.suspect(SECOND)
    asyncio.run(cluster.learn(Answers(clock, first=MAP, second=None, owner=None), 2, SECOND_US))


def test_an_asker_in_a_hurry_proves_nothing(cluster: Cluster, clock: ManualClock) -> None:
    """That nobody answers within what a caller has left is no outage."""
    wire = Answers(clock, first=LATE, second=LATE)
    with pytest.raises(NotSent, match="the deadline passed") as caught:
        asyncio.run(cluster.learn(wire, 0, 20_000, hurried=True))
    assert not isinstance(caught.value, StoreUnavailable)
    with pytest.raises(StoreUnavailable, match="first:1 is late; second:2 is late"):
        asyncio.run(cluster.learn(wire, 0, 270_000))


def test_nobody_answers_long_before_a_hurry_is_over(cluster: Cluster, clock: ManualClock) -> None:
    """That is an outage, whoever asks."""
    wire = Answers(clock, first=[], second=[])
    with pytest.raises(StoreUnavailable, match="knows of no slots"):
        asyncio.run(cluster.learn(wire, 0, 20_000, hurried=True))


def test_who_waits_for_an_asker_in_a_hurry_asks_in_its_place(
    cluster: Cluster, clock: ManualClock
) -> None:
    """Its own time is not over; and one in a hurry that waits is only late."""

    class Slow(Answers):
        async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
            while clock.mono_us() < min(due_us, 60_000):
                await clock.sleep_async(1_000)
            if clock.mono_us() >= due_us:
                raise StoreUnavailable(f"{address} is late")
            return await super().command(dial, address, due_us, *words)

    async def both() -> tuple[Any, ...]:
        wire = Slow(clock, first=MAP, second=MAP)
        return await asyncio.gather(
            cluster.learn(wire, 0, 40_000, hurried=True),
            cluster.learn(wire, 0, 20_000, hurried=True),
            cluster.learn(wire, 0, 250_000),
            return_exceptions=True,
        )

    first, second, third = asyncio.run(both())
    assert [type(error) for error in (first, second)] == [NotSent, NotSent]
    assert third is None
    assert cluster.address(OPERATION) == OWNER
