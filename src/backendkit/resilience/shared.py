"""A circuit that processes share: what this one knows of it, what it owes the others, and what it decides while it is alone.

A call on a closed circuit asks nobody, and neither does one that is rejected: what is known is looked at again once a
second. Permits for trials are taken in the store. Outcomes are told to it; good ones together, a tenth of a second's worth
at a time. A circuit of this process's own is fed all along. While the store is down it decides, and it is forgotten when the
store is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from backendkit.core.clock import SECOND_US, Clock
from backendkit.core.errors import NotSent, StoreError
from backendkit.core.flow import step
from backendkit.core.fork import remake_after_fork
from backendkit.core.keys import KeySpace
from backendkit.core.store import Store
from backendkit.resilience.asking import IO, Awaiting, Blocking, Told, guarded
from backendkit.resilience.chance import Chance
from backendkit.resilience.decide import circuit as decide
from backendkit.resilience.decide.circuit import Grant, Mode
from backendkit.resilience.decide.shared import NOTHING, Answer, Questions, kind_of
from backendkit.resilience.decide.windows import IGNORED, OK, CountWindow, empty_window
from backendkit.resilience.machine import Group, Machine, Moved, Sink
from backendkit.resilience.policy import SLICES, Rules
from backendkit.stores import MemoryStore

R = TypeVar("R")

LOOK_US = SECOND_US
"""What is known is believed for so long: an order of an operator, or a move of others, is heard after it at the latest."""

RETRY_US = 100_000
"""How often a process that is alone asks whether it still is; the guard answers in microseconds, and probes by itself."""

SOON_US = SECOND_US
"""After a move good calls are told at once for so long: told later than failures, they would count too little."""

SCHEMA = 1
"""Version of what stands under a key."""


class SharedMachine(Machine):
    """One circuit in a store. Safe to use from any thread and any event loop.

    Args:
        rules: when it moves.
        name: of the circuit: whoever uses the same one, on the same store, shares it.
        store: where it lives.
        namespace: separates applications that share a server.
        coalesce_us: for how long good calls may wait to be told together; 0: each is told at once.
        clock: of durations.
        chance: draws the jitter of openings.
        moves: where moves are put.
        drain: called after what was learnt in a task of its own.
        group: as for `Machine`.
    """

    shared = True

    def __init__(  # noqa: PLR0913 - options, by keyword
        self,
        rules: Rules,
        *,
        name: str,
        store: Store,
        namespace: str,
        coalesce_us: int,
        clock: Clock,
        chance: Chance,
        moves: Sink,
        drain: Callable[[], None],
        group: Group | None = None,
    ) -> None:
        super().__init__(rules, clock=clock, chance=chance, moves=moves, group=group)
        self._store = guarded(store)
        self._instant = isinstance(store, MemoryStore)
        self._blocking, self._awaiting = Blocking(self._store), Awaiting(self._store.aio)
        self._namespace = namespace
        self._coalesce_us = coalesce_us
        self._drain = drain
        self._alone = False
        self.rename(name)
        self.after_fork_in_child()
        remake_after_fork(self)

    def after_fork_in_child(self) -> None:
        """Leave to the parent what it owes."""
        self._owed: deque[Told] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pending = 0

    def rename(self, name: str) -> None:
        """Take part in the circuit of another name, or of other rules."""
        keys = KeySpace(
            "circuit", version=SCHEMA, kind=kind_of(self.rules), namespace=self._namespace
        )
        with self._lock:
            self._name = name
            self._questions = Questions(keys.key(name), self.rules)
            self._seen = NOTHING
            self._counted = (0, 0, 0)
            self._until_us = self._full_us = self._pending = self._pending_us = 0
            # Long ago: the first call looks.
            self._looked_us = self._told_us = self._clock.mono_us() - 2 * LOOK_US
            self._moved_us = self._clock.mono_us()
            self._hide()

    @property
    def owes(self) -> bool:  # type: ignore[override] # of a class that has nobody to tell it is a constant
        """Whether there is something to tell the others."""
        return bool(self._owed)

    @property
    def alone(self) -> bool:
        """Whether the store is down, so that this process decides for itself."""
        return self._alone

    def observe(self, *, observed: bool) -> None:
        """Nothing: no call takes the short way."""
        self.observed = observed

    def acquire(self) -> Grant:
        """Ask for a permit. While the circuit is closed, or open, that asks the store at most once a second."""
        return self._at_hand() or step(self._ask(self._blocking))

    async def acquire_async(self) -> Grant:
        """Ask for a permit, from a coroutine. A permit that comes too late for a cancelled caller is given back."""
        grant = self._at_hand()
        if grant is not None:
            return grant
        if self._instant:
            return step(self._ask(self._blocking))
        task = self._keep(self._ask(self._awaiting))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._give_back)
            raise

    def report(self, generation: int, bits: int, retry_after_us: int = 0) -> None:
        """Take down what came of a call; `owes` says whether it has to be told now."""
        self.counts[bits] += 1
        with self._lock:
            if self._alone:
                self._report_alone(generation, bits, retry_after_us)
            elif self._counts(generation, bits):
                self._owe(generation, bits, retry_after_us)

    def tell(self) -> None:
        """Tell the others what they are owed, blocking the thread; never raises a `StoreError`."""
        step(self._tell(self._blocking))

    def tell_soon(self) -> None:
        """Tell the others what they are owed from a task that this object holds, whatever becomes of the caller's."""
        if self._instant:
            self.tell()
            return
        flow = self._tell(self._awaiting)
        try:
            self._keep(flow)
        except RuntimeError:  # no loop runs any more: the next call tells
            flow.close()

    def force(self, mode: Mode) -> None:
        """Enter a mode by hand, for all processes.

        Raises:
            StoreError: the store is down: the mode holds for this process, until the store is back.
        """
        with self._lock:
            order = self._questions.force(self._known(), mode, jitter=self._draw())
        try:
            answer = self._store.run(order)
        except StoreError:
            self._alone = True
            super().force(mode)
            raise
        self._learn(answer)

    def adopt(self, rules: Rules) -> None:
        """Go on under other rules; another window, or another number of trials, is another circuit."""
        super().adopt(rules)
        self.rename(self._name)

    def window(self) -> tuple[int, int, int]:
        """Return calls, failed and slow ones in the window of all processes, as last heard of; of this one while it is alone."""
        return super().window() if self._alone else self._counted

    def _at_hand(self) -> Grant | None:
        """Return an answer for which nobody needs to be asked."""
        now = self._clock.mono_us()
        with self._lock:
            if now - self._looked_us >= (RETRY_US if self._alone else LOOK_US):
                self._looked_us = now  # one looks; meanwhile the others believe what is known
                return None
            grant = self._decide_alone(now) if self._alone else self._remembered(now)
            self.rejected += grant is not None and not grant.granted
            return grant

    def _remembered(self, now: int) -> Grant | None:
        mode, generation = self._seen.mode, self._seen.generation
        if self._seen is NOTHING:
            return None
        if mode in _GRANTING:
            return self._open_door
        if mode == "forced-open":
            return Grant(_REJECTED, generation)
        if now < (self._until_us if mode == "open" else self._full_us):
            return Grant(_REJECTED, generation, max(self._until_us - now, 0))
        return None

    async def _ask(self, io: IO) -> Grant:
        with self._lock:
            question = self._questions.acquire(self._known(), jitter=self._draw())
        try:
            answer = await io.run(question)
        except StoreError as error:
            with self._lock:
                self._go_alone(error)
                grant = self._decide_alone(self._clock.mono_us())
        else:
            self._learn(answer, asked=True)
            grant = answer.grant()
        self.rejected += not grant.granted
        return grant

    def _decide_alone(self, now: int) -> Grant:
        before = self._circuit.mode, self._circuit.generation
        grant = decide.acquire(self._circuit, self.rules, now, self._draw())
        self._note(*before)
        return grant

    def _report_alone(self, generation: int, bits: int, retry_after_us: int) -> None:
        before = self._circuit.mode, self._circuit.generation
        decide.report(
            self._circuit, self.rules, generation, bits, self._clock.mono_us(),
            jitter=self._draw(), retry_after_us=retry_after_us, may_open=self._may_open(),
        )  # fmt: skip
        self._note(*before)

    def _counts(self, generation: int, bits: int) -> bool:
        """Tell whether an outcome changes the circuit, as far as is known."""
        if generation != self._circuit.generation:
            return False
        mode = self._circuit.mode
        return mode == "half-open" or (mode in {"closed", "metrics-only"} and not bits & IGNORED)

    def _owe(self, generation: int, bits: int, retry_after_us: int) -> None:
        """Note what the others have to hear, at once or with the next outcome."""
        now = self._clock.mono_us()
        told, good = 0, not bits and self._circuit.mode != "half-open"
        if good:
            self._circuit.window.add(OK, now)
            if now - self._told_us < self._coalesce_us and now - self._moved_us >= SOON_US:
                self._pending_us = self._pending_us if self._pending else now
                self._pending += 1
                return
        # Good calls that have left the window of the others by now would come back to life there.
        if not self.rules.slice_us or now - self._pending_us < SLICES * self.rules.slice_us:
            told = self._pending
        self._pending, self._told_us = 0, now
        self._owed.append(Told(generation, bits, retry_after_us, told))

    async def _tell(self, io: IO) -> None:
        while self._owed:
            try:
                told = self._owed.popleft()
            except IndexError:  # another thread was quicker
                return
            with self._lock:
                question = self._questions.report(
                    self._known(), told.generation, told.bits, successes=told.successes,
                    retry_after_us=told.retry_after_us, jitter=self._draw(),
                    may_open=self._may_open(),
                )  # fmt: skip
            try:
                answer = await io.run(question)
            except StoreError as error:
                with self._lock:
                    self._go_alone(error)
                    if told.bits != OK or self._circuit.mode == "half-open":
                        self._report_alone(told.generation, told.bits, told.retry_after_us)
            else:
                self._learn(answer, told=told)

    def _go_alone(self, error: StoreError) -> None:
        # A deadline that is over says nothing about the store.
        self._alone = self._alone or type(error) is not NotSent

    def _known(self) -> Any:
        """Return what was last seen, as of now."""
        left = max(self._until_us - self._clock.mono_us(), 0)
        return self._seen._replace(left_us=left)

    def _learn(self, answer: Answer, *, asked: bool = False, told: Told | None = None) -> None:
        """Believe the store; an answer that was overtaken by a later one says nothing new."""
        with self._lock:
            now, seen, circuit = self._clock.mono_us(), answer.seen, self._circuit
            self._looked_us = max(self._looked_us, now)
            if seen.generation < self._seen.generation:
                return
            if told is not None and told.generation == circuit.generation:
                self._feed(told.bits, now)
            self._alone = False
            self._until_us, self._counted = now + seen.left_us, answer.window
            if (seen.generation, seen.mode) != (circuit.generation, circuit.mode):
                self._mirror(answer, now)
            self._seen = seen
            circuit.until_us = self._until_us
            if asked and seen.mode == "half-open":
                circuit.out += answer.granted
                self._full_us = 0 if answer.granted else now + self._coalesce_us
            if answer.strained:
                calls, failed, _ = answer.window
                moved = Moved(seen.mode, seen.mode, seen.generation, calls, failed, strained=True)
                self._moves.append(moved)

    def _feed(self, bits: int, now: int) -> None:
        """Let this process's own circuit know what the others were told."""
        circuit = self._circuit
        if circuit.mode == "half-open":
            circuit.out = max(circuit.out - 1, 0)
        if bits and not bits & IGNORED:
            circuit.window.add(bits, now)

    def _mirror(self, answer: Answer, now: int) -> None:
        """Bring this process's own circuit to where the shared one is, and queue what has moved."""
        seen, circuit, first = answer.seen, self._circuit, self._seen is NOTHING
        old, tripped = circuit.mode, (seen.tripped_calls, seen.tripped_failed)
        if answer.moved_from is not None:
            if answer.moved_from != old:
                self._moved(old, answer.moved_from, self._seen.generation, (0, 0), observed=True)
            self._moved(answer.moved_from, seen.mode, seen.generation, tripped, observed=False)
        elif not first or seen.mode != old:
            self._moved(old, seen.mode, seen.generation, tripped, observed=True)
        half_open = seen.mode == "half-open"
        circuit.mode, circuit.generation, circuit.tripped = seen.mode, seen.generation, tripped
        circuit.openings, circuit.lapses = seen.openings, seen.lapses
        circuit.window = (
            CountWindow(self.rules.trials) if half_open else empty_window(self.rules, now)
        )
        circuit.out, circuit.strained, circuit.opened_us = 0, False, now
        self._opened_wall_us = seen.opened_us
        self._pending, self._full_us, self._moved_us = 0, 0, now
        self.generation = seen.generation
        self._open_door = Grant(granted=True, generation=seen.generation)
        if self._group is not None:
            self._group.moved(old, seen.mode)

    def _moved(
        self, old: Mode, new: Mode, generation: int, tripped: tuple[int, int], *, observed: bool
    ) -> None:
        self._moves.append(Moved(old, new, generation, *tripped, observed=observed))

    def _note(self, old: Mode, generation: int) -> None:
        super()._note(old, generation)
        self._hide()

    def _hide(self) -> None:
        """Let no call take the short way of a circuit that is this process's own."""
        self.closed = self.free = self.settled = False
        self.rejecting = None
        self._quiet_until_ns = 0

    def _give_back(self, asked: asyncio.Task[Grant]) -> None:
        if asked.cancelled() or asked.exception() is not None or not asked.result().granted:
            return
        self.report(asked.result().generation, IGNORED)
        self.tell_soon()

    def _keep(self, flow: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Run a flow in a task of its own, outside of the request at hand and its deadline."""
        task = asyncio.get_running_loop().create_task(self._drained(flow), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _drained(self, flow: Coroutine[Any, Any, R]) -> R:
        try:
            return await flow
        finally:
            self._drain()


_GRANTING = {"closed", "disabled", "metrics-only"}
_REJECTED = False
"""A name, because positional arguments are quicker and a bare False says nothing."""
