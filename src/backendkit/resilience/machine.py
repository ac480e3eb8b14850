"""A circuit in this process: the pure decisions under one lock, and what may be read without it.

User code never runs under the lock. What a question moved is put into a queue under it, so that moves are told in
their order; telling them is the breaker's part.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple, Protocol

from backendkit.core.clock import Clock, nanoseconds_of
from backendkit.core.fork import hold_during_fork
from backendkit.resilience.chance import Chance
from backendkit.resilience.decide import circuit as decide
from backendkit.resilience.decide.circuit import Circuit, Grant, Mode
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW
from backendkit.resilience.policy import Rules


class Moved(NamedTuple):
    """A move that has to be told.

    Attributes:
        old: the mode before.
        new: the mode after; the same where a circuit was reset, or came under strain.
        generation: of the new mode.
        calls: in the window that was judged.
        failed: of them.
        strained: the window has reached a threshold, but the circuit only measures or was not let open.
        observed: another process caused it.
    """

    old: Mode
    new: Mode
    generation: int
    calls: int
    failed: int
    strained: bool = False
    observed: bool = False


class Totals(NamedTuple):
    """Outcomes since the circuit was made, whatever became of them; exact only while nothing runs."""

    succeeded: int
    failed: int
    slow: int
    ignored: int
    rejected: int


class Sink(Protocol):
    """Where moves are put, under the lock; takes them and does nothing else."""

    def append(self, item: Moved, /) -> object:
        """Take one."""
        ...


class Group(Protocol):
    """Circuits of which not all may be open at once."""

    @property
    def lock(self) -> threading.Lock:
        """The lock within which they change, all of them."""
        ...

    def may_open(self) -> bool:
        """Tell, under the lock, whether one more may open."""
        ...

    def moved(self, old: Mode, new: Mode) -> None:
        """Take note, under the lock, that one has moved."""
        ...

    def left(self, mode: Mode) -> None:
        """Take note, under the lock, that one is no longer among them."""
        ...


class Machine:
    """One circuit in memory. Safe to use from any thread.

    Args:
        rules: when it moves.
        clock: whose monotonic reading decides.
        chance: draws the jitter of openings.
        moves: where moves are put.
        group: which it shares its lock with; None: it is on its own.

    Attributes:
        rules: as above; `adopt` changes them.
        counts: outcomes told so far, by their bits.
        quick: good calls that ended without being told; `settled` and `ended_well` say which may.
        rejected: calls that were not let in.
        rejecting: while open, until when a rejection needs no lock, in nanoseconds, and the generation; else None.
        now_ns: the clock's monotonic reading, in nanoseconds.
        generation: what a call that starts without asking reports with; read it before `free`, else a move in
            between would hand out a permit that was not granted.
        observed: whether somebody listens to calls or looks at results.
        closed: whether a call would be granted for sure; read without the lock, as all that follows.
        free: whether a call may start without asking: closed, and nobody observes.
        settled: whether, moreover, a good call that ends changes nothing.
        slow_after_us: from here on a call is slow; None: durations do not matter.
    """

    shared = False
    """Whether other processes have a part in it, so that questions may have to wait for a store."""

    owes = False
    """Whether there is something to tell others."""

    def __init__(
        self,
        rules: Rules,
        *,
        clock: Clock,
        chance: Chance,
        moves: Sink | None = None,
        group: Group | None = None,
    ) -> None:
        self.rules = rules
        self.slow_after_us = rules.slow_after_us
        self._clock = clock
        self._chance = chance
        self._moves: Sink = deque() if moves is None else moves
        self._group = group
        self._lock = threading.Lock() if group is None else group.lock
        self._circuit = Circuit(rules, clock.mono_us())
        self._opened_wall_us = 0
        # The mode, and the time up to which a rejection needs no lock: always replaced together.
        self.rejecting: tuple[int, int] | None = None
        self.now_ns = nanoseconds_of(clock)
        self.counts = [0, 0, 0, 0, 0, 0, 0, 0]
        self.quick = 0
        self._seen_quick = 0
        self._quiet_until_ns = 0
        self.rejected = 0
        self._strained = False
        self.generation = self._circuit.generation
        # Replaced before `closed` is read anew: an old one admits a call of which nothing comes.
        self._open_door = Grant(granted=True, generation=self.generation)
        self.observed = False
        self.closed = self.free = True
        self.settled = False
        hold_during_fork(self)

    def observe(self, *, observed: bool) -> None:
        """Say whether somebody listens to calls or looks at results, so that none may take the short way."""
        with self._lock:
            self.observed = observed
            self.free = self.closed and not observed

    @property
    def fork_lock(self) -> threading.Lock:
        """The lock within which the circuit changes."""
        return self._lock

    @property
    def mode(self) -> Mode:
        """The mode as the last question left it: an opening whose time is over reads OPEN until somebody asks."""
        return self._circuit.mode

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it: it is closed, or was open and its time is over."""
        circuit = self._circuit
        over = circuit.mode == "open" and self._clock.mono_us() >= circuit.until_us
        return over or circuit.mode == "closed"

    @property
    def opened_wall_us(self) -> int:
        """The date of the last opening; 0: never."""
        return self._opened_wall_us

    @property
    def failure_rate(self) -> float:
        """The share of failures in the window that opened it last; 0.0 where it was empty."""
        calls, failed = self._circuit.tripped
        return failed / calls if calls else 0.0

    def acquire(self) -> Grant:
        """Ask for a permit. While the circuit is closed, this takes no lock."""
        grant = self._open_door
        if self.closed:
            return grant
        with self._lock:
            before = self._circuit.mode, self._circuit.generation
            grant = decide.acquire(self._circuit, self.rules, self._clock.mono_us(), self._draw())
            self.rejected += not grant.granted
            self._note(*before)
        return grant

    def report(self, generation: int, bits: int, retry_after_us: int = 0) -> None:
        """Tell what came of a call that was granted in `generation`."""
        self.counts[bits] += 1
        with self._lock:
            circuit = self._circuit
            self._count_quick()
            window = circuit.window
            if not bits and self.closed and not (window.failed or window.slow):
                # A good call among good ones: no verdict can come of it.
                if generation == circuit.generation:
                    window.add(OK, 0 if self.rules.calls else self._clock.mono_us())
                    self._settle()
                return
            before = circuit.mode, circuit.generation
            decide.report(
                circuit, self.rules, generation, bits, self._clock.mono_us(),
                jitter=self._draw() if bits or not self.closed else 0,
                retry_after_us=retry_after_us, may_open=self._may_open(),
            )  # fmt: skip
            self._note(*before)

    def ended_well(self, generation: int, started_ns: int | None) -> bool:
        """Record a call that started free and was no failure, if no verdict can come of it and it was not slow.

        Takes no lock: the interpreter adds to an attribute in one piece, and on an interpreter without that promise a
        good call now and then is not counted.
        """
        now, slow_us = self.now_ns(), self.slow_after_us
        if now >= self._quiet_until_ns or generation != self.generation:
            return False
        if slow_us is not None and (started_ns is None or now - started_ns >= slow_us * 1000):
            return False
        self.quick += 1
        return True

    def force(self, mode: Mode) -> None:
        """Enter a mode by hand, the current one as well: then its window and its time start anew."""
        with self._lock:
            before = self._circuit.mode, self._circuit.generation
            self._count_quick()
            now = self._clock.mono_us()
            decide.move(self._circuit, self.rules, mode, now, jitter=self._draw())
            self._note(*before)

    def adopt(self, rules: Rules) -> None:
        """Go on under other rules."""
        with self._lock:
            before = self._circuit.mode, self._circuit.generation
            self._count_quick()
            self.rules = rules
            self.slow_after_us = rules.slow_after_us
            decide.adopt(self._circuit, rules, self._clock.mono_us())
            self._note(*before)

    def leave_group(self) -> None:
        """Go on without the others."""
        with self._lock:
            if self._group is not None:
                self._group.left(self._circuit.mode)
                self._group = None

    def window(self) -> tuple[int, int, int]:
        """Return calls, failed and slow ones in the window, as of now."""
        with self._lock:
            self._count_quick()
            window = self._circuit.window
            window.catch_up(self._clock.mono_us())
            return window.total, window.failed, window.slow

    def totals(self) -> Totals:
        """Return the outcomes so far."""
        counts = self.counts
        return Totals(
            succeeded=counts[OK] + counts[SLOW] + self.quick,
            failed=counts[FAILED] + counts[FAILED | SLOW],
            slow=counts[SLOW] + counts[FAILED | SLOW],
            ignored=counts[IGNORED],
            rejected=self.rejected,
        )

    async def acquire_async(self) -> Grant:
        """Ask for a permit, from a coroutine."""
        return self.acquire()

    def rename(self, name: str) -> None:
        """Take another name; one's own circuit needs none."""

    def tell(self) -> None:
        """Tell others what they are owed, blocking the thread."""

    def tell_soon(self) -> None:
        """Tell others what they are owed, from a task of its own."""

    def _count_quick(self) -> None:
        """Under the lock, before anything else: put into the window what ended without being told."""
        quick = self.quick
        if quick != self._seen_quick:
            self._circuit.window.add_good(quick - self._seen_quick)
            self._seen_quick = quick

    def _settle(self) -> None:
        """Under the lock: say what a good call may do without it."""
        window = self._circuit.window
        self.settled = self.closed and window.settled
        quiet = self.closed and not (window.failed or window.slow)
        self._quiet_until_ns = window.quiet_until_us * 1000 if quiet else 0

    def _may_open(self) -> bool:
        return self._group is None or self._group.may_open()

    def _draw(self) -> int:
        jitter = self.rules.jitter
        return int(self._chance() * (jitter + 1)) if jitter else 0

    def _note(self, old: Mode, generation: int) -> None:
        """Under the lock: bring what is read without it up to date, and queue the move, if there was one."""
        circuit = self._circuit
        moved = circuit.generation != generation
        if moved:
            self.generation = circuit.generation
            self._open_door = Grant(granted=True, generation=circuit.generation)
        self.closed = circuit.mode == "closed"
        self.free = self.closed and not self.observed
        self._settle()
        is_open = circuit.mode == "open"
        self.rejecting = (circuit.until_us * 1000, circuit.generation) if is_open else None
        window = circuit.window
        if moved:
            if circuit.mode in {"open", "forced-open"}:
                self._opened_wall_us = self._clock.wall_us()
            self._moves.append(Moved(old, circuit.mode, circuit.generation, *circuit.tripped))
            if self._group is not None:
                self._group.moved(old, circuit.mode)
        elif circuit.strained and not self._strained:
            self._moves.append(
                Moved(old, old, generation, window.total, window.failed, strained=True)
            )
        self._strained = circuit.strained
