"""What the library counts, offered to whoever draws curves: pulled when asked for, and nothing is added to a call.

A feature offers families of samples; an exporter, such as `http.metrics`, asks for all of them at once. What happens rarely
comes as an event, and is counted by its kind.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from backendkit.core.events import Event
from backendkit.core.store import Store


class Sample(NamedTuple):
    """One number.

    Attributes:
        labels: what it is of; of few values each, never a user or a path.
        value: the number.
    """

    labels: Mapping[str, str]
    value: float


class Family(NamedTuple):
    """Numbers of one kind.

    Attributes:
        name: snake case with its unit, without the `_total` of a counter.
        kind: whether it only grows.
        help: one line.
        samples: the numbers; their labels have the same names.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Sequence[Sample]


Source: TypeAlias = Callable[[], Iterable[Family]]
"""Returns a feature's numbers as they are now; called from any thread."""


class Metrics:
    """The sources of one application. Safe to use from any thread."""

    __slots__ = ("_events", "_lock", "_sources")

    def __init__(self) -> None:
        self._sources: tuple[Source, ...] = ()
        self._events: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, source: Source) -> None:
        """Ask this source as well."""
        with self._lock:
            self._sources = (*self._sources, source)

    def count(self, event: Event) -> None:
        """Count an event by its kind: a hook."""
        with self._lock:
            self._events[type(event).__name__] += 1

    def families(self) -> list[Family]:
        """Return all numbers as they are now."""
        with self._lock:
            events = [Sample({"event": kind}, count) for kind, count in self._events.items()]
        counted = Family("backendkit_events", "counter", "Events of the library, by kind.", events)
        return [counted, *(family for source in self._sources for family in source())]


def of_stores(stores: Iterable[Store]) -> list[Family]:
    """Return the numbers of the stores that an application has opened, each added up."""
    stats = [store.stats() for store in stores]
    return [
        Family(
            f"backendkit_store_{name}",
            "gauge" if name in _LEVELS else "counter",
            text,
            [Sample({}, sum(getattr(one, name) for one in stats))],
        )
        for name, text in _STORE.items()
    ]


_STORE = {
    "operations": "Operations that the store has carried out or that failed.",
    "batches": "Writes to a connection.",
    "timeouts": "Operations that got no answer in time.",
    "resent": "Operations sent again after a refusal that proves that nothing ran.",
    "waits": "Operations that had to wait before they were sent.",
    "connects": "Connections ever made.",
    "evicted": "Entries dropped for room before they expired.",
    "in_flight": "Operations sent and not answered.",
    "connections": "Open connections.",
    "entries": "Keys that this process holds.",
    "bytes": "Their approximate size.",
}
_LEVELS = {"in_flight", "connections", "entries", "bytes"}
