"""What every guarded call passes through, whatever its colour: admitted, then judged and told.

Nothing here waits and no lock is held while user code runs, so that `def`, `async def`, generators and blocks all
pass through the same three methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from backendkit.core.clock import SECOND_US, Clock
from backendkit.resilience.decide.circuit import Grant
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK
from backendkit.resilience.errors import CircuitOpen, FailedResult, FailureInfo, Rejection
from backendkit.resilience.judge import Judge
from backendkit.resilience.machine import Machine
from backendkit.resilience.policy import DAY_US
from backendkit.resilience.telling import Teller

MESSAGE_LENGTH = 200
"""Characters that are kept of a failure's text."""


class Ticket:
    """One call on its way.

    Attributes:
        generation: what its permit was granted with.
        started_us: when; None where durations do not matter.
        took_us: its duration, where that was measured before its end.
        awaited: whether it was admitted from a coroutine, where nothing may block.
    """

    __slots__ = ("awaited", "generation", "started_us", "took_us")

    def __init__(self, generation: int, started_us: int | None) -> None:
        self.generation = generation
        self.started_us = started_us
        self.took_us: int | None = None
        self.awaited = False


class Gate:
    """Admits calls to what a machine guards, and tells it what came of them.

    Args:
        name_of: the circuit's name at the time.
        machine: decides.
        judge: classifies.
        teller: tells.
        clock: measures durations.

    Attributes:
        machine: as above.
        now_us: the clock's monotonic reading.
        last_failure: the last one; None: there was none.
    """

    def __init__(
        self,
        name_of: Callable[[], str],
        machine: Machine,
        *,
        judge: Judge,
        teller: Teller,
        clock: Clock,
    ) -> None:
        self.machine = machine
        self.now_us = clock.mono_us
        self.last_failure: FailureInfo | None = None
        self._name_of = name_of
        self._judge = judge
        self._teller = teller
        self._clock = clock
        self._known: tuple[int, Rejection] | None = None
        self.observe()

    def observe(self) -> None:
        """Look again who listens, and what the circuit is called."""
        self._known = None
        listened = bool(self._teller.listeners) or self._judge.failed_result is not None
        self.machine.observe(observed=listened)

    def admit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        grant: Grant | None = None,
    ) -> Ticket:
        """Let a call in; `grant` is the answer where the question was asked already.

        Raises:
            CircuitOpen: not now.
        """
        machine = self.machine
        if grant is None:
            grant = machine.acquire()
        self._teller.drain()
        if not grant.granted:
            raise self._rejection(grant)
        if self._teller.listeners:
            self._teller.before_call(func, args, kwargs or {})
        return Ticket(grant.generation, None if machine.slow_after_us is None else self.now_us())

    async def admit_async(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Ticket:
        """Let a call in from a coroutine; raises as `admit` does."""
        ticket = self.admit(func, args, kwargs, await self.machine.acquire_async())
        ticket.awaited = True
        return ticket

    def raised(self, ticket: Ticket, error: BaseException) -> None:
        """Tell that a call raised."""
        self._settle(ticket, self._judge.of_error(error, slow=self._is_slow(ticket)), error)

    def returned(self, ticket: Ticket, result: object) -> None:
        """Tell that a call returned."""
        bits = self._judge.of_result(result, slow=self._is_slow(ticket))
        self._settle(ticket, bits, FailedResult(result) if bits & FAILED else None)

    def went_well(self, generation: int) -> None:
        """Tell that a call which nobody observes was neither failed nor slow."""
        self.machine.report(generation, OK)
        self._teller.drain()

    def abandoned(self, ticket: Ticket) -> None:
        """Tell that nobody waits for the rest of a stream, which says nothing about its source."""
        self._settle(ticket, IGNORED, None)

    def clocked(self, ticket: Ticket) -> None:
        """Take the time now: what follows is the consumer's."""
        if ticket.started_us is not None and ticket.took_us is None:
            ticket.took_us = self.now_us() - ticket.started_us

    def _is_slow(self, ticket: Ticket) -> bool:
        bound, started = self.machine.slow_after_us, ticket.started_us
        if bound is None or started is None:
            return False
        took = ticket.took_us
        return (self.now_us() - started if took is None else took) >= bound

    def _settle(self, ticket: Ticket, bits: int, error: BaseException | None) -> None:
        asked_us = 0
        if error is not None and bits & FAILED:
            asked_us = _retry_after_us(error)
            self.last_failure = _info(error, self._clock.wall_us())
            if self._teller.listeners:
                self._teller.append(error)
        machine = self.machine
        machine.report(ticket.generation, bits, asked_us)
        if machine.owes:
            # A coroutine may be about to end, or cancelled: it never waits here.
            (machine.tell_soon if ticket.awaited else machine.tell)()
        self._teller.drain()
        if self._teller.listeners and not bits & (FAILED | IGNORED):
            self._teller.success()

    def _rejection(self, grant: Grant) -> CircuitOpen:
        known = self._known
        if (
            known is None
            or known[0] != grant.generation
            or known[1].last_failure is not self.last_failure
        ):
            known = self._known = grant.generation, self._rejecting()
        return CircuitOpen(known[1], grant.retry_after_us)

    def _rejecting(self) -> Rejection:
        machine = self.machine
        return Rejection(
            self._name_of(), machine.mode, machine.opened_wall_us, machine.failure_rate,
            self.last_failure,
        )  # fmt: skip


def _retry_after_us(error: BaseException) -> int:
    """Return how long a failure asks to be left alone, by its `retry_after` in seconds; 0: it does not say."""
    asked = getattr(error, "retry_after", None)
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not math.isfinite(asked):
        return 0
    return int(min(max(asked, 0), DAY_US / SECOND_US) * SECOND_US)


def _info(error: BaseException, at_us: int) -> FailureInfo:
    kind = type(error)
    try:
        text = str(error)[:MESSAGE_LENGTH]
    except Exception:  # noqa: BLE001 - an error's own __str__ may raise anything
        text = ""
    return FailureInfo(f"{kind.__module__}.{kind.__qualname__}", text, at_us)
