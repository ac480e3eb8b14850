"""The Redis store for callers that block: one hot path, and one flow for everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import (
    InvalidArgument,
    NotSent,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from backendkit.core.flow import step
from backendkit.core.fork import remake_after_fork
from backendkit.core.operation import Copies, Operation, Reply, Script
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.core.store import Broadcasts, Companion, StoreStats
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.aio import AsyncRedisStore
from backendkit.stores.redis.copies import BlockingCopies, copied_in_turn, run_copied
from backendkit.stores.redis.deliver import Delivery
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.leases import Leases, Sent
from backendkit.stores.redis.listen import Line
from backendkit.stores.redis.look import together
from backendkit.stores.redis.shared import Prepared, Shared, chunks, unanswered, unsent_after
from backendkit.stores.redis.tally import Ledger
from backendkit.stores.redis.topology import Topology
from backendkit.stores.redis.verdict import Raw, Verdict, judge

R = TypeVar("R")
C = TypeVar("C", bound=Companion)


class RedisStore:
    """State in Redis, shared by every process that reaches it.

    Args:
        topology: where the servers are and how to reach them; `connect` builds one from a URL.
        clock: what features that share this store take as theirs. The store's own timeouts run on real time.
        now: for tests only: what scripts see as now, in microseconds, instead of the server's clock.

    An operation is one round trip. It ends within the dial's `timeout`, plus `connect_timeout` for a connection, or at the deadline.
    """

    __slots__ = ("__weakref__", "_aio", "_companions", "_leases", "_lock", "_shared")

    def __init__(
        self,
        topology: Topology,
        *,
        clock: Clock | None = None,
        now: Callable[[], int] | None = None,
    ) -> None:
        self._shared = Shared(topology, clock, now)
        self._aio = AsyncRedisStore(self, self._shared)
        self._companions: dict[Callable[[Broadcasts], Any], Companion] = {}
        self.after_fork_in_child()
        remake_after_fork(self)

    @property
    def clock(self) -> Clock:
        """The clock that features which share this store take as theirs."""
        return self._shared.clock

    @property
    def aio(self) -> AsyncRedisStore:
        """The asynchronous face of the same store."""
        return self._aio

    def after_fork_in_child(self) -> None:
        """Begin anew: connections and locks of the parent are the parent's."""
        self._lock = threading.Lock()
        self._leases: dict[Address, Leases] = {}
        self._shared.ledger = Ledger()
        self._shared.topology.after_fork_in_child()
        self._aio.after_fork_in_child()

    def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`, blocking; see `Store.run`."""
        if operation.copies is not None:
            return self._run_copied(operation, operation.copies)
        shared = self._shared
        begun_us = shared.time.mono_us()
        address = shared.topology.address(operation)
        raw: Raw | None = None
        if address is not None:
            payload, count = shared.packed(operation)
            raws = self.exchange(address, payload, count, skip=count - 1)
            raw = raws[0] if count == 1 else shared.reply_of(operation, raws)
            if type(raw) is list:
                return operation.read(raw)
        return operation.read(self._deliver(operation, address, raw, shared.due_us(begun_us)))

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations, one write and one wait per server and chunk; see `Store.run_many`."""
        if operations and operations[0].copies is not None:
            return step(copied_in_turn(operations, self._run_copied))
        outcomes: list[Outcome[Any]] = []
        for chunk in chunks(operations):
            done = self._run_chunk(chunk)
            outcomes += done
            if unsent := unsent_after(done, len(operations) - len(outcomes)):
                return outcomes + unsent
        return outcomes

    def _run_copied(self, operation: Operation[R], copies: Copies) -> R:
        shared = self._shared
        carrier = BlockingCopies(_BlockingCarrier(self, shared), self.exchange, shared, copies)
        return cast("R", step(run_copied(carrier, shared, operation, copies)))

    def _run_chunk(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        shared = self._shared
        begun_us = shared.time.mono_us()
        prepared = [self._prepared(operation) for operation in operations]
        lost: StoreError | None = None
        if asked := any(each.homeless for each in prepared):
            lost = self._lost()
            prepared = [self._prepared(operation) for operation in operations]
        first_due_us = shared.due_us(begun_us) if asked else None
        raws = self._answers(operations, dict(enumerate(prepared)), first_due_us)
        unknown = [
            place
            for place, raw in raws.items()
            if type(raw) is not list and judge(raw) is Verdict.EVALUATE
        ]
        if len(unknown) > 1:  # a single one goes again by itself
            again = self._with_texts(
                {place: (prepared[place].address, operations[place]) for place in unknown}
            )
            raws |= self._answers(operations, again, shared.due_us(begun_us))
        # One time for all that goes on from here: a server that is loading must not cost each of them a timeout.
        due_us = shared.time.mono_us() + shared.left_us()
        return [
            Error(copy(lost))
            if lost is not None and prepared[place].homeless
            else self._finished(operation, prepared[place].address, raws.get(place), due_us)
            for place, operation in enumerate(operations)
        ]

    def _answers(
        self,
        operations: Sequence[Operation[Any]],
        share: Mapping[int, Prepared],
        due_us: int | None,
    ) -> dict[int, Raw]:
        answer = self._shared.reply_of
        found = self._exchange_all(share, due_us)
        return {place: answer(operations[place], raws) for place, raws in found.items()}

    def _exchange_all(
        self, share: Mapping[int, Prepared], due_us: int | None
    ) -> dict[int, Sequence[Raw]]:
        """Send every server its share of a batch, then receive from each: one wait for all of them."""
        places: dict[Address, list[int]] = {}
        for place, prepared in share.items():
            if prepared.address is not None:
                places.setdefault(prepared.address, []).append(place)
        sent: dict[Address, Sent | Sequence[Raw]] = {}
        raws: dict[int, Sequence[Raw]] = {}
        try:
            for address, members in places.items():
                payload = b"".join([share[place].payload for place in members])
                count = sum(share[place].replies for place in members)
                skip = count - len(members)
                sent[address] = self._begin(address, payload, count, due_us, skip=skip)
            for address, members in places.items():
                begun = sent.pop(address)
                answers = begun.leases.receive(begun) if isinstance(begun, Sent) else begun
                at = 0
                for place in members:
                    end = at + share[place].replies
                    raws[place] = answers[at:end]
                    at = end
        finally:
            for begun in sent.values():  # after an interrupt
                if isinstance(begun, Sent):
                    begun.leases.abandon(begun)
        return raws

    def _with_texts(
        self, unknown: Mapping[int, tuple[Address | None, Operation[Any]]]
    ) -> dict[int, Prepared]:
        """Pack again what servers did not know the scripts of: each server is told each text once."""
        packer = self._shared.packer
        told: set[tuple[Address | None, Script]] = set()
        packed: dict[int, Prepared] = {}
        for place, (address, operation) in unknown.items():
            known = (address, operation.script) in told
            told.add((address, operation.script))
            text = packer.pack(operation) if known else packer.pack_eval(operation)
            packed[place] = Prepared(address, text, 1)
            self._shared.ledger.resent()
        return packed

    def route(self, operation: Operation[Any]) -> str:
        """Return the name of what would run `operation`: an address, or the service that Sentinels watch."""
        return self._shared.topology.route(operation)

    def together(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return the places of keys in groups that one server has, see `core.look.Gathering`."""
        return together(self._shared.topology, keys)

    def primaries(self) -> list[str]:
        """Return the servers to listen to, see `core.store.Broadcasts`; blocks where they must be asked for."""
        return [str(address) for address in self._primaries()]

    def listen(self, server: str) -> Line:
        """Return a connection that listens to one of the `primaries`; see `core.store.Broadcasts`."""
        if self._shared.closed:
            raise StoreClosed("the Redis store was closed")
        for address in self._primaries():
            if str(address) == server:
                return Line(self._shared.dial, address)
        raise StoreUnavailable(f"{server} runs no operations any more")

    def suspect(self, server: str) -> None:
        """Have the servers be asked for before the next operation, see `core.store.Broadcasts`."""
        topology = self._shared.topology
        for address in topology.primaries() or ():
            if str(address) == server:
                topology.suspect(address)

    def companion(self, make: Callable[[Broadcasts], C]) -> C:
        """Return the one thing of its kind that lives beside this store; see `core.store.Broadcasts`."""
        made = self._companions.get(make) or self._companions.setdefault(make, make(self))
        return cast("C", made)

    def _primaries(self) -> list[Address]:
        topology = self._shared.topology
        found = topology.primaries()
        if found is None:
            self._learn()
            found = topology.primaries()
        return found or []

    def _learn(self) -> None:
        shared, topology = self._shared, self._shared.topology
        due_us = shared.time.mono_us() + shared.left_us()
        seen, hurried = topology.generation, shared.hurried()
        step(topology.learn(_BlockingCarrier(self, shared), seen, due_us, hurried=hurried))

    def _lost(self) -> StoreError | None:
        """Ask once where a batch belongs, for else each of its operations would ask and go by itself."""
        try:
            self._learn()
        except StoreError as error:
            return error
        return None

    def stats(self) -> StoreStats:
        """Return counts over all connections of this process, both faces."""
        return self._shared.ledger.stats()

    def close(self) -> None:
        """Close all connections. Those of event loops are closed by their loops, as soon as these get to it."""
        with self._lock:
            self._shared.closed = True
            for leases in self._leases.values():
                leases.close()
        self._aio.close_lanes()
        for companion in list(self._companions.values()):
            companion.store_closed()

    def reopen(self) -> None:
        """Undo `close`; connections are made anew."""
        with self._lock:
            if self._shared.closed:
                self._leases = {}
                self._shared.closed = False

    def exchange(
        self,
        address: Address,
        payload: bytes,
        count: int,
        due_us: int | None = None,
        *,
        skip: int = 0,
    ) -> Sequence[Raw]:
        """Send `count` packed commands to a server and return what came back for each; never raises for that.

        Args:
            address: the server.
            payload: the commands.
            count: how many they are.
            due_us: by when, on the real monotonic clock; None leaves it to the dial and the context's deadline.
            skip: how many of them are preparation, and no operations.
        """
        sent = self._begin(address, payload, count, due_us, skip=skip)
        return sent.leases.receive(sent) if isinstance(sent, Sent) else sent

    def _begin(
        self,
        address: Address,
        payload: bytes,
        count: int,
        due_us: int | None = None,
        *,
        skip: int = 0,
    ) -> Sent | Sequence[Raw]:
        shared = self._shared
        if shared.closed:
            return [StoreClosed("the Redis store was closed")] * count
        leases = self._leases.get(address) or self._leases_of(address)
        if due_us is not None:
            left_us: int | None = due_us - shared.time.mono_us()
        elif context.deadline_us() is None:
            return leases.begin(payload, count, skip=skip)
        else:
            left_us = shared.hurry_us()
        if left_us is not None and left_us <= 0:
            return [NotSent("the deadline has passed")] * count
        return leases.begin(payload, count, left_us, skip=skip)

    def _prepared(self, operation: Operation[Any]) -> Prepared:
        """Return where `operation` runs, and its bytes; no address also where it cannot be sent: its delivery tells."""
        try:
            address = self._shared.topology.address(operation)
            return Prepared(address, *self._shared.packed(operation))
        except InvalidArgument:
            return Prepared(None, b"", 0)

    def _leases_of(self, address: Address) -> Leases:
        shared = self._shared
        with self._lock:
            leases = self._leases.setdefault(
                address, Leases(shared.dial, address, shared.time, shared.ledger)
            )
            if shared.closed:
                leases.close()
            return leases

    def _deliver(
        self,
        operation: Operation[Any],
        address: Address | None,
        raw: Raw | None,
        due_us: int,
    ) -> Reply:
        delivery = Delivery(self._shared, operation, address, due_us)
        return step(delivery.run(_BlockingCarrier(self, self._shared), raw))

    def _finished(
        self, operation: Operation[R], address: Address | None, raw: Raw | None, due_us: int
    ) -> Outcome[R]:
        try:
            reply = raw if type(raw) is list else self._deliver(operation, address, raw, due_us)
            return Value(operation.read(reply))
        except Exception as error:  # noqa: BLE001 - the operation's error is its outcome
            return Error(error)


class _BlockingCarrier:
    """Carries a delivery for a caller that blocks: its verbs never suspend."""

    __slots__ = ("_shared", "_store")

    blocks = True

    def __init__(self, store: RedisStore, shared: Shared) -> None:
        self._store = store
        self._shared = shared

    async def exchange(
        self,
        operation: Operation[Any],
        address: Address,
        payload: bytes,
        due_us: int,
        *,
        skip: int = 0,
    ) -> Raw:
        return self._store.exchange(address, payload, skip + 1, due_us, skip=skip)[-1]

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        left = max(due_us - self._shared.time.mono_us(), 1) / SECOND_US
        connection = replace(
            dial, timeout=min(left, dial.timeout), connect_timeout=min(left, dial.connect_timeout)
        ).blocking(address)
        try:
            connection.connect()
            connection.send_command(*words, check_health=False)
            return connection.read_response(disable_decoding=True)
        except RedisError as error:
            raise unanswered(address, error) from error
        finally:
            connection.disconnect()

    async def wait(self, us: int) -> None:
        self._shared.time.sleep(us)
