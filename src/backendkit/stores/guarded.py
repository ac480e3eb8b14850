"""A failure policy, as a store around a store: after the first failures nobody waits for a server that is down.

Refused or unreachable opens at once; replies that do not come in time open after two within a second. While open,
operations are answered with `StoreUnavailable` in microseconds, and one prober per guard, a task of the loop or
one daemon thread, tries a harmless operation on the same keys: after 50 ms first, then twice as late each time, up
to a second. What fails together has one circuit: a node of a Cluster, a service that Sentinels watch.

The guard decides nothing for a feature: whether to fail open or closed stands there.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import ReplyTimeout, StoreError, StoreUnavailable
from backendkit.core.events import Hooks
from backendkit.core.flights import Flights
from backendkit.core.flow import IO, AsyncIO, SyncIO, step
from backendkit.core.fork import remake_after_fork
from backendkit.core.look import gathering
from backendkit.core.operation import Operation
from backendkit.core.outcome import Error, Outcome
from backendkit.core.store import Reopening, Store, StoreStats
from backendkit.stores.circuit import Circuit, FailurePolicy, StoreDown, StoreUp, probe_of

R = TypeVar("R")


class Guarded:
    """A store that stops asking a server that is down.

    Args:
        store: the store to guard.
        policy: when to open and how to probe.
        hooks: who is told by `StoreDown` and `StoreUp`.

    While all is well, it costs one look at an empty dictionary per operation.
    """

    __slots__ = (
        "__weakref__",
        "_aio",
        "_closed",
        "_hooks",
        "_lock",
        "_policy",
        "_prober",
        "_prober_due_us",
        "_tasks",
        "_time",
        "_timeouts",
        "_together",
        "circuits",
        "store",
    )

    def __init__(
        self, store: Store, policy: FailurePolicy | None = None, *, hooks: Hooks | None = None
    ) -> None:
        self.store = store
        self._together = gathering(store)
        self._policy = policy or FailurePolicy()
        # Not `or`: hooks without a listener are false.
        self._hooks = Hooks() if hooks is None else hooks
        self._time = SystemClock()  # servers fail in real time, whatever clock the features have
        self.circuits: dict[str, Circuit] = {}
        self._timeouts: dict[str, deque[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._prober: threading.Thread | asyncio.Task[None] | None = None
        self._prober_due_us = 0
        self._closed = False
        self._lock = threading.Lock()
        self._aio = AsyncGuarded(self)
        remake_after_fork(self)

    @property
    def clock(self) -> Clock:
        """The guarded store's clock."""
        return self.store.clock

    @property
    def aio(self) -> AsyncGuarded:
        """The asynchronous face of the same guard."""
        return self._aio

    @property
    def down(self) -> dict[str, str]:
        """The routes that are down now, and why."""
        return {circuit.route: circuit.reason for circuit in list(self.circuits.values())}

    def after_fork_in_child(self) -> None:
        """Begin without the parent's prober; what is down stays so until the child's own has looked."""
        self._lock = threading.Lock()
        self._tasks = set()
        self._prober = None
        self._prober_due_us = 0

    def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`; see `Store.run`.

        Raises:
            StoreUnavailable: also where the guard knows that the server is down, in microseconds.
        """
        if self.circuits and (rejection := self.rejection(operation)):
            self.probe_from_thread()
            raise rejection
        try:
            return self.store.run(operation)
        except StoreError as error:
            if self.opens(operation, error):
                self.probe_from_thread()
            raise

    def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations; those on a server that is down fail at once, the others go on."""
        batch = self.admitted(operations)
        outcomes = self.store.run_many(batch.operations) if batch.operations else []
        if self.opens_after(batch.operations, outcomes) or batch.rejected:
            self.probe_from_thread()
        return batch.merged(outcomes)

    def route(self, operation: Operation[Any]) -> str:
        """Return the guarded store's route."""
        return self.store.route(operation)

    def together(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return the guarded store's groups of keys, see `core.look.Gathering`."""
        return self._together(keys)

    def stats(self) -> StoreStats:
        """Return the guarded store's counts."""
        return self.store.stats()

    def close(self) -> None:
        """Close the guarded store and stop probing."""
        with self._lock:
            self._closed = True
            self.circuits.clear()
        self.store.close()

    def reopen(self) -> None:
        """Undo `close`, where the guarded store can."""
        if isinstance(self.store, Reopening):
            self.store.reopen()
            with self._lock:
                self._closed = False

    # What both faces use; not for users.

    def rejection(self, operation: Operation[Any]) -> StoreUnavailable | None:
        """Return the error for an operation on a server that is down, or None if it may go on."""
        circuit = self.circuits.get(self.store.route(operation))
        if circuit is None:
            return None
        left_us = max(circuit.probe_us - self._time.mono_us(), 0)
        return StoreUnavailable(
            f"{circuit.route} is down: {circuit.reason}", retry_after=left_us / SECOND_US
        )

    def admitted(self, operations: Sequence[Operation[Any]]) -> _Batch:
        """Split a batch into what may go on and what is rejected."""
        rejected: dict[int, StoreUnavailable] = {}
        if self.circuits:
            for place, operation in enumerate(operations):
                if rejection := self.rejection(operation):
                    rejected[place] = rejection
        return _Batch([o for place, o in enumerate(operations) if place not in rejected], rejected)

    def opens_after(
        self, operations: Sequence[Operation[Any]], outcomes: Sequence[Outcome[Any]]
    ) -> bool:
        """Note a batch's failures; return whether any of them opened the guard.

        A batch is one write and one wait per server: that no answer came in time counts once for each.
        """
        failures: dict[tuple[str, bool], tuple[Operation[Any], StoreError]] = {}
        for operation, outcome in zip(operations, outcomes, strict=True):
            if isinstance(outcome, Error) and isinstance(outcome.error, StoreError):
                error = outcome.error
                late = isinstance(error, ReplyTimeout)
                if late or isinstance(error, StoreUnavailable):
                    failures.setdefault((self.store.route(operation), late), (operation, error))
        opened = [self.opens(operation, error) for operation, error in failures.values()]
        return any(opened)

    def opens(self, operation: Operation[Any], error: StoreError) -> bool:
        """Note a failure; return whether it opened the guard."""
        if not isinstance(error, StoreUnavailable | ReplyTimeout):
            return False
        route = self.store.route(operation)
        now = self._time.mono_us()
        with self._lock:
            if self._closed or route in self.circuits:
                return False
            if isinstance(error, ReplyTimeout) and not self._too_many(route, now):
                return False
            first_us = checks.duration_us("first_probe", self._policy.first_probe)
            probe = probe_of(operation)
            self.circuits[route] = Circuit(
                route, error.reason, probe, now, now + first_us, first_us
            )
            self._timeouts.pop(route, None)
        if self._hooks:
            self._hooks.emit(StoreDown(route, error.reason))
        return True

    def probe_from_thread(self) -> None:
        """See to it that somebody probes: a thread of ours, unless a task or a thread is at it."""
        if self._needed_prober() is not None:
            self._probe_in_thread()

    def probe_from_loop(self) -> None:
        """See to it that somebody probes: a task of this loop, unless a task or a thread is at it.

        Where one has died with its loop it is a thread, too: else nobody would ever come to probe in an
        application that runs a short loop for each request.
        """
        needed = self._needed_prober()
        if needed is _Prober.THREAD:
            self._probe_in_thread()
        elif needed is _Prober.ANY:
            io = AsyncIO(self.store.aio, self._time, Flights())
            task = asyncio.get_running_loop().create_task(self._probe(io), context=Context())
            self._prober = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end_tasks(self) -> None:
        """End the prober, if it is a task of this loop."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _probe_in_thread(self) -> None:
        io = SyncIO(self.store, self._time, Flights())
        thread = threading.Thread(
            target=lambda: step(self._probe(io)), name="backendkit-probe", daemon=True
        )
        try:
            thread.start()
        except (
            RuntimeError
        ):  # no more threads, or the interpreter is going down: the next caller tries
            self._prober_due_us = _DIED
        else:
            self._prober = thread

    def _too_many(self, route: str, now: int) -> bool:
        """Count one more reply timeout; return whether they have become too many."""
        times = self._timeouts.setdefault(route, deque(maxlen=self._policy.timeouts))
        times.append(now)
        within_us = checks.duration_us("within", self._policy.within)
        return len(times) == self._policy.timeouts and now - times[0] <= within_us

    def _needed_prober(self) -> _Prober | None:
        """Return what must probe from here, None if somebody does. Who is late has died with its loop or process."""
        now = self._time.mono_us()
        with self._lock:
            if not self.circuits or now < self._prober_due_us or self._prober_runs():
                return None
            needed = _Prober.THREAD if self._prober_due_us else _Prober.ANY
            self._prober_due_us = now + _LATE_US
            return needed

    def _prober_runs(self) -> bool:
        """Whether it certainly lives, however long a probe lets it wait."""
        prober = self._prober
        if isinstance(prober, threading.Thread):
            return prober.is_alive()
        return prober is not None and not prober.done() and prober.get_loop().is_running()

    async def _probe(self, io: IO) -> None:
        """Probe what is down until nothing is."""
        try:
            while self._goes_on():
                now = self._time.mono_us()
                if due := [c for c in list(self.circuits.values()) if c.probe_us <= now]:
                    # All at once: who is back is not kept waiting for those who still let us wait.
                    outcomes = await io.run_many([circuit.probe for circuit in due])
                    for circuit, outcome in zip(due, outcomes, strict=True):
                        self._note(circuit, outcome, now)
                await io.wait(self._pause_us())
        except BaseException:
            self._prober = None
            self._prober_due_us = _DIED
            raise

    def _goes_on(self) -> bool:
        with self._lock:
            goes_on = bool(self.circuits)
            self._prober_due_us = self._time.mono_us() + _LATE_US if goes_on else 0
            if not goes_on:
                self._prober = None
            return goes_on

    def _pause_us(self) -> int:
        """Return how long until the next probe, or until the prober looks around."""
        look_us = checks.duration_us("first_probe", self._policy.first_probe)
        next_us = min((c.probe_us for c in list(self.circuits.values())), default=0)
        return max(min(look_us, next_us - self._time.mono_us()), 1_000)

    def _note(self, circuit: Circuit, outcome: Outcome[None], started_us: int) -> None:
        """Put a probe of a circuit off, or close it."""
        try:
            outcome.unwrap()
        except StoreError as error:
            longest_us = checks.duration_us("longest_probe", self._policy.longest_probe)
            circuit.reason = error.reason
            circuit.pause_us = min(2 * circuit.pause_us, longest_us)
            # From its start: the time in which a paused server lets it wait is none in which it looks away.
            circuit.probe_us = started_us + circuit.pause_us
            return
        with self._lock:
            was_open = self.circuits.get(circuit.route) is circuit
            if was_open:
                del self.circuits[circuit.route]
        if was_open and self._hooks:
            self._hooks.emit(StoreUp(circuit.route, self._time.mono_us() - circuit.opened_us))


class AsyncGuarded:
    """The asynchronous face of a `Guarded` store."""

    __slots__ = ("_guarded",)

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded

    @property
    def sync(self) -> Guarded:
        """The synchronous face of the same guard."""
        return self._guarded

    async def run(self, operation: Operation[R]) -> R:
        """Carry out `operation`; see `Guarded.run`."""
        guarded = self._guarded
        if guarded.circuits and (rejection := guarded.rejection(operation)):
            guarded.probe_from_loop()
            raise rejection
        try:
            return await guarded.store.aio.run(operation)
        except StoreError as error:
            if guarded.opens(operation, error):
                guarded.probe_from_loop()
            raise

    async def run_many(self, operations: Sequence[Operation[Any]]) -> list[Outcome[Any]]:
        """Carry out operations; see `Guarded.run_many`."""
        guarded = self._guarded
        batch = guarded.admitted(operations)
        outcomes = await guarded.store.aio.run_many(batch.operations) if batch.operations else []
        if guarded.opens_after(batch.operations, outcomes) or batch.rejected:
            guarded.probe_from_loop()
        return batch.merged(outcomes)

    async def close(self) -> None:
        """Close the guarded store and stop probing."""
        self._guarded.close()
        await self._guarded.end_tasks()
        await self._guarded.store.aio.close()


class _Prober(Enum):
    """What may probe."""

    ANY = "a task of the loop that needs it, or a thread"
    THREAD = "a thread: the last prober has died"


@dataclass(slots=True)
class _Batch:
    """A batch of which some operations may be rejected."""

    operations: list[Operation[Any]]
    rejected: dict[int, StoreUnavailable] = field(default_factory=dict)

    def merged(self, outcomes: Sequence[Outcome[Any]]) -> list[Outcome[Any]]:
        """Put the outcomes and the rejections into the order of the whole batch."""
        rest = iter(outcomes)
        total = len(self.operations) + len(self.rejected)
        return [Error(self.rejected[n]) if n in self.rejected else next(rest) for n in range(total)]


_DIED = 1
"""When a prober that has died is due: long ago. Zero says that there is none."""

_LATE_US = 3 * SECOND_US
"""A prober of a loop that does not run, and that has not come round for so long, has died with it."""
