"""What this feature raises of its own; whatever else a caller sees is the called function's.

ServiceUnavailable
└── CircuitOpen     503  CIRCUIT_OPEN    also a pybreaker.CircuitBreakerError: rejected, nothing was called
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pybreaker

from backendkit.core.clock import SECOND_US
from backendkit.core.errors import ServiceUnavailable


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

    def __init__(self, circuit: Rejection, retry_after_us: int | None) -> None:
        # An open circuit makes thousands of these a second, and most are only caught: `AppError` is set up by
        # `__getattr__`, once somebody looks.
        self.circuit = circuit
        self.retry_after = None if retry_after_us is None else retry_after_us / SECOND_US

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
        if name not in {"reason", "details", "headers", "params"}:
            raise AttributeError(name=name, obj=self)
        ServiceUnavailable.__init__(self, str(self), retry_after=self.retry_after)
        return self.__dict__[name]

    def __reduce__(self) -> tuple[Any, ...]:
        wait = self.retry_after
        return type(self), (self.circuit, None if wait is None else round(wait * SECOND_US))
