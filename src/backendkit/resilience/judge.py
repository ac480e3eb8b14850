"""What came of a call: failed, slow, both, ignored, or well."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from backendkit.core import context
from backendkit.core.clock import Clock
from backendkit.core.errors import InvalidArgument, RateLimited
from backendkit.resilience.decide.windows import FAILED, IGNORED, OK, SLOW
from backendkit.resilience.errors import BulkheadFull, CallTimeout, CircuitOpen, NothingStarted

Classifier: TypeAlias = type[BaseException] | Callable[[Any], bool]
"""Exceptions: a class (abstract ones too), or a function that takes the exception and says whether it belongs."""

OWN_REFUSALS = (CircuitOpen, BulkheadFull, NothingStarted, RateLimited)
"""Nothing was called: that says nothing about the dependency."""


class Judge:
    """Classifies outcomes. A user's function that raises counts as a failure and is reported once.

    Args:
        on: what is a failure; an exception that is neither this nor excluded is a success.
        exclude: what is ignored.
        failed_result: tells whether a result is a failure; None: none is.
        clock: whose deadline a cancelled call may have run into.

    Attributes:
        on: as above.
        exclude: as above; replaced as a whole.
        failed_result: as above.
    """

    def __init__(
        self,
        *,
        on: Iterable[Classifier],
        exclude: Iterable[Classifier],
        failed_result: Callable[[Any], bool] | None,
        clock: Clock,
    ) -> None:
        self.on = tuple(on)
        self.exclude = tuple(exclude)
        self.failed_result = failed_result
        self._clock = clock
        self._report = Complaint("a classifier of outcomes raised, which counts as a failure")

    def of_error(self, error: BaseException, *, slow: bool) -> int:
        """Return the bits of a call that raised."""
        late = SLOW if slow else OK
        if not isinstance(error, Exception):
            if isinstance(error, CancelledError) and self._overdue():
                return late | FAILED
            return late or IGNORED
        if isinstance(error, OWN_REFUSALS):
            return IGNORED
        try:
            if belongs(error, self.exclude):
                return IGNORED
            failed = isinstance(error, CallTimeout) or belongs(error, self.on)
            return late | FAILED if failed else late
        except Exception as raised:  # noqa: BLE001 - a classifier never changes what the caller gets
            self._report(raised)
            return late | FAILED

    def of_result(self, result: object, *, slow: bool) -> int:
        """Return the bits of a call that returned."""
        late = SLOW if slow else OK
        if self.failed_result is None:
            return late
        try:
            return late | FAILED if self.failed_result(result) else late
        except Exception as raised:  # noqa: BLE001 - as above
            self._report(raised)
            return late | FAILED

    def is_failure(self, error: BaseException) -> bool:
        """Tell whether an exception counts against the dependency."""
        return bool(self.of_error(error, slow=False) & FAILED)

    def _overdue(self) -> bool:
        deadline = context.deadline_us()
        return deadline is not None and self._clock.mono_us() >= deadline


class Complaint:
    """Reports the first error of a user's function, in one record; later ones are the same news.

    Args:
        what: happened, and what follows from it.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._was_made = False

    def __call__(self, raised: Exception) -> None:
        """Report, the first time."""
        if not self._was_made:
            self._was_made = True
            logging.getLogger("backendkit.resilience").warning(
                "%s; further errors are not reported", self._what, exc_info=raised
            )


def classifiers(argument: str, given: Iterable[Classifier]) -> tuple[Classifier, ...]:
    """Return classifiers that can be asked.

    Raises:
        InvalidArgument: one is neither a class of exceptions nor a function; or a lone one stands for several.
    """
    if isinstance(given, type) or callable(given):
        raise InvalidArgument(argument, "must be several, as a tuple", given)
    found = tuple(given)
    for one in found:
        if not (issubclass(one, BaseException) if isinstance(one, type) else callable(one)):
            raise InvalidArgument(argument, "must hold classes of exceptions, or functions", one)
    return found


class Chosen:
    """The errors that a policy is for. A classifier that raises leaves the error out, and is reported once.

    Args:
        given: classes of exceptions, or functions that take one.
        what: it is reported as.
    """

    def __init__(self, given: Iterable[Classifier], what: str) -> None:
        self._classifiers = classifiers("on", given)
        self._complain = Complaint(what)

    def __contains__(self, error: Exception) -> bool:
        """Tell whether an error is one of them."""
        try:
            return belongs(error, self._classifiers)
        except Exception as raised:  # noqa: BLE001 - a classifier never changes what the caller gets
            self._complain(raised)
            return False


def belongs(error: Exception, classifiers: tuple[Classifier, ...]) -> bool:
    """Tell whether an error is of one of these classes, or one of these functions says that it belongs."""
    # pybreaker asks `type(x) is type`, which takes an abstract class for a function and so excludes everything.
    return any(
        isinstance(error, one) if isinstance(one, type) else one(error) for one in classifiers
    )
