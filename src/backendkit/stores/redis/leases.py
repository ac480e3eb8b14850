"""Connections for callers that block: a stack of idle ones, each leased to one thread at a time.

A connection that lay idle is looked at before it is used: without that, a restart of the server fails one
operation per idle connection. A connection that fails takes all idle ones of its server with it, for they are as
old as it was. Nothing is ever sent twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import (
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreError,
    StoreUnavailable,
)
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.connections import BlockingConnection
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.tally import Ledger, Tally
from backendkit.stores.redis.verdict import REFUSALS, Raw, turned_away


class Leases:
    """The blocking connections to one server. Any number of threads; one connection per thread at work."""

    __slots__ = ("_address", "_clock", "_closed", "_dial", "_idle", "_ledger")

    def __init__(self, dial: Dial, address: Address, clock: Clock, ledger: Ledger) -> None:
        self._dial = dial
        self._address = address
        self._clock = clock
        self._ledger = ledger
        self._idle: deque[_Lease] = deque()
        self._closed = False

    def begin(
        self, payload: bytes, count: int = 1, left_us: int | None = None, *, skip: int = 0
    ) -> Sent | Sequence[Raw]:
        """Send `count` packed commands in one write; what came of it if that failed.

        Args:
            payload: the commands.
            count: how many they are.
            left_us: what is left of the caller's time, where that is less than the dial's timeouts. That it runs
                out says nothing about the server: the error is no `StoreUnavailable` and no `ReplyTimeout`.
            skip: how many of them are preparation, and no operations.

        Never raises for what goes wrong on the way: that is in the list.
        """
        due_us = None if left_us is None else self._clock.mono_us() + left_us
        try:
            lease = self._take(left_us)
        except RedisError as error:
            return [self._unreached(error, hurried=due_us is not None)] * count
        lease.in_flight = operations = count - skip
        lease.tally.operations += operations
        lease.tally.batches += 1
        lease.tally.largest_batch = max(lease.tally.largest_batch, operations)
        sent = Sent(self, lease, count, *self._due(operations if count <= _FEW else count, due_us))
        try:
            lease.connection.send_packed_command((payload,), check_health=False)
        except RedisError as error:
            # The last bytes never left, so the last command cannot have run; an earlier one of several may have.
            return [self._lost(lease, error, sent=count > 1, hurried=sent.hurried)] * count
        except BaseException:  # an interrupt within the write: the connection is out of step
            self._discard(lease)
            raise
        return sent

    def receive(self, sent: Sent) -> list[Raw]:
        """Return what came back for each command, waiting for it; never raises for what goes wrong on the way."""
        try:
            return self._receive(sent)
        except BaseException:  # an interrupt between write and read: the connection is out of step
            self.abandon(sent)
            raise

    def abandon(self, sent: Sent) -> None:
        """Close the connection without receiving anything."""
        self._discard(sent.lease)

    def close(self) -> None:
        """Close all connections: the idle ones now, those at work when they are through."""
        self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Close every connection that nobody uses."""
        while True:
            try:
                lease = self._idle.pop()
            except IndexError:
                return
            self._discard(lease)

    def _receive(self, sent: Sent) -> list[Raw]:
        lease, count, due_us = sent.lease, sent.count, sent.due_us
        connection = lease.connection
        replies: list[Raw] = []
        for _ in range(count):
            try:
                if due_us is None:
                    reply = connection.read_response(
                        disable_decoding=True, disconnect_on_error=False
                    )
                else:
                    reply = connection.read_response(
                        disable_decoding=True,
                        disconnect_on_error=False,
                        timeout=max(due_us - self._clock.mono_us(), 100) / SECOND_US,
                    )
            except REFUSALS as refusal:
                reply = refusal.with_traceback(None)
            except RedisError as error:
                if isinstance(error, RedisTimeout):
                    lease.tally.timeouts += count - len(replies)
                failure = self._lost(lease, error, sent=True, hurried=sent.hurried)
                return replies + [failure] * (count - len(replies))
            replies.append(reply)
        lease.used_us = self._clock.mono_us()
        lease.in_flight = 0
        self._trim(lease.used_us)
        self._idle.append(lease)
        if self._closed:
            self.drop_idle()
        return replies

    def _trim(self, now_us: int) -> None:
        """Close the connection that lay idle longest if that is long: a peak must not stay open for ever."""
        try:
            if self._idle and now_us - self._idle[0].used_us > _LONG_IDLE_US:
                self._discard(self._idle.popleft())
        except IndexError:
            return  # other threads have taken them

    def _due(self, count: int, due_us: int | None) -> tuple[int | None, bool]:
        """Return by when replies must have come (None: the connection's own timeout), and if that is a hurry."""
        if count == 1 and due_us is None:
            return None, False
        usual_us = self._clock.mono_us() + int(self._dial.timeout * SECOND_US)
        if due_us is not None and due_us < usual_us:
            return due_us, True
        return usual_us, False  # one timeout for all replies, and not for each of them

    def _unreached(self, error: RedisError, *, hurried: bool) -> NotSent:
        if hurried and isinstance(error, RedisTimeout):
            return NotSent(f"the deadline passed before Redis at {self._address} was reached")
        self.drop_idle()
        return StoreUnavailable(f"no connection to Redis at {self._address}: {error}")

    def _lost(self, lease: _Lease, error: RedisError, *, sent: bool, hurried: bool) -> StoreError:
        self._discard(lease)
        where = f"Redis at {self._address}"
        late = isinstance(error, RedisTimeout)
        if hurried and late:
            if sent:
                return OutcomeUnknown(
                    f"the deadline passed before {where} answered; it may have run"
                )
            return NotSent(f"the deadline passed before all was sent to {where}")
        self.drop_idle()
        if turned_away(error):
            return StoreUnavailable(f"{where} turned us away: {error}")
        if not sent:
            return NotSent(f"the connection to {where} was lost while sending: {error}")
        if late:
            return ReplyTimeout(f"no reply from {where} in time; it may have run")
        return OutcomeUnknown(f"the connection to {where} was lost; it may have run: {error}")

    def _take(self, left_us: int | None) -> _Lease:
        while True:
            try:
                lease = self._idle.pop()
            except IndexError:
                return self._open(left_us)
            if self._clock.mono_us() - lease.used_us < _FRESH_US or lease.is_sound():
                return lease
            self._discard(lease)

    def _open(self, left_us: int | None) -> _Lease:
        dial = self._dial
        if left_us is not None and left_us < dial.connect_timeout * SECOND_US:
            dial = replace(dial, connect_timeout=left_us / SECOND_US)
        lease = _Lease(dial.blocking(self._address))
        try:
            lease.connection.connect()
        except BaseException:
            lease.connection.disconnect()
            raise
        lease.tally.connects += 1
        lease.tally.waits += 1
        self._ledger.open(lease)
        return lease

    def _discard(self, lease: _Lease) -> None:
        lease.connection.disconnect()
        self._ledger.close(lease)


