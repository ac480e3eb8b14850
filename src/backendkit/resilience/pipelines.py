"""Several policies as one, in an order that makes sense.

From the outside in: Fallback, Deadline, Retry, Hedge, CircuitBreaker, Timeout, Bulkhead, Chaos. So each attempt has its
own timeout and is seen by the breaker, a rejection is worth a retry only if the deadline allows it, pauses hold no slot, and
whatever fails in the end is answered by the fallback.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from backendkit.core.errors import InvalidArgument
from backendkit.resilience import marks
from backendkit.resilience.bulkheads import Bulkhead
from backendkit.resilience.chaos import Chaos
from backendkit.resilience.deadlines import Deadline
from backendkit.resilience.face import CircuitBreaker
from backendkit.resilience.fallbacks import Fallback
from backendkit.resilience.hedges import Hedge
from backendkit.resilience.layers import Policy
from backendkit.resilience.retries import Retry
from backendkit.resilience.steps import Layer, Step
from backendkit.resilience.timeouts import Timeout

CANONICAL: Final = (
    Fallback, Deadline, Retry, Hedge, CircuitBreaker, Timeout, Bulkhead, Chaos,
)  # fmt: skip
"""The order, from the outside in."""


class HarmfulOrder(UserWarning):
    """The layers of a pipeline work against each other."""


class Pipeline(Policy):
    """Calls through all of its layers, the first one outermost. Itself a layer of others.

    One object serves `def`, `async def` and generators of both kinds, any number of calls, threads and event loops. The order is the one
    given; `canonical` brings it into the usual one. An order that defeats its own layers is accepted with a `HarmfulOrder`
    warning. A coroutine through retry, breaker, timeout and bulkhead costs about 3 us more, within fallback and deadline 4 us.

    Args:
        *layers: policies, circuit breakers, pipelines.

    Raises:
        InvalidArgument: something else is among them.
    """

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not isinstance(layer, Policy | CircuitBreaker):
                raise InvalidArgument("layers", "must be policies of this package", layer)
        self._layers = tuple(_flat(layers))
        for text in harms(self._layers):
            warnings.warn(text, HarmfulOrder, stacklevel=2)

    @classmethod
    def canonical(cls, *layers: Layer) -> Pipeline:
        """Return a pipeline of these layers in the usual order."""
        return cls(*sorted(_flat(layers), key=_rank))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the outside in."""
        return self._layers

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""
        return self._built(inner, lambda layer: layer.around)

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        return self._built(inner, lambda layer: layer.around_async)

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""
        return self._built(inner, lambda layer: layer.around_stream)

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""
        return self._built(inner, lambda layer: layer.around_async_stream)

    def _built(self, inner: Step, around: Callable[[Layer], Callable[[Step], Step]]) -> Step:
        retries = [layer.budget for layer in self._layers if isinstance(layer, Retry)]
        budgets = [budget for budget in retries if budget is not None]
        for layer in reversed(_with_waits_outside(self._layers)):
            outer = around(layer.inside(budgets) if isinstance(layer, Hedge) else layer)(inner)
            inner = marks.passed_on(inner, outer)
        return inner


def harms(layers: Sequence[Layer]) -> Iterator[str]:
    """Yield what is wrong with an order, in a sentence each."""
    kinds = [_kind(layer) for layer in layers]
    for outer, inner, text in _HARMS:
        if outer in kinds and inner in kinds[kinds.index(outer) + 1 :]:
            yield text
    if Timeout in kinds and Retry in kinds[kinds.index(Timeout) :] and Deadline not in kinds:
        yield "Timeout around Retry bounds all attempts together: use a Deadline for that, and a Timeout inside Retry"
    yield from _too_short_leases(layers)
    for kind in (Retry, Hedge, CircuitBreaker):
        if kinds.count(kind) > 1:
            yield f"{kind.__name__} occurs more than once: attempts multiply, verdicts disagree"


_HARMS: Final[tuple[tuple[type, type, str], ...]] = (
    (CircuitBreaker, Retry, "Retry inside CircuitBreaker: the breaker sees the last attempt only, and is not asked before others"),
    (CircuitBreaker, Fallback, "Fallback inside CircuitBreaker hides failures from it: it never opens"),
    (Retry, Fallback, "Fallback inside Retry hides failures from it: nothing is repeated"),
    (Retry, Deadline, "Deadline inside Retry gives every attempt new time: use a Timeout there"),
    (Bulkhead, Retry, "Retry inside Bulkhead: a call holds its slot while it pauses"),
    (Hedge, Retry, "Retry inside Hedge: every copy repeats for itself"),
)  # fmt: skip


def _too_short_leases(layers: Sequence[Layer]) -> Iterator[str]:
    timeouts = [layer.after_us for layer in layers if isinstance(layer, Timeout)]
    for breaker in layers:
        if isinstance(breaker, CircuitBreaker) and timeouts:
            lease_us = breaker.policy.rules().lease_us
            if lease_us <= max(timeouts):
                yield f"the lease of breaker {breaker.name!r} is not longer than the timeout: trials that are only slow fail"


def _flat(layers: Sequence[Layer]) -> Iterator[Layer]:
    for layer in layers:
        if isinstance(layer, Pipeline):
            yield from layer.layers
        else:
            yield layer


def _kind(layer: Layer) -> type:
    return next((kind for kind in CANONICAL if isinstance(layer, kind)), type(layer))


def _rank(layer: Layer) -> int:
    return CANONICAL.index(_kind(layer))


def _with_waits_outside(layers: Sequence[Layer]) -> list[Layer]:
    """Let the time of a timeout begin when its bulkhead has room: waiting for a turn is not the dependency's doing."""
    found = list(layers)
    for place in range(len(found) - 1):
        if isinstance(found[place], Timeout) and isinstance(found[place + 1], Bulkhead):
            found[place], found[place + 1] = found[place + 1], found[place]
    return found
