"""What comes back for several commands of one caller, gathered."""

from __future__ import annotations

import asyncio

from backendkit.core.errors import StoreError
from backendkit.stores.redis.verdict import Raw


class Replies:
    """Gathers what comes back for several commands; to the lane it looks like one future for each of them."""

    __slots__ = ("_count", "_future", "_raws")

    def __init__(self, future: asyncio.Future[list[Raw]], count: int) -> None:
        self._future = future
        self._count = count
        self._raws: list[Raw] = []

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self._future.done()

    def set_result(self, raw: Raw) -> None:
        """Take the next reply; the last, or the first that is a failure of the store, ends it."""
        self._raws.append(raw)
        if len(self._raws) == self._count or isinstance(raw, StoreError):
            self._future.set_result(self._raws)
