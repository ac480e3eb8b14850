"""Events as a test wants them: kept in order, and asked about."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from backendkit.core.events import Event, Hooks

K = TypeVar("K", bound=Event)


class RecordedEvents:
    """A hook that keeps what it is told; safe to use from any thread.

    Args:
        hooks: whose events to keep, like `kit.hooks`; None: see `watch`.
        kinds: classes of events; none: all.
    """

    __slots__ = ("_events", "_lock", "_stops")

    def __init__(self, hooks: Hooks | None = None, *kinds: type[Event]) -> None:
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []
        if hooks is not None:
            self.watch(hooks, *kinds)

    def __call__(self, event: Event) -> None:
        """Keep an event: what the hooks call."""
        with self._lock:
            self._events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(tuple(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f"RecordedEvents({self._events!r})"

    def watch(self, hooks: Hooks, *kinds: type[Event]) -> None:
        """Keep the events of `hooks` as well, all or those of `kinds`."""
        self._stops.append(hooks.add(self, *kinds))

    def stop(self) -> None:
        """Keep no more; what was kept stays."""
        while self._stops:
            self._stops.pop()()

    def clear(self) -> None:
        """Forget what was kept."""
        with self._lock:
            self._events.clear()

    def of(self, kind: type[K], **fields: Any) -> list[K]:
        """Return the events of a class, or below it, whose fields have these values."""
        return [e for e in self if isinstance(e, kind) and _has(e, fields)]

    def one(self, kind: type[K], **fields: Any) -> K:
        """Return the only event of a class with these values.

        Raises:
            AssertionError: there is none, or there are several; the message lists all that were kept.
        """
        found = self.of(kind, **fields)
        if len(found) != 1:
            raise AssertionError(
                f"expected one {_said(kind, fields)}, found {len(found)} in:{self._listed()}"
            )
        return found[0]

    def none(self, kind: type[Event] = Event, **fields: Any) -> None:
        """Assert that there is no event of a class with these values; without arguments: none at all.

        Raises:
            AssertionError: there is one; the message lists all that were kept.
        """
        if self.of(kind, **fields):
            raise AssertionError(f"expected no {_said(kind, fields)}, in:{self._listed()}")

    def kinds(self) -> list[type[Event]]:
        """Return the class of each event, in order."""
        return [type(event) for event in self]

    def _listed(self) -> str:
        return "".join(f"\n  {event!r}" for event in self) or " nothing"


_MISSING = object()


def _has(event: Event, fields: dict[str, Any]) -> bool:
    return all(getattr(event, name, _MISSING) == value for name, value in fields.items())


def _said(kind: type[Event], fields: dict[str, Any]) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    return f"{kind.__name__}({values})"
