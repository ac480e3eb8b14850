"""Calling what may fail: a circuit breaker for `def`, `async def` and generators, at a fraction of a microsecond.

    from backendkit.resilience import CircuitBreaker, CircuitOpen

    payments = CircuitBreaker("payments", window=100, failure_rate=0.5, minimum_calls=10, open_for=30, trials=3)

    @payments                                  # also: with payments: ..., payments.call(f, x), await payments.call_async(g, x)
    async def charge(order): ...

    try:
        await charge(order)
    except CircuitOpen as rejected:            # nothing ran; also a pybreaker.CircuitBreakerError
        later(rejected.retry_after)

- `CircuitBreaker` is a `pybreaker.CircuitBreaker`: names, listeners, exclusions, states. It opens when too large a share of
  the last calls failed or was slow, rejects for a while, lets a bounded number of trials through under a lease, and closes.
- `BreakerPolicy`: the numbers, each with its unit, range and default.
- `CircuitOpen`, `FailureInfo`: what a rejected caller learns. Any other error is the function's own, the same object.
- `Deadline`: how long a call may take with all that it calls. Nested ones take the minimum; `DeadlineExceeded` where it is
  over before the start. A call that is cancelled after its deadline counts as a failure of the breaker around it.
- `Retry`, `full_jitter`, `Budget`: tenacity's engine, entered only once a first attempt has failed; bounded by attempts, deadline, and
  a budget that is shared by all callers.
- `Timeout`, `Bulkhead`, `Fallback`, `Hedge`, `Chaos`: give up waiting, bound what runs at once, answer in another way, ask
  twice, break things on purpose. Each is called and decorates as the breaker does.
- `Pipeline`: several of them as one, for `def`, `async def` and generators; `Pipeline.canonical` knows the usual order.
- `CircuitRegistry`: a breaker per name and host, in bounded room, of which only a share may be open at once.
- `CircuitTransition`, `CircuitObserved`, `CircuitStrained`, `CircuitKeptClosed`: events, to the breaker's `hooks`; `breaker.totals`
  for metrics.

The state is this process's own, unless `store` shares it with others of the breaker's name. No lock is held while your code
runs, be it function, predicate or listener.
"""

from backendkit.core.errors import DeadlineExceeded
from backendkit.resilience.arguments import BreakerArguments
from backendkit.resilience.backoffs import FullJitter, full_jitter
from backendkit.resilience.budgets import Budget
from backendkit.resilience.bulkheads import Bulkhead
from backendkit.resilience.chaos import Chaos
from backendkit.resilience.deadlines import Deadline
from backendkit.resilience.errors import (
    BulkheadFull,
    CallTimeout,
    CircuitOpen,
    FailedResult,
    FailureInfo,
    NothingStarted,
    Rejection,
)
from backendkit.resilience.events import (
    CallRetried,
    CircuitKeptClosed,
    CircuitObserved,
    CircuitStrained,
    CircuitTransition,
)
from backendkit.resilience.face import CircuitBreaker
from backendkit.resilience.fallbacks import Fallback
from backendkit.resilience.hedges import Hedge
from backendkit.resilience.layers import Policy
from backendkit.resilience.machine import Totals
from backendkit.resilience.pipelines import HarmfulOrder, Pipeline
from backendkit.resilience.policy import BreakerPolicy
from backendkit.resilience.registry import CircuitRegistry
from backendkit.resilience.retries import Retry, RetryOptions
from backendkit.resilience.steps import Layer
from backendkit.resilience.timeouts import Timeout

__all__ = [
    "BreakerArguments",
    "BreakerPolicy",
    "Budget",
    "Bulkhead",
    "BulkheadFull",
    "CallRetried",
    "CallTimeout",
    "Chaos",
    "CircuitBreaker",
    "CircuitKeptClosed",
    "CircuitObserved",
    "CircuitOpen",
    "CircuitRegistry",
    "CircuitStrained",
    "CircuitTransition",
    "Deadline",
    "DeadlineExceeded",
    "FailedResult",
    "FailureInfo",
    "Fallback",
    "FullJitter",
    "HarmfulOrder",
    "Hedge",
    "Layer",
    "NothingStarted",
    "Pipeline",
    "Policy",
    "Rejection",
    "Retry",
    "RetryOptions",
    "Timeout",
    "Totals",
    "full_jitter",
]
