"""Write-behind: the cache has a value at once, its source a moment later, several at a time.

Bounded, one waiting write per key (the last one counts), in batches, tried again with growing pauses; what cannot be
written in the end is handed to the application, and closing writes what still waits, for as long as it is given.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import Overloaded
from backendkit.core.fork import remake_after_fork

if TYPE_CHECKING:
    from backendkit.cache.face import Cache

Writer = Callable[[Mapping[str, Any]], object]
"""Writes values by their keys to the source, all or none; may be called again with what it has written before."""

DeadLetter = Callable[[Mapping[str, Any], Exception], object]
"""Gets what could not be written, and the last error."""


class WriteBehind:
    """Values on their way to their source.

    Args:
        cache: has each value at once.
        write: writes a batch to the source, in a thread of this object's.
        dead_letter: gets what could not be written after all attempts, and what did not fit in at the end.
        max_waiting: keys that wait at the most, 1 to 1,000,000.
        batch: values per call of `write`, 1 to 10,000.
        delay: seconds to gather a batch, 0 to 60.
        attempts: calls of `write` per batch, 1 to 20; the pauses between double from 0.1 s on, shortened by chance.

    What waits dies with the process. A context manager; `close` writes what waits.
    """

    def __init__(
        self,
        cache: Cache,
        write: Writer,
        *,
        dead_letter: DeadLetter,
        max_waiting: int = 10_000,
        batch: int = 100,
        delay: Duration = 0.1,
        attempts: int = 5,
    ) -> None:
        self._cache = cache
        self._write = write
        self._dead_letter = dead_letter
        self._most = checks.whole("max_waiting", max_waiting, least=1, most=1_000_000)
        self._batch = checks.whole("batch", batch, least=1, most=10_000)
        delay_us = checks.duration_us("delay", delay, least_us=0, most_us=60 * SECOND_US)
        self._delay = delay_us / SECOND_US
        self._attempts = checks.whole("attempts", attempts, least=1, most=20)
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Begin without what waits: the parent writes it."""
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Any] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()
        self._closed = False

    def __len__(self) -> int:
        """Return how many keys wait."""
        return len(self._waiting)

    def set(self, key: str, value: Any, **options: Any) -> None:
        """Store a value in the cache, and have it written to its source soon; `options` as for `Cache.set`.

        Raises:
            Overloaded: too many keys wait, or it was closed; nothing was stored.
            StoreError: as `Cache.set`; the value is written to its source all the same.
        """
        with self._changed:
            if self._closed or (key not in self._waiting and len(self._waiting) >= self._most):
                raise Overloaded(f"{len(self._waiting)} keys wait to be written")
            self._waiting[key] = value
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._live, name="backendkit-write-behind", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        self._cache.set(key, value, **options)

    def close(self, *, within: Duration = 10.0) -> bool:
        """Write what waits; tell whether all of it was. What was not in `within` goes to `dead_letter`."""
        left = checks.duration_us("within", within, least_us=0) / SECOND_US
        with self._changed:
            self._closed = True
            self._hurry.set()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(left)
        with self._changed:
            rest, self._waiting = dict(self._waiting), OrderedDict()
        if rest:
            self._dead_letter(rest, Overloaded("closed before it was written"))
        return not rest and (thread is None or not thread.is_alive())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _live(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
            self._hurry.wait(self._delay)
            with self._changed:
                count = min(self._batch, len(self._waiting))
                batch = dict(self._waiting.popitem(last=False) for _ in range(count))
            if batch:
                self._deliver(batch)

    def _deliver(self, batch: Mapping[str, Any]) -> None:
        chance = self._cache._core.chance  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a part of the cache
        for attempt in range(self._attempts):
            try:
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - a source may raise what it likes
                if attempt + 1 == self._attempts:
                    self._dead_letter(batch, error)
                    return
                self._hurry.wait(_FIRST_PAUSE_S * 2**attempt * (1 - chance() / 2))
            else:
                return


_FIRST_PAUSE_S = 0.1
