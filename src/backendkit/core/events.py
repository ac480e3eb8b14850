"""What happened, told to whoever asked. Features emit events; they do not log.

An event is a frozen record. A hook is any callable that takes one; it runs in the emitting thread, after all
locks are released, and should return quickly. A hook that raises is contained and reported once, by a warning of
the logger `backendkit.events`: the work that emitted never fails for it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from backendkit.core.fork import hold_during_fork


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all event records."""


Hook: TypeAlias = Callable[[Event], object]
"""Receives events; what it returns is ignored."""


class Hooks:
    """The hooks of one emitter, or several that share them. Safe to use from any thread."""

    __slots__ = ("__weakref__", "_hooks", "fork_lock")

    def __init__(self) -> None:
        self._hooks: tuple[_Entry, ...] = ()
        self.fork_lock = threading.Lock()
        hold_during_fork(self)

    def __bool__(self) -> bool:
        """Whether anybody listens: lets a hot path skip building the record."""
        return bool(self._hooks)

    def add(self, hook: Hook, *kinds: type[Event]) -> Callable[[], None]:
        """Call `hook` with every event, or only with those of `kinds`; return a function that ends it."""
        entry = _Entry(hook, kinds or (Event,))
        with self.fork_lock:
            self._hooks = (*self._hooks, entry)

        def remove() -> None:
            with self.fork_lock:
                self._hooks = tuple(e for e in self._hooks if e is not entry)

        return remove

    def emit(self, event: Event) -> None:
        """Tell every hook that asked for this kind, in the order they were added. Never raises an `Exception`."""
        for entry in self._hooks:
            if isinstance(event, entry.kinds):
                try:
                    entry.hook(event)
                except Exception:  # noqa: BLE001 - a hook never fails the work that emitted
                    self._report(entry, event)

    def _report(self, entry: _Entry, event: Event) -> None:
        with self.fork_lock:
            reported, entry.reported = entry.reported, True
        if not reported:
            logging.getLogger("backendkit.events").warning(
                "an event hook raised on %s; further errors of it are not reported",
                type(event).__name__,
                exc_info=sys.exc_info(),
            )


class _Entry:
    """A hook, and whether it has raised; hooks themselves need not be hashable."""

    __slots__ = ("hook", "kinds", "reported")

    def __init__(self, hook: Hook, kinds: tuple[type[Event], ...]) -> None:
        self.hook = hook
        self.kinds = kinds
        self.reported = False
