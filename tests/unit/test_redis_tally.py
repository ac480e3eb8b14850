"""Counting over connections that come and go."""

from backendkit.core.store import StoreStats
from backendkit.stores.redis.tally import Ledger, Tally
from tests.ground.loops import in_threads


class Line:
    """A connection that counts."""

    def __init__(self, *, connected: bool = True, in_flight: int = 0, waiting: int = 0) -> None:
        self.tally = Tally()
        self.connected = connected
        self.in_flight = in_flight
        self.waiting = waiting


def counted(**counts: int) -> Tally:
    """Return a tally with these counts."""
    tally = Tally()
    for name, number in counts.items():
        setattr(tally, name, number)
    return tally


def test_counts_add_up_and_the_largest_stays_the_largest() -> None:
    """A batch is not made larger by another."""
    total = counted(
        operations=1, batches=2, largest_batch=9, connects=3, timeouts=4, resent=5, waits=6
    )
    total.add(
        counted(
            operations=10,
            batches=20,
            largest_batch=7,
            connects=30,
            timeouts=40,
            resent=50,
            waits=60,
        )
    )
    assert [getattr(total, name) for name in Tally.__slots__] == [22, 33, 9, 11, 55, 44, 66]


def test_an_empty_ledger_has_done_nothing() -> None:
    """All zeros."""
    assert Ledger().stats() == StoreStats()


def test_a_snapshot_adds_the_living_and_the_dead() -> None:
    """What a connection has done stays done when it is gone; what it is doing is not."""
    ledger = Ledger()
    one = Line(in_flight=2, waiting=1)
    two = Line(connected=False, waiting=4)
    one.tally.add(counted(operations=5, batches=2, largest_batch=3, connects=1, timeouts=1))
    two.tally.add(counted(operations=7, batches=7, largest_batch=1, connects=2))
    for line in (one, two, two):
        ledger.open(line)
    ledger.resent()
    both = StoreStats(
        in_flight=2, waiting=5, operations=12, batches=9, largest_batch=3, connections=1, connects=3, timeouts=1, resent=1
    )  # fmt: skip
    assert ledger.stats() == both
    ledger.close(one)
    ledger.close(one)
    assert ledger.stats() == StoreStats(
        in_flight=0, waiting=4, operations=12, batches=9, largest_batch=3, connections=0, connects=3, timeouts=1, resent=1
    )  # fmt: skip
    ledger.close(two)
    assert (ledger.stats().operations, ledger.stats().waiting) == (12, 0)


def test_connections_come_and_go_from_many_threads() -> None:
    """No count is lost."""
    ledger = Ledger()

    def work(_: int) -> None:
        for _ in range(300):
            line = Line()
            ledger.open(line)
            line.tally.operations += 1
            ledger.resent()
            ledger.stats()
            ledger.close(line)

    in_threads(8, work)
    assert (ledger.stats().operations, ledger.stats().resent) == (2_400, 2_400)
