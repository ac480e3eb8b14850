"""The Redis store for callers that await: one lane per event loop and server."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.exceptions import RedisError

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import NotSent, StoreClosed
from backendkit.core.operation import Copies, Operation
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.copies import AwaitingCopies, copied_in_turn, run_copied
from backendkit.stores.redis.deliver import Delivery
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.lane import Lane
from backendkit.stores.redis.shared import Shared, chunks, unanswered, unsent_after
from backendkit.stores.redis.verdict import Raw

if TYPE_CHECKING:
    from backendkit.stores.redis.store import RedisStore

R = TypeVar("R")

LARGE = 64 << 10
"""Bytes; larger operations travel on a second lane, so that small ones do not queue behind them."""


class AsyncRedisStore:
    """The asynchronous face of a `RedisStore`; any number of event loops may use it at once."""

    __slots__ = ("_foreign", "_lock", "_loops", "_shared", "_store")

    def __init__(self, store: RedisStore, shared: Shared) -> None:
        self._store = store
        self._shared = shared
        self._loops: dict[int, _LoopLanes] = {}
        self._foreign: list[dict[int, _LoopLanes]] = []
        self._lock = threading.Lock()

    @property
    def sync(self) -> RedisStore:
        """The synchronous face of the same store."""
        return self._store

    def after_fork_in_child(self) -> None:
        """Begin anew, and keep the parent's lanes from being collected: closing them would break its epoll."""
        self._lock = threading.Lock()
        if self._loops:
            self._foreign.append(self._loops)
        self._loops = {}

    async def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`, suspending; see `Store.run`."""
        if operation.copies is not None:
            return await self._run_copied(operation, operation.copies)
        shared = self._shared
        begun_us = shared.time.mono_us()
        address = shared.topology.address(operation)
        raw: Raw | None = None
        if address is not None:
            payload, count = shared.packed(operation)
            hurry_us = shared.hurry_us()
            if hurry_us is not None and hurry_us <= 0:
                raise NotSent("the deadline has passed")
            lane = self.lane(address, operation, payload)
            if count == 1:
                raw = await lane.submit(payload, left_us=hurry_us)
            else:
                raws = await lane.submit_all(payload, count, left_us=hurry_us)
                raw = shared.reply_of(operation, raws)
            if type(raw) is list:
                return operation.read(raw)
        carrier = _AwaitingCarrier(self, shared)
        delivery = Delivery(shared, operation, address, shared.due_us(begun_us))
        return operation.read(await delivery.run(carrier, raw))

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations in one batch per server and chunk; see `Store.run_many`."""
        if operations and operations[0].copies is not None:
            return await copied_in_turn(operations, self._run_copied)
        outcomes: list[Outcome[Any]] = []
        for chunk in chunks(operations):
            results = await asyncio.gather(*map(self.run, chunk), return_exceptions=True)
            done: list[Outcome[Any]] = [
                Error(result) if isinstance(result, BaseException) else Value(result)
                for result in results
            ]
            outcomes += done
            if unsent := unsent_after(done, len(operations) - len(outcomes)):
                return outcomes + unsent
        return outcomes

    async def _run_copied(self, operation: Operation[R], copies: Copies) -> R:
        shared = self._shared
        if shared.closed:
            raise StoreClosed("the Redis store was closed")
        within = _AwaitingCarrier(self, shared)
        carrier = AwaitingCopies(within, self._store.exchange, shared, copies)
        return cast("R", await run_copied(carrier, shared, operation, copies))

    async def close(self) -> None:
        """Close both faces; connections of the running loop are closed when this returns."""
        self._store.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def close_lanes(self) -> None:
        """Have every loop close its own lanes."""
        for lanes in list(self._loops.values()):
            lanes.close()

    def lane(self, address: Address, operation: Operation[Any], payload: bytes) -> Lane:
        """Return the running loop's lane to a server that `operation` should take.

        Raises:
            StoreClosed: the store was closed.
        """
        if self._shared.closed:
            raise StoreClosed("the Redis store was closed")
        loop = asyncio.get_running_loop()
        lanes = self._loops.get(id(loop))
        if lanes is None or lanes.loop() is not loop:
            lanes = self._lanes_of(loop)
        apart = operation.script.slow or len(payload) > LARGE
        return lanes.by_server.get((address, apart)) or lanes.lane(address, apart=apart)

    def _lanes_of(self, loop: asyncio.AbstractEventLoop) -> _LoopLanes:
        self._forget_closed()
        with self._lock:
            lanes = self._loops[id(loop)] = _LoopLanes(loop, self._shared)
        return lanes

    def _forget_closed(self) -> None:
        for number, lanes in list(self._loops.items()):
            loop = lanes.loop()
            if loop is None or loop.is_closed():
                lanes.forget()
                with self._lock:  # another thread's new loop may have got the dead one's number
                    if self._loops.get(number) is lanes:
                        del self._loops[number]


_TURNS = 3
"""Turns of a loop until a lane is closed: its task hears of it, aborts the transport, which closes the socket."""


class _LoopLanes:
    """The lanes of one event loop, which it refers to weakly: they must not keep it alive."""

    __slots__ = ("_shared", "by_server", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, shared: Shared) -> None:
        self.loop = weakref.ref(loop)
        self._shared = shared
        self.by_server: dict[tuple[Address, bool], Lane] = {}

    def lane(self, address: Address, *, apart: bool) -> Lane:
        """Open the lane to a server, a second one for what is large or slow."""
        lane = self.by_server[address, apart] = Lane(self._shared.dial, address)
        self._shared.ledger.open(lane)
        return lane

    def close(self) -> None:
        loop = self.loop()
        if loop is None or loop.is_closed():
            self.forget()
        elif loop is _running_loop():
            self._close_here()
        else:
            try:
                loop.call_soon_threadsafe(self._close_here)
            except RuntimeError:  # it was closed this very moment
                self.forget()

    def forget(self) -> None:
        """Let go of the lanes, and keep what they have counted."""
        for lane in self.by_server.values():
            self._shared.ledger.close(lane)
        self.by_server = {}

    def _close_here(self) -> None:
        for lane in self.by_server.values():
            lane.close()
        self.forget()


class _AwaitingCarrier:
    """Carries a delivery for a caller that awaits."""

    __slots__ = ("_face", "_shared")

    blocks = False

    def __init__(self, face: AsyncRedisStore, shared: Shared) -> None:
        self._face = face
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
        left_us = due_us - self._shared.time.mono_us()
        if left_us <= 0:
            return NotSent("the deadline has passed")
        lane = self._face.lane(address, operation, payload)
        return await lane.submit(payload, skip=skip, left_us=left_us)

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        try:
            if dial.tls is not None and not dial.tls.built:
                await asyncio.to_thread(dial.tls.context)
        except OSError as error:  # a file that is not there or holds no certificate
            raise unanswered(address, error) from error
        connection = dial.streaming(address)
        try:
            async with asyncio.timeout(max(due_us - self._shared.time.mono_us(), 0) / SECOND_US):
                await connection.connect()
                await connection.send_command(*words, check_health=False)
                return await connection.read_response(disable_decoding=True)
        except (RedisError, TimeoutError) as error:
            raise unanswered(address, error) from error
        finally:
            connection.abort()

    async def wait(self, us: int) -> None:
        await self._shared.time.sleep_async(us)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
