"""What this feature tells: the moves of circuits and repeated attempts, never calls. Those are counted; ask for the counts."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core.events import Event


@dataclass(frozen=True, slots=True)
class CircuitTransition(Event):
    """A circuit moved, by a verdict or by hand.

    Attributes:
        circuit: its name.
        old: its mode before.
        new: its mode after; the same where it was reset.
        generation: of the new mode.
        failure_rate: the share of failures that opened it last.
    """

    circuit: str
    old: str
    new: str
    generation: int
    failure_rate: float


@dataclass(frozen=True, slots=True)
class CircuitStrained(Event):
    """A circuit that only measures would have opened; told once until its window has recovered.

    Attributes:
        circuit: its name.
        calls: in its window.
        failed: of them.
    """

    circuit: str
    calls: int
    failed: int


@dataclass(frozen=True, slots=True)
class CallRetried(Event):
    """An attempt failed and another one follows.

    Attributes:
        policy: the retry's name.
        attempt: the number of the one that failed, from 1.
        pause_us: how long it waits before the next.
        cause: the class of what it failed with, as `module.Name`.
    """

    policy: str
    attempt: int
    pause_us: int
    cause: str


@dataclass(frozen=True, slots=True)
class CircuitObserved(Event):
    """A circuit that processes share was moved by another one, which told it as a `CircuitTransition`.

    Attributes:
        circuit: its name.
        old: the mode that this process knew.
        new: its mode now; the same where moves between were missed.
        generation: of the new mode; of one that was over when this process heard of it, the last that it knew, 0: none.
    """

    circuit: str
    old: str
    new: str
    generation: int


@dataclass(frozen=True, slots=True)
class CircuitKeptClosed(Event):
    """A circuit would have opened, but too many of its group are open; told once until its window has recovered.

    Attributes:
        circuit: its name.
        calls: in its window.
        failed: of them.
    """

    circuit: str
    calls: int
    failed: int
