"""Operations that return only when replicas have them: the script and a `WAIT` in one write, on one connection.

`WAIT` speaks of what its own connection has written, and holds that connection up: so an event loop, whose lane all
tasks share, makes a connection for each of them. A replica that lags must not look like a server that is down: `WAIT` ends
well before the store's own timeout. Source: https://redis.io/docs/latest/commands/wait/.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import RedisError

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import (
    NotReplicated,
    OutcomeUnknown,
    ReplyTimeout,
    StoreError,
    StoreUnavailable,
)
from backendkit.core.operation import Copies, Operation, Reply
from backendkit.core.outcome import Error, Outcome, Value
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.deliver import Carrier, Delivery
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.shared import Shared, unsent_after
from backendkit.stores.redis.verdict import REFUSALS, Raw


class Exchange(Protocol):
    """Sends packed commands, blocking; see `RedisStore.exchange`."""

    def __call__(
        self, address: Address, payload: bytes, count: int, due_us: int, *, skip: int
    ) -> Sequence[Raw]:
        """Return what came back for each."""
        ...


class BlockingCopies:
    """Carries a delivery with its `WAIT` for a caller that blocks.

    Args:
        carrier: what carries all else.
        exchange: what sends.
        shared: the store.
        copies: what is waited for.
    """

    __slots__ = ("_carrier", "_copies", "_exchange", "_shared")

    blocks = True

    def __init__(
        self, carrier: Carrier, exchange: Exchange, shared: Shared, copies: Copies
    ) -> None:
        self._carrier = carrier
        self._exchange = exchange
        self._shared = shared
        self._copies = copies

    async def exchange(
        self,
        operation: Operation[Any],
        address: Address,
        payload: bytes,
        due_us: int,
        *,
        skip: int = 0,
    ) -> Raw:
        """Send both, and return the script's reply with the number of replicas behind it."""
        payload += _wait(self._copies, due_us - self._shared.time.mono_us())
        raws = self._exchange(address, payload, skip + 2, due_us, skip=skip + 1)
        return _joined(raws)

    async def command(self, dial: Dial, address: Address, due_us: int, *words: str) -> Any:
        """As without copies."""
        return await self._carrier.command(dial, address, due_us, *words)

    async def wait(self, us: int) -> None:
        """As without copies."""
        await self._carrier.wait(us)


class AwaitingCopies(BlockingCopies):
    """Carries a delivery with its `WAIT` for a caller that awaits, over a connection of its own."""

    __slots__ = ()

    blocks = False

    async def exchange(
        self,
        operation: Operation[Any],
        address: Address,
        payload: bytes,
        due_us: int,
        *,
        skip: int = 0,
    ) -> Raw:
        """Send both, and return the script's reply with the number of replicas behind it."""
        dial, left_us = self._shared.dial, due_us - self._shared.time.mono_us()
        payload += _wait(self._copies, left_us)
        if dial.tls is not None and not dial.tls.built:
            await asyncio.to_thread(dial.tls.context)
        connection = dial.streaming(address)
        sent = False
        try:
            async with asyncio.timeout(max(left_us, 0) / SECOND_US):
                await connection.connect()
                sent = True
                await connection.write(payload)
                raws: list[Raw] = []
                for _ in range(skip + 2):
                    try:
                        raws.append(await connection.read_response(disable_decoding=True))
                    except REFUSALS as refusal:
                        raws.append(refusal.with_traceback(None))
                return _joined(raws)
        except (RedisError, TimeoutError) as error:
            return _failure(address, error, sent=sent)
        finally:
            connection.abort()


async def run_copied(
    carrier: Carrier, shared: Shared, operation: Operation[Any], copies: Copies
) -> Any:
    """Carry out an operation with its `WAIT`; raises as `read_copied`, and as `Delivery.run`."""
    delivery = Delivery(shared, operation, None, shared.due_us(shared.time.mono_us()))
    return read_copied(operation, copies, await delivery.run(carrier, None))


def read_copied(operation: Operation[Any], copies: Copies, reply: Reply) -> Any:
    """Return what an operation's reader makes of its reply.

    Raises:
        NotReplicated: fewer replicas have it than were asked for.
    """
    count = reply[-1]
    value = operation.read(reply[:-1])
    if isinstance(count, int) and count >= copies.replicas:
        return value
    raise NotReplicated(
        f"it has run, and {count!r} of {copies.replicas} replicas had it after {copies.wait_us} us"
    )


async def copied_in_turn(
    operations: Sequence[Operation[Any]], run: Callable[[Operation[Any], Copies], Any]
) -> list[Outcome[Any]]:
    """Carry out operations one by one; after one that replicas lag behind with, the others hardly wait for them.

    Args:
        operations: with copies.
        run: carries out one; what it returns is awaited where it can be.
    """
    outcomes: list[Outcome[Any]] = []
    lags = False
    for operation in operations:
        copies = operation.copies or Copies(0, 0)
        try:
            given: Any = run(operation, copies._replace(wait_us=0) if lags else copies)
            value: Any = await given if inspect.isawaitable(given) else given
            outcomes.append(Value(value))
        except NotReplicated as error:
            lags = True
            outcomes.append(Error(error))
        except Exception as error:  # noqa: BLE001 - the operation's error is its outcome
            outcomes.append(Error(error))
            if unsent := unsent_after(outcomes[-1:], len(operations) - len(outcomes)):
                return outcomes + unsent
    return outcomes


def _wait(copies: Copies, left_us: int) -> bytes:
    milliseconds = max(
        min(copies.wait_us, left_us * 4 // 5) // 1_000, 1
    )  # zero would wait for ever
    words = (b"WAIT", b"%d" % copies.replicas, b"%d" % milliseconds)
    return b"*3\r\n" + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def _joined(raws: Sequence[Raw]) -> Raw:
    raw, count = raws[-2], raws[-1]
    if not isinstance(raw, list):
        return raw
    if isinstance(count, int):
        return [*raw, count]
    return count if isinstance(count, StoreError) else OutcomeUnknown(f"WAIT failed: {count!r}")


def _failure(address: Address, error: Exception, *, sent: bool) -> StoreError:
    what = str(error) or type(error).__name__
    if not sent:
        return StoreUnavailable(f"no connection to Redis at {address}: {what}")
    if isinstance(error, TimeoutError):
        return ReplyTimeout(f"no reply from Redis at {address} in time; it may have run")
    return OutcomeUnknown(f"the connection to Redis at {address} was lost; it may have run: {what}")
