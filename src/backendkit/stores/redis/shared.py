"""What the two faces of a Redis store have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import NotSent, StoreError, StoreUnavailable
from backendkit.core.look import LOOK
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.look import Packed, pack_look, reply_of
from backendkit.stores.redis.tally import Ledger
from backendkit.stores.redis.topology import Topology
from backendkit.stores.redis.verdict import Raw
from backendkit.stores.redis.wire import Packer


class Shared:
    """The parts of one store.

    Attributes:
        topology: where operations run.
        pack: makes bytes of an operation.
        ledger: counts.
        clock: what features take as theirs; deadlines of the context are on it.
        time: real time, which timeouts run on.
        closed: whether the store was closed.
    """

    __slots__ = ("clock", "closed", "dial", "ledger", "pack", "packer", "time", "topology")

    def __init__(
        self, topology: Topology, clock: Clock | None, now: Callable[[], int] | None
    ) -> None:
        self.topology = topology
        self.dial = topology.dial
        self.packer = Packer(now)
        self.pack = self.packer.pack
        self.clock: Clock = clock or SystemClock()
        self.time = SystemClock()
        self.ledger = Ledger()
        self.closed = False

    def packed(self, operation: Operation[Any]) -> Packed:
        """Return an operation's bytes, and how many replies they get."""
        if operation.script is LOOK:
            return pack_look(operation, slotted=self.topology.slotted)
        return Packed(self.pack(operation), 1)

    def reply_of(self, operation: Operation[Any], raws: Sequence[Raw]) -> Raw:
        """Return the one answer for what came back."""
        return raws[0] if len(raws) == 1 else reply_of(operation, raws, self.packer.now)

    def left_us(self) -> int:
        """Return how long an operation that starts now may take; zero or less where the deadline has passed."""
        timeout_us = int(self.dial.timeout * SECOND_US)
        hurry_us = self.hurry_us()
        return timeout_us if hurry_us is None else min(timeout_us, hurry_us)

    def due_us(self, begun_us: int) -> int:
        """Return by when an operation that began then, and has had its first answer now, must have ended."""
        usual_us = begun_us + int((self.dial.timeout + self.dial.connect_timeout) * SECOND_US)
        return min(self.time.mono_us() + self.left_us(), usual_us)

    def hurried(self) -> bool:
        """Return whether the context's deadline leaves less than a reply may take."""
        return self.left_us() < int(self.dial.timeout * SECOND_US)

    def hurry_us(self) -> int | None:
        """Return how long until the context's deadline, if that leaves less than an operation may take."""
        deadline_us = context.deadline_us()
        if deadline_us is None:
            return None
        left_us = deadline_us - self.clock.mono_us()
        dial = self.dial
        return left_us if left_us < (dial.timeout + dial.connect_timeout) * SECOND_US else None


class Prepared(NamedTuple):
    """Where an operation goes, its bytes, and how many replies they get."""

    address: Address | None
    payload: bytes
    replies: int

    @property
    def homeless(self) -> bool:
        """Whether it could be sent, if only it were known where to."""
        return self.address is None and bool(self.payload)


def unanswered(address: Address, error: BaseException) -> StoreUnavailable:
    """Return the error for a server that did not answer a question about the topology."""
    return StoreUnavailable(f"{address} does not answer: {str(error) or type(error).__name__}")


CHUNK = 250
"""Operations that `run_many` sends at a time: as many as a server answers well within any timeout that makes sense."""


def chunks(operations: Sequence[Operation[Any]]) -> Iterator[Sequence[Operation[Any]]]:
    """Split a batch, so that a large one does not look like an outage."""
    for begin in range(0, len(operations), CHUNK):
        yield operations[begin : begin + CHUNK]


def unsent_after(outcomes: list[Outcome[Any]], rest: int) -> list[Outcome[Any]]:
    """Return outcomes for the `rest` of a batch if all of a chunk has failed in the store, else none: it goes on."""
    for outcome in outcomes:
        if not isinstance(outcome, Error) or not isinstance(outcome.error, StoreError):
            return []
    return [Error(NotSent("what came before it in its batch has failed")) for _ in range(rest)]
