"""One decorator for functions, coroutine functions and generators of both kinds.

Functions have a short way: while the circuit is closed and nobody listens to calls, a call starts without asking;
and where the window is full of good calls, one more changes nothing, so that its end takes no lock either. The long
way must come to the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from backendkit.resilience.decide.windows import OK
from backendkit.resilience.gate import Gate, Ticket

Function = Callable[..., Any]


def guarded(gate: Gate, func: Function) -> Function:
    """Return `func` behind a gate, of the same kind as it is."""
    if inspect.isasyncgenfunction(func):
        return _async_stream(gate, func)
    if inspect.iscoroutinefunction(func):
        return _coroutine(gate, func)
    if inspect.isgeneratorfunction(func):
        return _stream(gate, func)
    return _function(gate, func)


def call(gate: Gate, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function the long way."""
    ticket = gate.admit(func, args, kwargs)
    try:
        result = func(*args, **kwargs)
    except BaseException as error:
        gate.raised(ticket, error)
        raise
    gate.returned(ticket, result)
    return result


async def call_async(
    gate: Gate, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Await a function the long way."""
    ticket = (
        await gate.admit_async(func, args, kwargs)
        if gate.machine.shared
        else gate.admit(func, args, kwargs)
    )
    try:
        result = await func(*args, **kwargs)
    except BaseException as error:
        gate.raised(ticket, error)
        raise
    gate.returned(ticket, result)
    return result


def _function(gate: Gate, func: Function) -> Function:
    machine, now_us, counts = gate.machine, gate.now_us, gate.machine.counts

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        generation, bound = machine.generation, machine.slow_after_us
        if not machine.free:
            return call(gate, func, args, kwargs)
        started = None if bound is None else now_us()
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            gate.raised(Ticket(generation, started), error)
            raise
        if bound is not None and started is not None and now_us() - started >= bound:
            gate.returned(Ticket(generation, started), result)
        elif machine.settled:
            counts[OK] += 1
        else:
            gate.went_well(generation)
        return result

    return wrapper


def _coroutine(gate: Gate, func: Function) -> Function:
    machine, now_us, counts = gate.machine, gate.now_us, gate.machine.counts

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        generation, bound = machine.generation, machine.slow_after_us
        if not machine.free:
            return await call_async(gate, func, args, kwargs)
        started = None if bound is None else now_us()
        try:
            result = await func(*args, **kwargs)
        except BaseException as error:
            gate.raised(Ticket(generation, started), error)
            raise
        if bound is not None and started is not None and now_us() - started >= bound:
            gate.returned(Ticket(generation, started), result)
        elif machine.settled:
            counts[OK] += 1
        else:
            gate.went_well(generation)
        return result

    return wrapper


def _stream(gate: Gate, func: Function) -> Function:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        ticket = gate.admit(func, args, kwargs)
        try:
            result = yield from _Clocked(gate, ticket, func(*args, **kwargs))
        except GeneratorExit:
            gate.abandoned(ticket)
            raise
        except BaseException as error:
            gate.raised(ticket, error)
            raise
        gate.returned(ticket, result)
        return result

    return wrapper


class _Clocked(Generator[Any, Any, Any]):
    """A generator that takes the time of its first item."""

    def __init__(self, gate: Gate, ticket: Ticket, source: Generator[Any, Any, Any]) -> None:
        self._gate = gate
        self._ticket = ticket
        self._source = source

    def send(self, value: Any, /) -> Any:
        item = self._source.send(value)
        self._gate.clocked(self._ticket)
        return item

    def throw(self, *raised: Any) -> Any:
        return self._source.throw(*raised)

    def close(self) -> None:
        self._source.close()


def _async_stream(gate: Gate, func: Function) -> Function:
    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        ticket = await gate.admit_async(func, args, kwargs)
        source: AsyncGenerator[Any, Any] = func(*args, **kwargs)
        try:
            step = source.asend(None)
            while True:
                try:
                    item = await step
                except StopAsyncIteration:
                    break
                gate.clocked(ticket)
                try:
                    step = source.asend((yield item))
                except GeneratorExit:
                    await source.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - the consumer threw it into the source
                    step = source.athrow(error)
        except GeneratorExit:
            gate.abandoned(ticket)
            raise
        except BaseException as error:
            gate.raised(ticket, error)
            raise
        gate.returned(ticket, None)

    return wrapper


def kind_of(func: Function) -> str:
    """Return `"function"`, `"coroutine"` or `"stream"`."""
    code = getattr(func, "__code__", None)
    if code is not None and not code.co_flags & _SPECIAL and not hasattr(func, "__wrapped__"):
        return "function"  # most are; `inspect` takes three microseconds to find that out
    if inspect.iscoroutinefunction(func):
        return "coroutine"
    streams = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)
    return "stream" if streams else "function"


_SPECIAL = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
