"""What this feature raises of its own; whatever else a caller sees is the called function's.

ServiceUnavailable
├── CircuitOpen        503  CIRCUIT_OPEN    also a pybreaker.CircuitBreakerError: rejected, nothing was called
└── Overloaded
    └── BulkheadFull   503  BULKHEAD_FULL   no room in time, nothing was called
DeadlineExceeded
├── NothingStarted     504  DEADLINE_EXCEEDED  it was over before the call
└── CallTimeout        504  CALL_TIMEOUT    also a TimeoutError: the call was given up
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

import pybreaker

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import DeadlineExceeded, Overloaded, ServiceUnavailable


class FailureInfo(NamedTuple):
    """What is kept of a failure: no exception object, which would keep its frames alive.

    Attributes:
        type: the exception's class, as `module.Name`.
        message: its text, at most 200 characters.
        at_us: when, in microseconds since 1970.
    """

    type: str
    message: str
    at_us: int

    def __repr__(self) -> str:
        """Leave the text out: it is another call's, and whoever logs a rejection did not ask for it."""
        return f"FailureInfo(type={self.type!r}, at_us={self.at_us})"


class FailedResult(Exception):
    """Told to listeners where a result, not an exception, was a failure; never raised."""

    def __init__(self, result: object) -> None:
        super().__init__(f"a {type(result).__name__} that counts as a failure")
        self.result = result


class Rejection(NamedTuple):
    """What a rejecting circuit knows.

    Attributes:
        name: of the circuit.
        state: its mode.
        opened_at_us: when it opened, in microseconds since 1970; 0: it never did.
        failure_rate: the share of failures that opened it.
        last_failure: the last one; None: there was none.
    """

    name: str
    state: str
    opened_at_us: int
    failure_rate: float
    last_failure: FailureInfo | None


class CircuitOpen(ServiceUnavailable, pybreaker.CircuitBreakerError):
    """The circuit rejected the call: nothing ran.

    Attributes:
        circuit: name, state, opened_at_us, failure_rate and last_failure of the circuit.
        retry_after: seconds after which asking again makes sense, at the latest; None: unknown.
    """

    code = "CIRCUIT_OPEN"

    circuit: Rejection

    if TYPE_CHECKING:

        def __init__(self, circuit: Rejection, retry_after_us: int | None) -> None: ...

    else:
        # An open circuit makes thousands of these a second, and most are only caught: the constructor is the
        # language's own, and what it was given is unpacked by `__getattr__`, once somebody looks.
        __init__ = Exception.__init__

    @property
    def name(self) -> str:
        """The circuit's name."""
        return self.circuit.name

    @property
    def state(self) -> str:
        """The circuit's mode."""
        return self.circuit.state

    @property
    def opened_at_us(self) -> int:
        """When the circuit opened, in microseconds since 1970; 0: it never did."""
        return self.circuit.opened_at_us

    @property
    def failure_rate(self) -> float:
        """The share of failures that opened the circuit."""
        return self.circuit.failure_rate

    @property
    def last_failure(self) -> FailureInfo | None:
        """The last failure of the circuit; None: there was none."""
        return self.circuit.last_failure

    def __str__(self) -> str:
        circuit, wait = self.circuit, self.retry_after
        text = f"circuit {circuit.name!r} is {circuit.state}"
        return text if wait is None else f"{text}; retry after {wait:.3f} s"

    def __getattr__(self, name: str) -> Any:
        if name not in {"circuit", "retry_after", "reason", "details", "headers", "params"}:
            raise AttributeError(name=name, obj=self)
        circuit, wait_us = self.args
        self.circuit = circuit
        self.retry_after = None if wait_us is None else wait_us / SECOND_US
        ServiceUnavailable.__init__(self, str(self), retry_after=self.retry_after)
        self.args = circuit, wait_us
        return self.__dict__[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class BulkheadFull(Overloaded):
    """As many calls run as may, and none ended in time: nothing was called.

    Attributes:
        name: the bulkhead's.
        limit: how many calls it lets run at once; None: as many as the pool of a timeout has threads.
    """

    code = "BULKHEAD_FULL"

    def __init__(self, name: str, limit: int | None) -> None:
        room = "no thread was free in time" if limit is None else f"{limit} calls are running"
        super().__init__(f"bulkhead {name!r} is full: {room}")
        self.name = name
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.limit)


class NothingStarted(DeadlineExceeded):
    """The deadline was over before the call: nothing was called, which says nothing about what would have been."""


class CallTimeout(DeadlineExceeded, TimeoutError):
    """A call took longer than it was given, and is no longer waited for.

    Attributes:
        after: the seconds that it was given.
        worker: what it still runs in, where it could not be interrupted; None: it has ended.
    """

    code = "CALL_TIMEOUT"

    def __init__(self, after_us: int, worker: Future[Any] | None = None) -> None:
        super().__init__(f"no answer within {after_us / SECOND_US:.3f} s")
        self.after = after_us / SECOND_US
        self.worker = worker

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (round(self.after * SECOND_US),)
