"""A breaker around a block of code: `with` and `async with`, in any nesting, by any number of threads and tasks."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Self

from backendkit.resilience.gate import Gate, Ticket


class Blocks:
    """What is entered before calls and left after them."""

    _gate: Gate

    def calling(self) -> Self:
        """Return what guards a block of code: `with breaker.calling():` is `with breaker:`."""
        return self

    def __enter__(self) -> Self:
        ticket = self._gate.admit(self.__enter__)
        _entered.set((*_entered.get(), (self, ticket)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ticket = _left(self)
        if error is None:
            self._gate.returned(ticket, None)
        else:
            self._gate.raised(ticket, error)

    async def __aenter__(self) -> Self:
        ticket = await self._gate.admit_async(self.__aenter__)
        _entered.set((*_entered.get(), (self, ticket)))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def _left(breaker: Blocks) -> Ticket:
    """Return the ticket of the innermost block that this thread or task has entered."""
    entered = _entered.get()
    for place in range(len(entered) - 1, -1, -1):
        if entered[place][0] is breaker:
            _entered.set(entered[:place] + entered[place + 1 :])
            return entered[place][1]
    raise RuntimeError("a breaker's block must be left by the thread or task that entered it")


_entered: ContextVar[tuple[tuple[Blocks, Ticket], ...]] = ContextVar(
    "backendkit_breaker_blocks", default=()
)
