"""A circuit that processes share: its questions as operations of a store, in Lua and, through `circuit`, in Python.

What one process asks is answered at once for all, on the store's clock. Each question carries the rules, and what the
asker has last seen: where that is newer than what the store has, the store was flushed or has failed over to a
server that had not heard of it, and goes on from what the asker knows. An open circuit so stays open.

In Redis a circuit is one string. The head, 74 bytes, big-endian: mode (1), strained (1), time of the last write (7), offset
of its clock (7, signed), generation (7), until (7), opened (7), openings (4), lapses (2), permits out (4), calls and failures
that opened it (4, 4), calls, failed and slow ones in the window (4, 4, 4), place in it (7). Behind it the window: a byte for each call, in a
ring, or ten slices of three numbers (4 each). A success in a full window changes one byte and the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from backendkit.core.operation import Change, Operation, Reply, Script, State
from backendkit.resilience.decide.circuit import MODES, Circuit, Grant, Mode, acquire, move, report
from backendkit.resilience.decide.shared_lua import ACQUIRE_LUA, FORCE_LUA, REPORT_LUA
from backendkit.resilience.decide.windows import IGNORED, OK, empty_window
from backendkit.resilience.policy import DAY_US, SLICES, Rules

LIFE_US: Final = DAY_US
"""How long a circuit that nobody asks is kept, beyond its opening and its window."""

FOREVER_US: Final = 2**52
"""As long as the memory store can keep anything: what was set by hand does not expire."""

RULES: Final = 12
KNOWN: Final = 8
"""Arguments that each question begins with: the rules, and what the asker knows."""


class SharedCircuit(Circuit):
    """A circuit on a clock that never goes back.

    Attributes:
        last: the circuit's time at the last write.
        offset: the circuit's time minus the store's clock.
    """

    __slots__ = ("last", "offset")

    def __init__(self, rules: Rules, now: int) -> None:
        super().__init__(rules, now)
        self.last = now
        self.offset = 0


class Seen(NamedTuple):
    """What an answer tells of the circuit.

    Attributes:
        mode: after the question.
        generation: of the mode.
        left_us: until the opening, or the lease, ends.
        openings: in a row.
        lapses: leases in a row that ended with permits out.
        opened_us: when it last opened, by the store's clock; 0: never.
        tripped_calls: in the window that opened it last.
        tripped_failed: of them.
    """

    mode: Mode
    generation: int
    left_us: int
    openings: int
    lapses: int
    opened_us: int
    tripped_calls: int
    tripped_failed: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """The same as arguments."""
        return (MODES.index(self.mode), *self[1:])


NOTHING: Final = Seen("closed", 0, 0, 0, 0, 0, 0, 0)
"""What is known by who has not asked."""


class Answer(NamedTuple):
    """What a question brought.

    Attributes:
        granted: whether the call may run; True where that was not the question.
        moved_from: the mode before, where this very question moved the circuit; else None.
        strained: whether it came under strain by this question.
        window: calls, failed and slow ones in the window.
        seen: the circuit after it.
    """

    granted: bool
    moved_from: Mode | None
    strained: bool
    window: tuple[int, int, int]
    seen: Seen

    def grant(self) -> Grant:
        """Return the answer to who asked for a permit."""
        seen = self.seen
        unknown = self.granted or seen.mode == "forced-open"
        return Grant(self.granted, seen.generation, None if unknown else seen.left_us)


class Questions:
    """Builds the operations on one circuit.

    Args:
        key: where it lives.
        rules: of the asking process.
    """

    __slots__ = ("_key", "_rules")

    def __init__(self, key: bytes, rules: Rules) -> None:
        self._key = (key,)
        self._rules: tuple[int, ...] = (
            rules.calls, rules.slice_us, rules.minimum, rules.failed_ppm,
            rules.slow_ppm if rules.slow_after_us is not None else 0,
            rules.open_us, rules.growth, rules.most_us, rules.trials, rules.trial_failed_ppm,
            rules.lease_us, int(rules.ignored_pass),
        )  # fmt: skip

    def acquire(self, known: Seen, *, jitter: int) -> Operation[Answer]:
        """Ask for a permit."""
        return self._ask(ACQUIRE, known, jitter)

    def report(
        self,
        known: Seen,
        generation: int,
        bits: int,
        *,
        successes: int = 0,
        retry_after_us: int = 0,
        jitter: int = 0,
        may_open: bool = True,
    ) -> Operation[Answer]:
        """Tell what came of a call, and of `successes` good ones before it; they are judged together."""
        return self._ask(
            REPORT, known, generation, bits, retry_after_us, jitter, successes, int(may_open)
        )

    def force(self, known: Seen, mode: Mode, *, jitter: int) -> Operation[Answer]:
        """Set a mode by hand."""
        return self._ask(FORCE, known, MODES.index(mode), jitter)

    def _ask(self, script: Script, known: Seen, *args: int) -> Operation[Answer]:
        return Operation(script, self._key, (*self._rules, *known.numbers, *args), _read)


def kind_of(rules: Rules) -> str:
    """Return what a circuit's key says of its window: processes that judge by another one share another circuit."""
    window = f"c{rules.calls}" if rules.calls else f"t{rules.slice_us}"
    return f"{window}.{rules.trials}"


