"""What a circuit tells: its moves, never its calls. Calls are counted, and whoever draws curves asks for the counts."""

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
class CircuitObserved(Event):
    """A circuit that processes share was moved by another one, which told it as a `CircuitTransition`.

    Attributes:
        circuit: its name.
        old: the mode that this process knew.
        new: its mode now; the same where moves between were missed.
        generation: of the new mode.
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
