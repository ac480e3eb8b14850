"""What a breaker takes by keyword."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from backendkit.core.checks import Duration
from backendkit.core.events import Hooks
from backendkit.core.store import Store
from backendkit.resilience.judge import Classifier
from backendkit.resilience.policy import BreakerOptions
from backendkit.resilience.standing import refuse_foreign
from backendkit.resilience.telling import Listener


class BreakerArguments(BreakerOptions, total=False):
    """What `CircuitBreaker` takes by keyword, beside `policy`, `clock` and `chance`.

    The options of `BreakerPolicy`, and:

    - `on`: what is a failure, classes of exceptions or functions that take one; by default every `Exception`.
    - `exclude`: what is ignored, in the same terms. It enters no count, and pybreaker's listeners hear of no success.
    - `failed_result`: a function that tells of a result whether it is a failure.
    - `listeners`: pybreaker's listeners.
    - `hooks`: who takes event records.
    - `fail_max`, `reset_timeout`, `success_threshold`: as in pybreaker: opens at so many failures in a row, for so
      many seconds each time, and closes after so many trials without a failure.
    - `state_storage`, `throw_new_error_on_trip`: refused, with a reason.
    - `store`: where the state lives that breakers of this name share, in all processes; None: in this object alone.
    - `namespace`: separates applications that share a server: letters, digits and `. _ -`.
    - `coalesce`: for how long good calls may wait to be told to the store together, 0..1 s; 0: each is told at once.
    """

    on: Iterable[Classifier]
    exclude: Iterable[Classifier]
    failed_result: Callable[[Any], bool] | None
    listeners: Iterable[Listener]
    hooks: Hooks
    fail_max: int
    reset_timeout: float
    success_threshold: int
    store: Store | None
    namespace: str
    coalesce: Duration
    state_storage: None
    throw_new_error_on_trip: bool


def checked(arguments: BreakerArguments) -> dict[str, Any]:
    """Return the arguments as a dict, without what pybreaker takes and this refuses.

    Raises:
        InvalidArgument: one that is refused was given.
        TypeError: one that does not exist, as by a signature.
    """
    given = cast("dict[str, Any]", dict(arguments))
    known = {**BreakerOptions.__annotations__, **BreakerArguments.__annotations__}
    for name in given.keys() - known.keys():
        raise TypeError(f"CircuitBreaker() got an unexpected keyword argument {name!r}")
    refuse_foreign(given)
    if "fail_max" in given and "trials" not in given:
        given.setdefault("success_threshold", 1)  # pybreaker's default
    return given