def _read(reply: Reply) -> Answer:
    granted, moved_from, strained, total, failed, slow, mode, *rest = (int(item) for item in reply)
    return Answer(
        bool(granted),
        MODES[moved_from] if moved_from >= 0 else None,
        bool(strained),
        (total, failed, slow),
        Seen(MODES[mode], *rest),
    )


class _Question:
    """A circuit while it is asked: Python's side of what the scripts begin and end with."""

    def __init__(self, state: State, now: int, args: Sequence[int]) -> None:
        self.rules = _rules(args)
        known, self.args = args[RULES : RULES + KNOWN], args[RULES + KNOWN :]
        kept: SharedCircuit | None = state
        self.offset = 0 if kept is None else kept.offset
        self.now = now + self.offset
        if kept is not None and self.now < kept.last:
            self.offset, self.now = kept.last - now, kept.last
        self.changed = kept is None or known[1] > kept.generation
        self.circuit = SharedCircuit(self.rules, self.now) if kept is None else kept
        if known[1] > (0 if kept is None else kept.generation):
            _restore(self.circuit, self.rules, known, self.now)
        self.before = self.circuit.mode, self.circuit.generation, self.circuit.strained

    def answer(self, *, granted: bool = True) -> Change:
        """Return the reply, and the circuit if it has changed."""
        circuit = self.circuit
        mode, generation, strained = self.before
        reply: Reply = [
            int(granted),
            -1 if circuit.generation == generation else MODES.index(mode),
            int(circuit.strained and not strained),
            circuit.window.total,
            circuit.window.failed,
            circuit.window.slow,
            MODES.index(circuit.mode),
            circuit.generation,
            max(circuit.until_us - self.now, 0),
            circuit.openings,
            circuit.lapses,
            circuit.opened_us,
            *circuit.tripped,
        ]
        if not self.changed:
            return Change((), reply)
        circuit.last, circuit.offset = self.now, self.offset
        return Change([(circuit, self._life_us())], reply)

    def _life_us(self) -> int:
        if self.circuit.mode in _BY_HAND:
            return FOREVER_US
        left = max(self.circuit.until_us - self.now, 0)
        return left + SLICES * self.rules.slice_us + LIFE_US


def _restore(circuit: SharedCircuit, rules: Rules, known: Sequence[int], now: int) -> None:
    """Go on from what the asker knows; of permits it knows only its own, so that a lease is waited for."""
    mode, generation, left, openings, lapses, opened, calls, failed = known
    half_open = MODES[mode] == "half-open"
    circuit.mode = "open" if half_open else MODES[mode]
    circuit.generation = max(generation + 1, now) if half_open else generation
    circuit.until_us = now + left
    circuit.openings, circuit.lapses, circuit.opened_us = openings, lapses, opened
    circuit.tripped = calls, failed
    circuit.window = empty_window(rules, now)
    circuit.out = 0
    circuit.strained = False


def _rules(args: Sequence[int]) -> Rules:
    calls, slice_us, minimum, failed, slow, open_us, growth, most, trials, trial, lease, passes = (
        args[:RULES]
    )
    return Rules(
        calls=calls, slice_us=slice_us, minimum=minimum, failed_ppm=failed,
        slow_after_us=1 if slow else None, slow_ppm=slow, open_us=open_us, growth=growth,
        most_us=most, jitter=0, trials=trials, trial_failed_ppm=trial, lease_us=lease,
        ignored_pass=bool(passes),
    )  # fmt: skip


def _fold_acquire(states: Sequence[State], now: int, args: Sequence[int]) -> Change:
    question = _Question(states[0], now, args)
    circuit = question.circuit
    before = circuit.generation, circuit.out, circuit.until_us
    grant = acquire(circuit, question.rules, question.now, question.args[0])
    question.changed |= before != (circuit.generation, circuit.out, circuit.until_us)
    return question.answer(granted=grant.granted)


def _fold_report(states: Sequence[State], now: int, args: Sequence[int]) -> Change:
    question = _Question(states[0], now, args)
    generation, bits, retry_after_us, jitter, successes, may_open = question.args
    circuit, rules = question.circuit, question.rules
    if generation == circuit.generation:
        counted = circuit.mode in {"closed", "metrics-only"} and not bits & IGNORED
        if counted:
            for _ in range(successes):
                circuit.window.add(OK, question.now)
        question.changed |= counted or circuit.mode == "half-open"
        report(
            circuit, rules, generation, bits, question.now,
            jitter=jitter, retry_after_us=retry_after_us, may_open=bool(may_open),
        )  # fmt: skip
    return question.answer()


def _fold_force(states: Sequence[State], now: int, args: Sequence[int]) -> Change:
    question = _Question(states[0], now, args)
    mode, jitter = question.args
    move(question.circuit, question.rules, MODES[mode], question.now, jitter=jitter)
    question.changed = True
    return question.answer()


def _weigh(circuit: SharedCircuit) -> int:
    """Return the approximate bytes of a circuit with its window."""
    return 2_000 + circuit.window.total


_BY_HAND = {"forced-open", "disabled", "metrics-only"}

ACQUIRE: Final = Script("resilience.acquire", lua=ACQUIRE_LUA, fold=_fold_acquire, weigh=_weigh)
"""Asks for a permit."""

REPORT: Final = Script("resilience.report", lua=REPORT_LUA, fold=_fold_report, weigh=_weigh)
"""Tells what came of calls."""

FORCE: Final = Script("resilience.force", lua=FORCE_LUA, fold=_fold_force, weigh=_weigh)
"""Sets a mode by hand."""
