"""Units that are counted while something is undecided, and given back unless it is decided that they shall count."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from backendkit.core.errors import RateLimited, ServiceUnavailable
from backendkit.ratelimit.decision import Decision


def demanded(decision: Decision) -> Decision:
    """Return an admission.

    Raises:
        RateLimited: it is a denial; `decision` is on the error.
        ServiceUnavailable: it is one owed to the store's failure.
    """
    if decision.allowed:
        return decision
    if decision.source == "closed":
        raise LimiterClosed(decision)
    raise LimitReached(decision)


class LimitReached(RateLimited):
    """A limit denies. `decision` says which, and when there is room again."""

    problem_type = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(self, decision: Decision) -> None:
        limit = decision.limit.name
        super().__init__(
            f"limit {limit!r} is reached", retry_after=decision.retry_after, limit=limit
        )
        self.decision = decision

    @property
    def extensions(self) -> Mapping[str, Any]:
        """The names of the limits that deny, as the registered problem type wants them."""
        views = self.decision.views
        return {"violated-policies": [view.limit.name for view in views if not view.allowed]}


class LimiterClosed(ServiceUnavailable):
    """The store failed, and a limit's policy is to refuse. `decision` says when to try again."""

    problem_type = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"

    def __init__(self, decision: Decision) -> None:
        limit = decision.limit.name
        super().__init__(
            f"the store of limit {limit!r} fails, and its policy is to refuse",
            retry_after=decision.retry_after,
        )
        self.decision = decision


class Seat:
    """A decision that waits to be decided: what both colours of a reservation are to begin with.

    Attributes:
        decision: what admitted it; None before entry.
        committed: whether its units shall count.
    """

    __slots__ = ("committed", "decision")

    def __init__(self) -> None:
        self.decision: Decision | None = None
        self.committed = False

    def commit(self) -> None:
        """Let the units count. Costs nothing: they do already."""
        self.committed = True


class Reservation(Seat):
    """Counts on entry, gives back on exit unless committed; for callers that block."""

    __slots__ = ("_cancel", "_enter")

    def __init__(self, enter: Callable[[], Decision], cancel: Callable[[Decision], bool]) -> None:
        super().__init__()
        self._enter = enter
        self._cancel = cancel

    def cancel(self) -> None:
        """Give the units back now; again, or after `commit`, it does nothing."""
        if self.decision is not None and not self.committed:
            self._cancel(self.decision)

    def __enter__(self) -> Self:
        self.decision = demanded(self._enter())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


class AsyncReservation(Seat):
    """Counts on entry, gives back on exit unless committed; for callers that await."""

    __slots__ = ("_cancel", "_enter")

    def __init__(
        self,
        enter: Callable[[], Awaitable[Decision]],
        cancel: Callable[[Decision], Awaitable[bool]],
    ) -> None:
        super().__init__()
        self._enter = enter
        self._cancel = cancel

    async def cancel(self) -> None:
        """Give the units back now; again, or after `commit`, it does nothing."""
        if self.decision is not None and not self.committed:
            await self._cancel(self.decision)

    async def __aenter__(self) -> Self:
        self.decision = demanded(await self._enter())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.cancel()
