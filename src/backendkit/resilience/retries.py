"""Trying again: tenacity's engine, entered only once a first attempt has failed.

tenacity spends 30 to 90 microseconds on a call that succeeds at once. Here the first attempt is an ordinary call; if
it fails, the engine starts with that failure as its attempt 1, at the time when the attempt truly began, and goes on
from there. What has to see every call from its start, a judged result or a hook before attempts, takes tenacity's own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypedDict, Unpack, cast

import tenacity
from tenacity import RetryCallState

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.events import Hooks
from backendkit.resilience.backoffs import full_jitter
from backendkit.resilience.budgets import Budget, Unlimited
from backendkit.resilience.judge import Chosen, Classifier, Complaint
from backendkit.resilience.layers import OpeningPolicy
from backendkit.resilience.series import Pause, Series, Terms
from backendkit.resilience.steps import Args, Function, Kwargs, Step


class RetryOptions(TypedDict, total=False):
    """What `Retry` takes beside `on`, `attempts`, `backoff`, `budget` and `within`.

    - `name`: of its events; `"retry"`.
    - `failed_result`: tells of a result whether to try again; the last one is returned, whatever it is.
    - `longest_wait`: a Retry-After beyond this is not waited for; 60 s.
    - `stop`: a stop of tenacity's, beside the bounds given here.
    - `before`, `after`, `before_sleep`: tenacity's hooks, which take its `RetryCallState`.
    - `hooks`: who takes event records.
    - `clock`: whose `sleep` is the pause; None: the machine's.
    """

    name: str
    failed_result: Callable[[Any], bool] | None
    longest_wait: Duration
    stop: Callable[[RetryCallState], bool] | None
    before: Callable[[RetryCallState], Any] | None
    after: Callable[[RetryCallState], Any] | None
    before_sleep: Callable[[RetryCallState], Any] | None
    hooks: Hooks
    clock: Clock | None


class Retry(OpeningPolicy):
    """Calls again what failed for a reason that may pass: after a pause, within bounds, and out of a budget.

    The caller gets the last attempt's own exception, the same object, or its result. A pause is as long as a
    Retry-After asks for (an error's `retry_after`, or the header of its `response` with status 429 or 503), else what
    the backoff says. A pause that would not end before the deadline is not begun: the failure is raised at once. A
    cancelled call, `KeyboardInterrupt` and their like are never repeated. An open circuit is waited for only where `on`
    names it, it says for how long, and a deadline or `within` is there to bound it. Of a stream, only what comes before the
    first item is repeated. Repeat only what may happen twice.

    A call that succeeds at once costs 0.3 us more.

    Args:
        on: what to repeat: classes of exceptions, or functions that take one and say whether.
        attempts: at most so many, the first included, 1..1,000.
        backoff: pauses; any wait of tenacity's will do. None: `full_jitter(0.1, cap=5)`.
        budget: what repetitions are paid from; None: they cost nothing.
        within: no attempt starts later than this after the first; None: only the deadline in force counts.
        **options: see `RetryOptions`.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self,
        *,
        on: Iterable[Classifier],
        attempts: int = 3,
        backoff: Pause | None = None,
        budget: Budget | None = None,
        within: Duration | None = None,
        **options: Unpack[RetryOptions],
    ) -> None:
        self.hooks: Hooks = options.get("hooks") or Hooks()
        self._budget: Budget | Unlimited = Unlimited() if budget is None else budget
        stop = options.get("stop")
        self._terms = Terms(
            name=checks.name("name", options.get("name", "retry")),
            on=Chosen(on, _RAISED),
            complain=Complaint(_RAISED),
            attempts=checks.whole("attempts", attempts, least=1, most=1000),
            backoff=full_jitter() if backoff is None else backoff,
            budget=self._budget,
            within_us=None if within is None else checks.duration_us("within", within),
            longest_us=checks.duration_us("longest_wait", options.get("longest_wait", 60.0)),
            failed_result=options.get("failed_result"),
            stop=tenacity.stop_never if stop is None else stop,
            before=options.get("before"),
            hooks=self.hooks,
            clock=options.get("clock") or SystemClock(),
        )
        hooked = {
            name: options.get(name) for name in ("after", "before_sleep") if options.get(name)
        }
        self._engine = tenacity.Retrying(sleep=self._sleep, **cast("Any", hooked))
        self._engine_async = tenacity.AsyncRetrying(sleep=self._sleep_async, **cast("Any", hooked))

    @property
    def name(self) -> str:
        """What its events call it."""
        return self._terms.name

    @property
    def budget(self) -> Budget | None:
        """What repetitions are paid from; None: they cost nothing."""
        return self._budget if isinstance(self._budget, Budget) else None

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""
        terms, budget, engine = self._terms, self._budget, self._engine
        now_us, repeats = terms.clock.mono_us, terms.repeats

        def attempted(func: Function, args: Args, kwargs: Kwargs) -> Any:
            budget.calls += 1
            started = now_us()
            try:
                return inner(func, args, kwargs)
            except Exception as error:
                if not repeats(error):
                    raise
                first = error
            series = Series(terms, inner, (func, args, kwargs), started, first)
            del first  # it would keep this frame, and the frame it
            return series.of(engine)(series.attempt)

        def judged(func: Function, args: Args, kwargs: Kwargs) -> Any:
            budget.calls += 1
            series = Series(terms, inner, (func, args, kwargs), now_us())
            return series.of(engine)(series.attempt)

        return attempted if terms.are_short else judged

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        terms, budget, engine = self._terms, self._budget, self._engine_async
        now_us, repeats = terms.clock.mono_us, terms.repeats

        async def attempted(func: Function, args: Args, kwargs: Kwargs) -> Any:
            budget.calls += 1
            started = now_us()
            try:
                return await inner(func, args, kwargs)
            except Exception as error:
                if not repeats(error):
                    raise
                first = error
            series = Series(terms, inner, (func, args, kwargs), started, first)
            del first
            return await series.of(engine)(series.attempt_async)

        async def judged(func: Function, args: Args, kwargs: Kwargs) -> Any:
            budget.calls += 1
            series = Series(terms, inner, (func, args, kwargs), now_us())
            return await series.of(engine)(series.attempt_async)

        return attempted if terms.are_short else judged

    def _sleep(self, seconds: float) -> None:
        self._terms.clock.sleep(round(seconds * SECOND_US))

    async def _sleep_async(self, seconds: float) -> None:
        await self._terms.clock.sleep_async(round(seconds * SECOND_US))


_RAISED = "a classifier of retries raised, which repeats nothing"
