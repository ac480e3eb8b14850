"""A breaker's gate around functions, coroutine functions and generators of both kinds.

Functions have a short way: while the circuit is closed and nobody listens to calls, a call starts without asking;
and where nothing bad is in the window, one more good call takes no lock at its end. The long way must come to the same.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

from backendkit.resilience import marks, streams
from backendkit.resilience.gate import Gate, Ticket
from backendkit.resilience.layers import decorated
from backendkit.resilience.steps import Args, Function, Kwargs, Step, invoke, kind_of

T = TypeVar("T")

_Call: TypeAlias = tuple[Function, Args, Kwargs]


def guarded(gate: Gate, func: Function) -> Function:
    """Return `func` behind a gate, of the same kind as it is."""
    kind = kind_of(func)
    if kind == "function":
        return _short(gate, func)
    if kind == "coroutine":
        return _short_async(gate, func)
    around = around_stream if kind == "stream" else around_async_stream
    return decorated(around(gate, invoke), func, kind)


def around(gate: Gate, inner: Step) -> Step:
    """Return the step for functions."""
    return _short(gate, inner, is_step=True)


def around_async(gate: Gate, inner: Step) -> Step:
    """Return the step for coroutine functions."""
    return _short_async(gate, inner, is_step=True)


def around_stream(gate: Gate, inner: Step) -> Step:
    """Return the step for generator functions: the permit is taken at the first item, and judged at the end."""

    def begin(func: Function, args: Args, kwargs: Kwargs) -> streams.Passage:
        return _Passage(gate, gate.admit(func, args, kwargs))

    return streams.passed(inner, begin)


def around_async_stream(gate: Gate, inner: Step) -> Step:
    """Do the same for asynchronous generator functions."""

    async def begin(func: Function, args: Args, kwargs: Kwargs) -> streams.Passage:
        return _Passage(gate, await gate.admit_async(func, args, kwargs))

    return streams.passed_async(inner, begin)


def call(gate: Gate, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call a function the long way."""
    return _long(gate, invoke, (func, args, kwargs))


async def call_async(gate: Gate, func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Await a function the long way."""
    return await _long_async(gate, invoke, (func, args, kwargs))


def _long(gate: Gate, inner: Step, told: _Call) -> Any:
    ticket = gate.admit(*told)
    try:
        result = inner(*told)
    except BaseException as error:
        gate.raised(ticket, error)
        raise
    gate.returned(ticket, result)
    return result


async def _long_async(gate: Gate, inner: Step, told: _Call) -> Any:
    shared = gate.machine.shared
    ticket = await gate.admit_async(*told) if shared else gate.admit(*told)
    try:
        result = await inner(*told)
    except BaseException as error:
        gate.raised(ticket, error)
        raise
    gate.returned(ticket, result)
    return result


def _short(gate: Gate, func: Function, *, is_step: bool = False) -> Function:
    """Return the short way; `func` is called with what its wrapper is called with, which of a step is a call."""
    machine, now_ns, ended_well = gate.machine, gate.now_ns, gate.machine.ended_well
    is_tardy = marks.is_tardy(func)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        generation = machine.generation
        if is_tardy or not machine.free:
            gate.reject()
            return (
                _long(gate, func, cast("_Call", args))
                if is_step
                else call(gate, func, args, kwargs)
            )
        started = None if machine.slow_after_us is None else now_ns()
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            gate.raised(Ticket(generation, started), error)
            raise
        if started is None and machine.settled:
            machine.quick += 1
        elif not ended_well(generation, started):
            gate.returned(Ticket(generation, started), result)
        return result

    return wrapper


def _short_async(gate: Gate, func: Function, *, is_step: bool = False) -> Function:
    """Do the same for coroutine functions."""
    machine, now_ns, ended_well = gate.machine, gate.now_ns, gate.machine.ended_well

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        generation = machine.generation
        if not machine.free:
            gate.reject()
            if is_step:
                return await _long_async(gate, func, cast("_Call", args))
            return await call_async(gate, func, args, kwargs)
        started = None if machine.slow_after_us is None else now_ns()
        try:
            result = await func(*args, **kwargs)
        except BaseException as error:
            gate.raised(Ticket(generation, started), error)
            raise
        if started is None and machine.settled:
            machine.quick += 1
        elif not ended_well(generation, started):
            gate.returned(Ticket(generation, started), result)
        return result

    return wrapper


class _Passage(streams.Passage):
    """A stream on its way: slow is what its first item took, and its end is judged."""

    def __init__(self, gate: Gate, ticket: Ticket) -> None:
        self._gate = gate
        self._ticket = ticket

    def step(self, take: Callable[..., T], *args: Any) -> T:
        item = take(*args)
        self._gate.clocked(self._ticket)
        return item

    async def step_async(self, step: Awaitable[T]) -> T:
        item = await step
        self._gate.clocked(self._ticket)
        return item

    def ended(self, error: BaseException | None, result: object = None) -> None:
        if error is None:
            self._gate.returned(self._ticket, result)
        elif isinstance(error, GeneratorExit):
            self._gate.abandoned(self._ticket)
        else:
            self._gate.raised(self._ticket, error)
