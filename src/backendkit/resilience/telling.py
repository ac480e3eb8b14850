"""Telling what happened, in order, outside of all locks: to pybreaker's listeners and to hooks.

Moves and failures go through one queue. Whichever thread finds it untended empties it; what a listener changes
meanwhile is appended and told after it. A listener that raises is contained and reported once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from backendkit.core.events import Event, Hooks
from backendkit.core.fork import remake_after_fork
from backendkit.resilience.events import (
    CircuitKeptClosed,
    CircuitObserved,
    CircuitStrained,
    CircuitTransition,
)
from backendkit.resilience.machine import Moved


class Listener(Protocol):
    """What pybreaker tells a listener; pybreaker's `CircuitBreakerListener` is one."""

    def before_call(self, cb: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """A call was granted and starts."""
        ...

    def failure(self, cb: Any, exc: BaseException) -> None:
        """A call failed."""
        ...

    def success(self, cb: Any) -> None:
        """A call went well."""
        ...

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        """The circuit moved."""
        ...


class Teller:
    """The listeners and hooks of one circuit.

    Args:
        circuit: what listeners are handed.
        name_of: the circuit's name at the time.
        state_of: the state object of a mode.
        hooks: who takes event records.

    Attributes:
        listeners: in the order of telling; replaced as a whole.
    """

    def __init__(
        self,
        circuit: Any,
        *,
        name_of: Callable[[], str],
        state_of: Callable[[str], Any],
        hooks: Hooks,
    ) -> None:
        self.listeners: Sequence[Listener] = ()
        self._circuit = circuit
        self._name_of = name_of
        self._state_of = state_of
        self._hooks = hooks
        self._queue: deque[Moved | BaseException] = deque()
        self._tended = threading.Lock()
        self._reported: set[int] = set()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Forget a thread that was emptying the queue and is not here."""
        self._tended = threading.Lock()

    def append(self, item: Moved | BaseException) -> None:
        """Queue a move or a failure; takes no lock."""
        self._queue.append(item)

    def drain(self) -> None:
        """Tell what is queued, unless another call already does."""
        while self._queue and self._tended.acquire(blocking=False):
            try:
                while self._queue:
                    self._tell(self._queue.popleft())
            finally:
                self._tended.release()

    def before_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Tell that a call starts."""
        for listener in self.listeners:
            self._guarded(listener, lambda it: it.before_call(self._circuit, func, *args, **kwargs))

    def success(self) -> None:
        """Tell that a call went well."""
        for listener in self.listeners:
            self._guarded(listener, lambda it: it.success(self._circuit))

    def _tell(self, item: Moved | BaseException) -> None:
        if isinstance(item, BaseException):
            for listener in self.listeners:
                self._guarded(listener, lambda it: it.failure(self._circuit, item))
            return
        if self._hooks:
            self._hooks.emit(self._record(item))
        if not item.strained:
            old, new = self._state_of(item.old), self._state_of(item.new)
            for listener in self.listeners:
                self._guarded(listener, lambda it: it.state_change(self._circuit, old, new))

    def _record(self, moved: Moved) -> Event:
        name, share = self._name_of(), moved.failed / moved.calls if moved.calls else 0.0
        if moved.strained:
            kind = CircuitKeptClosed if moved.new == "closed" else CircuitStrained
            return kind(name, moved.calls, moved.failed)
        if moved.observed:
            return CircuitObserved(name, moved.old, moved.new, moved.generation)
        return CircuitTransition(name, moved.old, moved.new, moved.generation, share)

    def _guarded(self, listener: Listener, tell: Callable[[Listener], None]) -> None:
        try:
            tell(listener)
        except Exception:
            # A listener never changes what the caller gets.
            if id(listener) not in self._reported:
                self._reported.add(id(listener))
                logging.getLogger("backendkit.resilience").warning(
                    "a listener of a circuit breaker raised; further errors of it are not reported",
                    exc_info=True,
                )
