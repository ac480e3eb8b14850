"""An operation on its way, when time runs out under it."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ReadOnlyError

from backendkit.core.clock import ManualClock
from backendkit.core.errors import NotSent, StoreUnavailable
from backendkit.core.flow import step
from backendkit.core.operation import Change, Operation, Script
from backendkit.stores.redis.address import Address
from backendkit.stores.redis.deliver import Delivery
from backendkit.stores.redis.dial import Dial
from backendkit.stores.redis.shared import Shared
from backendkit.stores.redis.topology import Single

SCRIPT = Script("test.none", lua="return {1}", fold=lambda *_: Change((), [1]))


class Late:
    """Sleeps for longer than it was asked to, as a loaded machine does."""

    blocks = True

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    async def wait(self, us: int) -> None:
        """Oversleep."""
        self._clock.advance(us + 1_000_000)

    async def exchange(self, *args: Any, **options: Any) -> Any:
        """Find that it is over."""
        return NotSent("the deadline has passed")

    async def command(self, *args: Any) -> Any:
        """Nobody is asked."""
        raise AssertionError


def test_time_that_runs_out_between_two_attempts() -> None:
    """The server's refusal is told, not that it is late: that says what to do about it."""
    clock = ManualClock()
    address = Address("server.test", 6379)
    shared = Shared(Single(Dial(), address), None, None)
    shared.time = clock  # type: ignore[assignment]  # of real time in production
    operation = Operation(SCRIPT, (b"k",), (), lambda reply: reply)
    delivery = Delivery(shared, operation, address, clock.mono_us() + 500_000)
    with pytest.raises(StoreUnavailable, match="READONLY"):
        step(delivery.run(Late(clock), ReadOnlyError("READONLY You can't write")))
