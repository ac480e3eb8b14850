"""The lane's own bookkeeping, without a server."""

import asyncio
import time

from backendkit.stores.redis import Address, Dial
from backendkit.stores.redis.lane import Lane


def cost_of_expiring(count: int) -> float:
    """Return the CPU seconds in which so many that wait to be sent run out of time, the last ones first."""

    async def main() -> float:
        lane = Lane(Dial(), Address("127.0.0.1", 1))
        for _ in range(count):
            lane.submit(b"", left_us=60_000_000)
        entries = list(lane._queue)
        started = time.process_time()
        for entry in reversed(entries):
            lane._expire(entry)
        took = time.process_time() - started
        lane.close()
        return took

    return asyncio.run(main())


def test_thousands_that_run_out_of_time_at_once_stall_no_loop() -> None:
    """What that costs grows with their number, not with its square: eight times as many, not 64 times as much."""
    few, many = (min(cost_of_expiring(count) for _ in range(3)) for count in (500, 4_000))
    assert many < 24 * few
