"""What HTTP clients do about a host that fails, whatever the client library: a breaker and retries per host.

A response with status 5xx is a failure, and so is an error of the connection or a timeout. 429 says nothing about the host's
health. Repeated are 429, 502, 503, 504 and errors of the connection, where that does no harm: the method is idempotent (RFC 9110
section 9.2.2) or the request carries an `Idempotency-Key`, and its body can be sent again. Retry-After is honoured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.resilience.asked import asked_us
from backendkit.resilience.backoffs import full_jitter
from backendkit.resilience.budgets import Budget
from backendkit.resilience.errors import NothingStarted
from backendkit.resilience.face import CircuitBreaker
from backendkit.resilience.judge import Classifier
from backendkit.resilience.layers import Policy
from backendkit.resilience.pipelines import Pipeline
from backendkit.resilience.registry import CircuitRegistry
from backendkit.resilience.retries import Retry

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110 section 9.2.2)."""

REPEATED = frozenset({429, 502, 503, 504})
"""Responses that a second attempt may better."""


class FailedResponse(Exception):
    """A response that counts as a failure on its way through the policies; callers get the response itself.

    Attributes:
        response: of the client library.
        status: its status.
        retry_after: seconds that it asks for; None: it does not.
    """

    def __init__(self, response: Any, wall_us: int) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response
        self.status: int = response.status_code
        asked = asked_us(response, wall_us)
        self.retry_after = None if asked is None else asked / SECOND_US


class Faults(NamedTuple):
    """A client library's exceptions.

    Attributes:
        failures: that count against the host.
        unsent: that prove that the host has not seen the request.
        own: that say nothing about the host.
    """

    failures: tuple[type[Exception], ...]
    unsent: tuple[type[Exception], ...]
    own: tuple[type[Exception], ...]


class Upstream:
    """Policies for requests, per host. One object serves any number of clients, threads and event loops.

    Args:
        name: of the circuits, as `name/host`.
        breakers: where they are; None: a registry of its own, with breakers that open at half of the last 100 calls.
        attempts: at most so many, the first included, 1..1,000.
        repeats: methods that are repeated.
        header: in which the time that is left is told to the host, like `X-Request-Timeout`; None: it is not.
        clock: None: the machine's.
    """

    def __init__(
        self,
        name: str = "http",
        *,
        breakers: CircuitRegistry | None = None,
        attempts: int = 3,
        repeats: Iterable[str] = IDEMPOTENT,
        header: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if header is not None and not re.fullmatch(r"[A-Za-z0-9-]{1,64}", header):
            raise InvalidArgument("header", "must be 1..64 letters, digits or hyphens", header)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.breakers = CircuitRegistry(clock=self.clock) if breakers is None else breakers
        self._name = name
        self._attempts = attempts
        self._repeats = frozenset(method.upper() for method in repeats)
        self._header = header

    def policy(self, host: str, faults: Faults, *, twice: bool) -> Policy:
        """Return what a request goes through.

        Args:
            host: with its port, unless that is the usual one.
            faults: of the client library.
            twice: whether the request may be sent again after the host may have seen it.
        """
        breaker = self.breakers.get(self._name, host)
        made = self._made(breaker)
        policy = made.get((faults, twice))
        if policy is None:
            _look(breaker, faults)
            policy = made.setdefault((faults, twice), self._pipeline(breaker, faults, twice))
        return policy

    def may_repeat(self, method: str, headers: Any) -> bool:
        """Tell whether a request may be sent again, as far as its method and headers say."""
        return method.upper() in self._repeats or "Idempotency-Key" in headers

    def remaining(self) -> float | None:
        """Return the seconds that the work at hand still has; None: no limit.

        Raises:
            NothingStarted: none are left.
        """
        moment = context.deadline_us()
        if moment is None:
            return None
        left = moment - self.clock.mono_us()
        if left <= 0:
            raise NothingStarted("the deadline was over before the request was sent")
        return left / SECOND_US

    def tell(self, headers: MutableMapping[str, str], left: float | None) -> None:
        """Tell the host how long its answer is worth waiting for."""
        if self._header is not None and left is not None:
            headers[self._header] = f"{left:.6f}"

    def checked(self, response: Any) -> Any:
        """Return a response, or raise it where it is a failure or may be worth another attempt.

        Raises:
            FailedResponse: it is.
        """
        if response.status_code >= 500 or response.status_code in REPEATED:
            raise FailedResponse(response, self.clock.wall_us())
        return response

    def _made(self, breaker: CircuitBreaker) -> _Made:
        """Return what was made for a breaker, which keeps it: policies hold their breaker, and should go with it."""
        kept = vars(breaker).setdefault(_KEPT, WeakKeyDictionary[Upstream, _Made]())
        made: _Made | None = kept.get(self)
        return kept.setdefault(self, _Made(Budget(clock=self.clock))) if made is None else made

    def _pipeline(
        self,
        breaker: CircuitBreaker,
        faults: Faults,
        twice: bool,  # noqa: FBT001 - private
    ) -> Policy:
        retry = Retry(
            on=(_repeated(faults, twice=twice),),
            attempts=self._attempts,
            backoff=full_jitter(0.1, cap=2),
            budget=self._made(breaker).budget,
            name=self._name,
            clock=self.clock,
        )
        return Pipeline(retry, breaker)


class _Made(dict[tuple[Faults, bool], Policy]):
    """The policies of one host, for each client library, and for requests that may be repeated or not.

    Args:
        budget: of the repetitions of all of them.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.budget = budget


_KEPT = "__backendkit_upstreams__"


def _repeated(faults: Faults, *, twice: bool) -> Callable[[Exception], bool]:
    def repeated(error: Exception) -> bool:
        if isinstance(error, FailedResponse):
            return twice and error.status in REPEATED
        return isinstance(error, faults.unsent) or (
            twice and isinstance(error, faults.failures) and not isinstance(error, faults.own)
        )

    return repeated


def _look(breaker: CircuitBreaker, faults: Faults) -> None:
    """Have a breaker ignore what says nothing about the host, once for each client library."""
    ignored: tuple[Classifier, ...] = (*faults.own, _limited, _is_callers)
    for excluded in ignored:
        if excluded not in breaker.excluded_exceptions:
            breaker.add_excluded_exception(excluded)


def _limited(error: Exception) -> bool:
    """Tell whether a host is well, and only wants fewer requests."""
    return isinstance(error, FailedResponse) and error.status == 429


@contextmanager
def blamed(faults: Faults, *, replayable: bool) -> Generator[None]:
    """Send a request in this block: what a body that is read meanwhile raises is its caller's, and says nothing about the host."""
    try:
        yield
    except faults.failures:
        raise
    except Exception as error:
        if not replayable:
            error.__dict__[_CALLERS] = True
        raise


def _is_callers(error: Exception) -> bool:
    return _CALLERS in error.__dict__


_CALLERS = "__backendkit_callers__"


class Attempts:
    """One request's attempts: of the responses only the last one is left open."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: Any = None

    def take(self) -> Any:
        """Return the response before this attempt, to be closed; None: there was none."""
        last, self.last = self.last, None
        return last
