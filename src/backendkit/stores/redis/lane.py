"""One connection for all tasks of one event loop.

`submit` appends and schedules a flush for this turn of the loop; one write carries all that gathered. One task
always reads, so that a lost connection is noticed while idle. One timer watches the oldest operation instead of
one per operation. At 64 callers that is a sixth of the CPU time of as many pooled connections.

- Cancelled before the flush: never sent. Cancelled after it: it runs, its reply is dropped, and the connection
  stays in step.
- An operation that gets no answer in time (the loop's own stalls do not count) fails the whole lane: what was sent is `ReplyTimeout`, what was not is
  `StoreUnavailable`, and the next operation connects anew.
- A lost connection fails what was sent as `OutcomeUnknown`; what was not goes out with the next connection.

A lane belongs to its loop's thread. Its task, timer and callbacks each run in a fresh, empty context: they would
otherwise keep the first request's, and sharing one hangs under eager tasks on Python 3.13.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections import deque
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeAlias

from redis.exceptions import RedisError

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import (
    NotSent,
    OutcomeUnknown,
    ReplyTimeout,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.connections import StreamingConnection
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.replies import Replies
from backendkit.stores.redis.tally import Tally
from backendkit.stores.redis.verdict import REFUSALS, Raw, turned_away

_TURNS = 3
"""Turns that a loop which comes to an overdue operation has for reading: it may have been stalled itself, and the
reply may lie in the socket. As long as replies are found there, it goes on reading."""


class Lane:
    """A pipelined connection to one server, for one event loop."""

    __slots__ = (
        "__weakref__",
        "_address",
        "_connection",
        "_dial",
        "_flight",
        "_hurried",
        "_queue",
        "_reader",
        "_scheduled",
        "_watch",
        "_writer",
        "tally",
    )

    def __init__(self, dial: Dial, address: Address) -> None:
        self._dial = dial
        self._address = address
        self.tally = Tally()
        self._queue: deque[_Entry] = deque()  # not yet sent
        self._flight: deque[_Entry] = deque()  # sent, in the order in which replies will come
        # Of those not yet sent, who has less time than the others: thousands may run out of it in one turn.
        self._hurried: set[_Taker] = set()
        self._connection: StreamingConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = (
            None  # finishes a write that did not drain at once
        )
        self._watch: asyncio.Handle | None = None
        self._scheduled = False

    @property
    def connected(self) -> bool:
        """Whether it has an open connection."""
        return self._connection is not None

    @property
    def in_flight(self) -> int:
        """Operations sent and not answered."""
        return sum(bool(entry[1]) for entry in list(self._flight))  # the others prepare

    @property
    def waiting(self) -> int:
        """Operations not yet sent."""
        return len(self._queue)

    def submit(
        self, payload: bytes, *, skip: int = 0, left_us: int | None = None
    ) -> asyncio.Future[Raw]:
        """Send packed commands with this turn's batch; the future gets what comes back for the last.

        Args:
            payload: one command, or several of which all but the last are preparation.
            skip: how many replies precede the one that matters.
            left_us: what is left of the caller's time, where that is less than the dial's timeout. When it has run
                out the caller is told so; the lane and its other operations go on.

        The future never gets an exception: what goes wrong is its result.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Raw] = loop.create_future()
        self._enqueue(loop, future, future, (payload, skip, left_us))
        return future

    def submit_all(
        self, payload: bytes, count: int, *, left_us: int | None = None
    ) -> asyncio.Future[list[Raw]]:
        """Send several packed commands with this turn's batch; the future gets what comes back for each.

        What goes wrong ends the list.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Raw]] = loop.create_future()
        self._enqueue(loop, Replies(future, count), future, (payload, count - 1, left_us))
        return future

    def _enqueue(
        self,
        loop: asyncio.AbstractEventLoop,
        taker: _Taker,
        future: asyncio.Future[Any],
        sent: tuple[bytes, int, int | None],
    ) -> None:
        payload, skip, left_us = sent
        entry: _Entry = (taker, payload, skip, loop.time() + self._dial.timeout)
        self._queue.append(entry)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush, context=Context())
        if left_us is not None:
            timer = loop.call_later(left_us / SECOND_US, self._expire, entry, context=Context())
            self._hurried.add(taker)

            def over(future: asyncio.Future[Any]) -> None:
                timer.cancel()
                self._hurried.discard(taker)

            future.add_done_callback(over)

    def close(self) -> None:
        """Fail what is under way and close the connection."""
        self._fail(self._queue, StoreClosed("the store was closed"))
        self._drop(OutcomeUnknown("the store was closed before an answer came; it may have run"))

    def _flush(self, *, late: bool = False) -> None:
        self._scheduled = False
        if self._watch is None and self._queue:
            self._watch_until(self._queue[0][3])
        if self._connection is None:
            self._connect()
        elif self._writer is None:  # else the writer flushes when it is through
            self._send(self._connection, late=late)

    def _send(self, connection: StreamingConnection, *, late: bool) -> None:
        chunks: list[bytes] = []
        sent = 0
        while self._queue:
            entry = self._queue.popleft()
            future, payload, skip, due = entry
            if future.done():
                continue  # cancelled before it was sent: never sent
            chunks.append(payload)
            sent += 1
            if self._hurried:
                self._hurried.discard(future)
            for _ in range(skip):
                taker = future if type(future) is Replies else _nobody()
                self._flight.append((taker, b"", 0, due))
            self._flight.append(entry)
        if not sent:
            return
        self.tally.operations += sent
        self.tally.batches += 1
        self.tally.waits += sent if late else 0
        self.tally.largest_batch = max(self.tally.largest_batch, sent)
        write = connection.write(b"".join(chunks))
        try:
            pending = write.send(None)  # drains at once unless the server is slow to read
        except StopIteration:
            return
        except RedisError as error:
            self._drop(self._lost(error))
            return
        self._writer = self._spawn(self._finish(write, pending))

    async def _finish(self, write: Coroutine[Any, Any, None], pending: object) -> None:
        try:
            await _resume(write, pending)
        except RedisError as error:
            self._writer = None
            self._drop(self._lost(error))
            return
        self._writer = None
        self._flush(late=True)

    def _connect(self) -> None:
        if self._reader is None and self._queue:
            self._reader = self._spawn(self._live())

    async def _live(self) -> None:
        """One connection's life: connect, then read replies until it breaks."""
        me = asyncio.current_task()
        connection: StreamingConnection | None = None
        try:
            await asyncio.sleep(
                0
            )  # under eager tasks this runs before `_connect` has noted which task it is
            connection = await self._dialled()
            self._connection = connection
            self._flush(late=True)
            if self._connection is connection:  # else the first write failed
                await self._read(connection)
        except asyncio.CancelledError:
            if (
                self._reader is me
            ):  # the loop is going down: `_drop` forgets a task before it cancels it
                self._fail(self._queue, StoreClosed("the event loop is closing"))
                self._drop(
                    OutcomeUnknown("the event loop closed before an answer came; it may have run")
                )
            raise
        except Exception as error:  # noqa: BLE001 - whatever ends this task must be told to those who wait for it
            if self._reader is me:
                if self._connection is None:
                    unreachable = StoreUnavailable(
                        f"no connection to Redis at {self._address}: {_what(error)}"
                    )
                    self._fail(self._queue, unreachable)
                self._drop(self._lost(error))
        finally:
            if connection is not None:
                connection.abort()

    async def _dialled(self) -> StreamingConnection:
        tls = self._dial.tls
        if tls is not None and not tls.built:
            await asyncio.to_thread(tls.context)
        connection = self._dial.streaming(self._address)
        try:
            async with asyncio.timeout(self._dial.connect_timeout):
                await connection.connect()
        except BaseException:
            connection.abort()
            raise
        self.tally.connects += 1
        return connection

    async def _read(self, connection: StreamingConnection) -> None:
        flight = self._flight
        while True:
            raw: Raw
            try:
                raw = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except REFUSALS as refusal:
                raw = refusal.with_traceback(None)
            if not flight:
                raise RedisError("a reply that nobody asked for")
            future = flight.popleft()[0]
            if not future.done():
                future.set_result(raw)

    def _drop(self, failure: StoreError) -> None:
        """Let go of the connection: what was sent has failed, what was not goes out with the next."""
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        flight, self._flight = self._flight, deque()
        self._fail(flight, failure)
        for task in (reader, writer):
            if task is not None and task is not _current_task():
                task.cancel()
        if self._queue and connection is not None:
            self._connect()
        if self._watch is not None and not self._queue:
            self._watch.cancel()
            self._watch = None

    def _watch_until(self, due: float) -> None:
        self._watch = asyncio.get_running_loop().call_at(due, self._check, context=Context())

    def _check(self, overdue: _Entry | None = None, turns: int = _TURNS) -> None:
        self._watch = None
        oldest = self._flight[0] if self._flight else self._queue[0] if self._queue else None
        if oldest is None:
            return
        loop, due = asyncio.get_running_loop(), oldest[3]
        if loop.time() < due:
            self._watch_until(due)
            return
        if oldest is not overdue:
            turns = _TURNS
        if turns:
            self._watch = loop.call_soon(self._check, oldest, turns - 1, context=Context())
            return
        self.tally.timeouts += _open(self._flight) + _open(self._queue)
        self._fail(
            self._queue, StoreUnavailable(f"no connection to Redis at {self._address} in time")
        )
        self._drop(ReplyTimeout(f"no reply from Redis at {self._address} in time; it may have run"))

    def _expire(self, entry: _Entry) -> None:
        """Tell a caller that its own time is over. Its reply is dropped when it comes, as if it were cancelled."""
        if entry[0].done():
            return
        self.tally.timeouts += 1
        where = f"Redis at {self._address}"
        if entry[0] in self._hurried:
            late: StoreError = NotSent(f"the deadline passed before it was sent to {where}")
        else:
            late = OutcomeUnknown(f"the deadline passed before {where} answered; it may have run")
        entry[0].set_result(late)

    def _lost(self, error: Exception) -> StoreError:
        if turned_away(error):
            return StoreUnavailable(f"Redis at {self._address} turned us away: {error}")
        return OutcomeUnknown(
            f"the connection to Redis at {self._address} was lost; it may have run: {_what(error)}"
        )

    @staticmethod
    def _fail(entries: deque[_Entry], failure: StoreError) -> None:
        while entries:
            future = entries.popleft()[0]
            if not future.done():
                future.set_result(failure)

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work, context=Context())


_Taker: TypeAlias = "asyncio.Future[Raw] | Replies"
"""Where an answer goes."""

_Entry: TypeAlias = tuple[_Taker, bytes, int, float]
"""One submission: where its answer goes, what it sends, how many replies come before the one that matters, and when
it must be answered by the loop's clock. A plain tuple, for a named one takes four times as long to make."""


@types.coroutine
def _resume(work: Coroutine[Any, Any, None], pending: object) -> Generator[object, None, None]:
    """Go on with a coroutine that was begun outside a task and has yielded `pending`."""
    try:
        while True:
            yield pending
            try:
                pending = work.send(None)
            except StopIteration:
                return
    finally:
        work.close()


def _open(entries: deque[_Entry]) -> int:
    """Return how many of these somebody still waits for."""
    return sum(not entry[0].done() for entry in entries)


def _nobody() -> asyncio.Future[Raw]:
    """Return a future that is done: where the reply of a preparing command goes."""
    future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _what(error: BaseException) -> str:
    return str(error) or type(error).__name__
