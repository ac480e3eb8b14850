"""The circuit breaker that users hold: pybreaker's class, with another call path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, Unpack, overload

import pybreaker

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.events import Hooks
from backendkit.resilience import wrappers
from backendkit.resilience.arguments import BreakerArguments, checked
from backendkit.resilience.asking import take_shared
from backendkit.resilience.blocks import Blocks
from backendkit.resilience.chance import Chance, system_chance
from backendkit.resilience.decide.circuit import MODES, Mode
from backendkit.resilience.errors import FailureInfo
from backendkit.resilience.gate import Gate
from backendkit.resilience.judge import Classifier, Judge
from backendkit.resilience.machine import Group, Machine, Totals
from backendkit.resilience.policy import BreakerOptions, BreakerPolicy
from backendkit.resilience.shared import SharedMachine
from backendkit.resilience.standing import (
    MachineStorage,
    consecutive_options,
    mode_of,
    state_object,
)
from backendkit.resilience.steps import Step, kind_of
from backendkit.resilience.telling import Listener, Teller

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class CircuitBreaker(Blocks, pybreaker.CircuitBreaker):  # type: ignore[misc] # `calling` there is no type
    """Stops calling what fails, finds out whether it has recovered, and lets calls through again.

    It is a `pybreaker.CircuitBreaker`: its listeners, exclusions, state names and `except CircuitBreakerError` go on
    working. Safe to use from any thread and event loop at once. The caller always gets the function's own result or
    exception; only a rejected call, which ran nothing, raises `CircuitOpen`.

    Args:
        name: 1..128 printable ASCII characters; what errors and events call it.
        policy: the options of `BreakerPolicy`, instead of naming them one by one.
        clock: None: the machine's.
        chance: draws the jitter of openings; None: seeded by the operating system.
        group: breakers of which not all may be open at once, see `CircuitRegistry`; None: it is on its own.
        **arguments: see `BreakerArguments`.

    Raises:
        InvalidArgument: naming the option, its rule and the value.
    """

    def __init__(
        self,
        name: str,
        *,
        policy: BreakerPolicy | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        group: Group | None = None,
        **arguments: Unpack[BreakerArguments],
    ) -> None:
        given = checked(arguments)
        watch = SystemClock() if clock is None else clock
        self._judge = Judge(
            on=given.pop("on", (Exception,)),
            exclude=given.pop("exclude", None) or (),
            failed_result=given.pop("failed_result", None),
            clock=watch,
        )
        listeners = list(given.pop("listeners", None) or ())
        hooks: Hooks | None = given.pop("hooks", None)
        self.hooks = Hooks() if hooks is None else hooks
        shared = take_shared(given)
        numbers = consecutive_options(given) | given
        self._policy = replace(policy or BreakerPolicy(), **numbers)
        self._teller = Teller(
            self, name_of=lambda: self.name, state_of=self._state_object, hooks=self.hooks
        )
        self._machine = self._made(checks.name("name", name), shared, watch, chance, group)
        self._states = {mode: state_object(self, mode) for mode in MODES}
        super().__init__(
            exclude=list(self._judge.exclude),
            listeners=listeners,
            state_storage=MachineStorage(self._machine),
            name=name,
            throw_new_error_on_trip=False,
        )
        self._gate = Gate(
            lambda: self.name, self._machine, judge=self._judge, teller=self._teller, clock=watch
        )
        self._look_again()

    @property
    def name(self) -> str:
        """What errors and events call it."""
        return self._name or ""

    @name.setter
    def name(self, name: str) -> None:
        self._name = checks.name("name", name)
        self._machine.rename(name)
        self._gate.observe()

    @property
    def policy(self) -> BreakerPolicy:
        """The options in force."""
        return self._policy

    @property
    def idle(self) -> bool:
        """Whether nothing is lost with it: it is closed, or was open and its time is over."""
        return self._machine.idle

    def reconfigure(self, **options: Unpack[BreakerOptions]) -> None:
        """Go on under other options; those that are not named stay. Arguments that are none of a policy are left out."""
        names = BreakerOptions.__annotations__
        self._adopt({name: value for name, value in options.items() if name in names})

    def leave_group(self) -> None:
        """Count no longer among the breakers of which not all may be open."""
        self._machine.leave_group()

    @property
    def totals(self) -> Totals:
        """Outcomes since it was made; cheap, and exact only while nothing runs."""
        return self._machine.totals()

    @property
    def window(self) -> tuple[int, int, int]:
        """Calls, failed and slow ones in the window; of a shared circuit those of all processes, as last heard of."""
        return self._machine.window()

    @property
    def last_failure(self) -> FailureInfo | None:
        """The last failure; None: there was none."""
        return self._gate.last_failure

    @overload  # type: ignore[override] # pybreaker's takes anything, and returns any function
    def __call__(self, func: F, /) -> F: ...
    @overload
    def __call__(self, /) -> Callable[[F], F]: ...
    def __call__(self, func: Any = None, /) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] # as above
        """Decorate a function, a coroutine function, or a generator of either kind; it stays what it is."""
        if func is None:
            return self.__call__
        return wrappers.guarded(self._gate, func)

    def call(self, func: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:  # type: ignore[override] # a keyword named func is the user's
        """Call `func`; of a generator function, the permit is taken at its first item.

        Raises:
            CircuitOpen: rejected; nothing ran.
            TypeError: `func` is a coroutine function, see `call_async`.
        """
        kind = kind_of(func)
        if kind == "coroutine":
            raise TypeError(
                f"call() would not await {func!r}\nTo fix it: await breaker.call_async(func, ...)"
            )
        result: R = (
            wrappers.call(self._gate, func, args, kwargs)
            if kind == "function"
            else wrappers.guarded(self._gate, func)(*args, **kwargs)
        )
        return result

    async def call_async(  # type: ignore[override] # as above
        self, func: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any
    ) -> R:
        """Call `func` and await what it returns.

        Raises:
            CircuitOpen: rejected; nothing ran.
        """
        result: R = await wrappers.call_async(self._gate, func, args, kwargs)
        return result

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions; as the next three, what a `Pipeline` asks its layers for."""
        return wrappers.around(self._gate, inner)

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        return wrappers.around_async(self._gate, inner)

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""
        return wrappers.around_stream(self._gate, inner)

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""
        return wrappers.around_async_stream(self._gate, inner)

    @property
    def current_state(self) -> str:
        """The mode; an opening whose time is over reads `open` until somebody calls."""
        return self._machine.mode

    @property
    def state(self) -> Any:
        """The state object, of pybreaker's classes; assign one of the six names to set it by hand."""
        return self._states[self._machine.mode]

    @state.setter
    def state(self, state_str: str) -> None:
        self._force(mode_of(state_str))

    def open(self) -> bool:
        """Open the circuit for its usual time. Returns False: the tripping exception is never replaced."""
        self._force("open")
        return False

    def half_open(self) -> None:
        """Let trials through now."""
        self._force("half-open")

    def close(self) -> None:
        """Close the circuit, with an empty window."""
        self._force("closed")

    def force_open(self) -> None:
        """Reject every call until told otherwise."""
        self._force("forced-open")

    def disable(self) -> None:
        """Let every call through and record nothing, until told otherwise."""
        self._force("disabled")

    def measure_only(self) -> None:
        """Let every call through and record, until told otherwise."""
        self._force("metrics-only")

    @property
    def fail_max(self) -> int:
        """Calls before a verdict; assign a number of failures in a row at which to open."""
        return self._policy.minimum_calls

    @fail_max.setter
    def fail_max(self, number: int) -> None:
        self._adopt(consecutive_options({"fail_max": number}))

    @property
    def reset_timeout(self) -> float:
        """Seconds that the first opening lasts."""
        return self._machine.rules.open_us / SECOND_US

    @reset_timeout.setter
    def reset_timeout(self, timeout: float) -> None:
        self._adopt(consecutive_options({"reset_timeout": timeout}))

    @property
    def success_threshold(self) -> int:
        """Trials of a half-open circuit."""
        return self._policy.trials

    @success_threshold.setter
    def success_threshold(self, threshold: int) -> None:
        self._adopt(consecutive_options({"success_threshold": threshold}))

    def is_system_error(self, exception: BaseException) -> bool:
        """Tell whether an exception counts as a failure."""
        return self._judge.is_failure(exception)

    def add_excluded_exception(self, exception: Classifier) -> None:
        """Ignore another kind of exception."""
        super().add_excluded_exception(exception)  # type: ignore[arg-type,type-var] # pybreaker's hint leaves functions out
        self._look_again()

    def remove_excluded_exception(self, exception: Classifier) -> None:
        """Ignore a kind of exception no longer."""
        super().remove_excluded_exception(exception)  # type: ignore[arg-type,type-var] # as above
        self._look_again()

    def add_listener(self, listener: Listener) -> None:
        """Tell a listener of pybreaker's protocol."""
        super().add_listener(listener)  # type: ignore[type-var] # theirs is a class, ours its protocol
        self._look_again()

    def remove_listener(self, listener: Listener) -> None:
        """Tell a listener no longer."""
        super().remove_listener(listener)  # type: ignore[type-var] # as above
        self._look_again()

    def _made(
        self,
        name: str,
        shared: dict[str, Any],
        clock: Clock,
        chance: Chance | None,
        group: Group | None,
    ) -> Machine:
        options: dict[str, Any] = {"clock": clock, "chance": chance or system_chance()}
        options |= {"moves": self._teller, "group": group}
        if not shared:
            return Machine(self._policy.rules(), **options)
        return SharedMachine(
            self._policy.rules(), name=name, drain=self._teller.drain, **options, **shared
        )

    def _create_new_state(self, new_state: str, *_: object, **__: object) -> Any:
        return self._state_object(new_state)

    def _state_object(self, mode: str) -> Any:
        return self._states[mode_of(mode)]

    def _force(self, mode: Mode) -> None:
        try:
            self._machine.force(mode)
        finally:  # while the store is down, it has moved here all the same
            self._teller.drain()

    def _adopt(self, options: dict[str, Any]) -> None:
        policy = replace(self._policy, **options)
        self._machine.adopt(
            policy.rules()
        )  # raises where it makes no sense, and then nothing has changed
        self._policy = policy
        self._teller.drain()

    def _look_again(self) -> None:
        self._judge.exclude = tuple(self._excluded_exceptions)
        self._teller.listeners = tuple(self._listeners)
        self._gate.observe()