@dataclass(slots=True, eq=False)
class Sent:
    """Commands that were sent, whose replies must be received before the connection serves anybody else.

    Attributes:
        leases: who receives.
        lease: the connection.
        count: how many replies will come.
        due_us: by when they must have come; None: the connection's own timeout.
        hurried: whether that is the caller's time, and not the server's.
    """

    leases: Leases
    lease: _Lease
    count: int
    due_us: int | None
    hurried: bool


class _Lease:
    """One connection, and when it was last used."""

    __slots__ = ("connection", "in_flight", "tally", "used_us")

    def __init__(self, connection: BlockingConnection) -> None:
        self.connection = connection
        self.tally = Tally()
        self.used_us = 0
        self.in_flight = 0

    @property
    def connected(self) -> bool:
        return self.connection.is_connected

    @property
    def waiting(self) -> int:
        return 0  # a caller that blocks sends at once

    def is_sound(self) -> bool:
        """Whether the connection is open and nothing unasked lies in it."""
        try:
            return not self.connection.can_read(0)
        except RedisError:
            return False


_LONG_IDLE_US = 60 * SECOND_US
"""After how long a connection that nobody needs is closed."""
_FEW = 2
"""Replies that come in one piece where they belong to one operation."""
_FRESH_US = 1_000
"""A connection that answered less than a millisecond ago is not looked at again: it was not idle."""
