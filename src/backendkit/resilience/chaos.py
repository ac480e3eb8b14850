"""Breaking things on purpose, to see what holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.errors import InvalidArgument
from backendkit.resilience.chance import Chance, system_chance
from backendkit.resilience.layers import OpeningPolicy
from backendkit.resilience.policy import PPM, share
from backendkit.resilience.steps import Args, Function, Kwargs, Step

_NOTHING = object()


class Chaos(OpeningPolicy):
    """Makes a share of the calls slow, or lets them fail, or answers in their place. Off unless `enabled`.

    Args:
        rate: the share of calls that it meets, above 0 and at most 1.
        latency: how much later they begin; None: not.
        fault: makes the error that they raise, like `ConnectionError`; None: none.
        result: what they return without being called; left out: what they return.
        enabled: whether it does anything, or a function that says so at each call.
        chance: draws from 0 up to 1, `random.Random(7).random` for one that repeats itself; None: the operating system.
        clock: whose `sleep` is the latency; None: the machine's.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self,
        *,
        rate: float,
        latency: Duration | None = None,
        fault: Callable[[], BaseException] | None = None,
        result: object = _NOTHING,
        enabled: bool | Callable[[], bool] = False,
        chance: Chance | None = None,
        clock: Clock | None = None,
    ) -> None:
        if fault is not None and not callable(fault):
            raise InvalidArgument("fault", "must be a class or a function that makes one", fault)
        self._rate = share("rate", rate) / PPM
        self._latency_us = 0 if latency is None else checks.duration_us("latency", latency)
        self._fault = fault
        self._result = result
        self._enabled = enabled
        self._chance = chance or system_chance()
        self._clock: Clock = SystemClock() if clock is None else clock

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""

        def shaken(func: Function, args: Args, kwargs: Kwargs) -> Any:
            if not self._hits():
                return inner(func, args, kwargs)
            self._clock.sleep(self._latency_us)
            self._raise()
            return inner(func, args, kwargs) if self._result is _NOTHING else self._result

        return shaken

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""

        async def shaken(func: Function, args: Args, kwargs: Kwargs) -> Any:
            if not self._hits():
                return await inner(func, args, kwargs)
            await self._clock.sleep_async(self._latency_us)
            self._raise()
            return await inner(func, args, kwargs) if self._result is _NOTHING else self._result

        return shaken

    def _hits(self) -> bool:
        enabled = self._enabled
        if enabled is False:
            return False
        return (enabled is True or bool(enabled())) and self._chance() < self._rate

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault()
