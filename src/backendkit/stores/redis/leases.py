"""Connections for callers that block: a stack of idle ones, each leased to one thread at a time.

A connection that lay idle is looked at before it is used: without that, a restart of the server fails one
operation per idle connection. A connection that fails takes all idle ones of its server with it, for they are as
old as it was. Nothing is ever sent twice.
"""

from __future__ import annotations

from collections import deque

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from backendkit.core.clock import Clock
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
from backendkit.stores.redis.verdict import REFUSALS, Raw


class Leases:
    """The blocking connections to one server. Any number of threads; one connection per thread at work."""

    __slots__ = ("_address", "_clock", "_dial", "_idle", "_ledger")

    def __init__(self, dial: Dial, address: Address, clock: Clock, ledger: Ledger) -> None:
        self._dial = dial
        self._address = address
        self._clock = clock
        self._ledger = ledger
        self._idle: deque[_Lease] = deque()

    def exchange(self, payload: bytes, count: int = 1, timeout: float | None = None) -> list[Raw]:
        """Send `count` packed commands in one write and return what came back for each.

        Args:
            payload: the commands.
            count: how many they are.
            timeout: seconds for each wait on the socket; None takes the connection's own.

        Never raises for what goes wrong on the way: that is in the list.
        """
        try:
            lease = self._take()
        except RedisError as error:
            self.drop_idle()
            failure = StoreUnavailable(f"no connection to Redis at {self._address}: {error}")
            return [failure] * count
        lease.in_flight = count
        lease.tally.operations += count
        lease.tally.batches += 1
        lease.tally.largest_batch = max(lease.tally.largest_batch, count)
        try:
            return self._talk(lease, payload, count, timeout)
        except BaseException:  # an interrupt between write and read: the connection is out of step
            self._discard(lease)
            raise

    def drop_idle(self) -> None:
        """Close every connection that nobody uses."""
        while True:
            try:
                lease = self._idle.pop()
            except IndexError:
                return
            self._discard(lease)

    def _talk(self, lease: _Lease, payload: bytes, count: int, timeout: float | None) -> list[Raw]:
        connection = lease.connection
        try:
            connection.send_packed_command((payload,), check_health=False)
        except RedisError as error:
            # The last bytes never left, so the last command cannot have run; an earlier one of several may have.
            failure: StoreError = self._failure(error, sent=count > 1)
            return self._lost(lease, [], count, failure)
        replies: list[Raw] = []
        for _ in range(count):
            try:
                if timeout is None:
                    reply = connection.read_response(
                        disable_decoding=True, disconnect_on_error=False
                    )
                else:
                    reply = connection.read_response(
                        disable_decoding=True, disconnect_on_error=False, timeout=timeout
                    )
            except REFUSALS as refusal:
                reply = refusal.with_traceback(None)
            except RedisError as error:
                lease.tally.timeouts += isinstance(error, RedisTimeout)
                return self._lost(lease, replies, count, self._failure(error, sent=True))
            replies.append(reply)
        lease.used_us = self._clock.mono_us()
        lease.in_flight = 0
        self._idle.append(lease)
        return replies

    def _failure(self, error: RedisError, *, sent: bool) -> StoreError:
        if isinstance(error, RedisTimeout) and sent:
            return ReplyTimeout(f"no reply from Redis at {self._address} in time; it may have run")
        if sent:
            return OutcomeUnknown(
                f"the connection to Redis at {self._address} was lost; it may have run: {error}"
            )
        return NotSent(
            f"the connection to Redis at {self._address} was lost while sending: {error}"
        )

    def _lost(
        self, lease: _Lease, replies: list[Raw], count: int, failure: StoreError
    ) -> list[Raw]:
        self._discard(lease)
        self.drop_idle()
        return replies + [failure] * (count - len(replies))

    def _take(self) -> _Lease:
        while True:
            try:
                lease = self._idle.pop()
            except IndexError:
                return self._open()
            if self._clock.mono_us() - lease.used_us < _FRESH_US or lease.is_sound():
                return lease
            self._discard(lease)

    def _open(self) -> _Lease:
        lease = _Lease(self._dial.blocking(self._address))
        try:
            lease.connection.connect()
        except BaseException:
            lease.connection.disconnect()
            raise
        lease.tally.connects += 1
        self._ledger.open(lease)
        return lease

    def _discard(self, lease: _Lease) -> None:
        lease.connection.disconnect()
        self._ledger.close(lease)


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


_FRESH_US = 1_000
"""A connection that answered less than a millisecond ago is not looked at again: it was not idle."""
