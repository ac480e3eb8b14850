"""What every guarded call passes through, whatever its colour: admitted, then judged and told.

Nothing here waits and no lock is held while user code runs, so that `def`, `async def`, generators and blocks all
pass through the same three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from backendkit.core.clock import Clock
from backendkit.resilience import asked, marks
from backendkit.resilience.decide.circuit import Grant
from backendkit.resilience.decide.windows import FAILED, IGNORED
from backendkit.resilience.errors import CircuitOpen, FailedResult, FailureInfo, Rejection
from backendkit.resilience.judge import Judge
from backendkit.resilience.machine import Machine
from backendkit.resilience.telling import Teller

MESSAGE_LENGTH = 200
"""Characters that are kept of a failure's text."""


class Ticket:
    """One call on its way.

    Attributes:
        generation: what its permit was granted with.
        started_ns: when; None where durations do not matter.
        ended_ns: when, where that is not its end.
        was_late: whether it was told to be late by then; None: ask, if it may be.
        awaited: whether it was admitted from a coroutine, where nothing may block.
    """

    __slots__ = ("awaited", "ended_ns", "generation", "started_ns", "was_late")

    def __init__(
        self, generation: int, started_ns: int | None, *, was_late: bool | None = False
    ) -> None:
        self.generation = generation
        self.started_ns = started_ns
        self.ended_ns: int | None = None
        self.was_late = was_late
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
        now_ns: the clock's monotonic reading, in nanoseconds.
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
        self.now_ns = machine.now_ns
        self.last_failure: FailureInfo | None = None
        self._name_of = name_of
        self._judge = judge
        self._teller = teller
        self._clock = clock
        self._known: tuple[int, Rejection, FailureInfo | None] | None = None
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
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        grant: Grant | None = None,
    ) -> Ticket:
        """Let a call in; `grant` is the answer where the question was asked already.

        Raises:
            CircuitOpen: not now.
        """
        if grant is None:
            grant = self.machine.acquire()
        self._teller.drain()
        if not grant.granted:
            raise self._rejection(grant.generation, grant.retry_after_us)
        if self._teller.listeners:
            self._teller.before_call(func, args, kwargs)
        marks.expect_late()
        return Ticket(grant.generation, self.now_ns(), was_late=None)

    def reject(self) -> None:
        """Reject a call at once where that takes no lock; else do nothing, and ask by `admit`.

        Raises:
            CircuitOpen: the circuit is open, and its time is not over.
        """
        rejecting = self.machine.rejecting
        if rejecting is None:
            return
        left_ns = rejecting[0] - self.now_ns()
        if left_ns > 0:
            self.machine.rejected += 1
            known = self._known
            # Both are looked at, for a failure may be told after the move that it caused.
            if known is None or known[0] != rejecting[1] or known[2] is not self.last_failure:
                raise self._rejection(rejecting[1], left_ns // 1000)
            raise CircuitOpen(known[1], left_ns // 1000)

    async def admit_async(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
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

    def abandoned(self, ticket: Ticket) -> None:
        """Tell that nobody waits for the rest of a stream, which says nothing about its source."""
        self._settle(ticket, IGNORED, None)

    def clocked(self, ticket: Ticket) -> None:
        """Take the time now: what follows is the consumer's."""
        if ticket.ended_ns is None:
            ticket.ended_ns = self.now_ns()
            ticket.was_late = marks.was_late()

    def _is_slow(self, ticket: Ticket) -> bool:
        bound_us, started = self.machine.slow_after_us, ticket.started_ns
        if started is None:
            return False
        if marks.was_late() if ticket.was_late is None else ticket.was_late:
            return True
        if bound_us is None:
            return False
        ended = self.now_ns() if ticket.ended_ns is None else ticket.ended_ns
        took_us = (ended - started) // 1000
        return (
            took_us >= bound_us
            and took_us - marks.waited_us(self._clock, started // 1000) >= bound_us
        )

    def _settle(self, ticket: Ticket, bits: int, error: BaseException | None) -> None:
        asked_us = 0
        if error is not None and bits & FAILED:
            now_us = self._clock.wall_us()
            told = error.result if isinstance(error, FailedResult) else error
            asked_us = asked.asked_us(told, now_us) or 0
            self.last_failure = _info(error, now_us)
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

    def _rejection(self, generation: int, retry_after_us: int | None) -> CircuitOpen:
        told = self._rejecting()
        self._known = generation, told, told.last_failure
        return CircuitOpen(told, retry_after_us)

    def _rejecting(self) -> Rejection:
        machine = self.machine
        return Rejection(
            self._name_of(), machine.mode, machine.opened_wall_us, machine.failure_rate,
            self.last_failure,
        )  # fmt: skip


def _info(error: BaseException, at_us: int) -> FailureInfo:
    kind = type(error)
    try:
        text = str(error)[:MESSAGE_LENGTH]
    except Exception:  # noqa: BLE001 - an error's own __str__ may raise anything
        text = ""
    return FailureInfo(f"{kind.__module__}.{kind.__qualname__}", text, at_us)
