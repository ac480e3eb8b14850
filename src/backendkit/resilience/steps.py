"""Steps: what policies are made of inside.

A *step* calls: `step(func, args, kwargs)`. The innermost one just does; each policy makes a step of the one inside
it, once per kind of function, so that a pipeline of them is a chain of plain calls.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias

Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = Mapping[str, Any]
Step: TypeAlias = Callable[[Function, Args, Kwargs], Any]
"""Calls a function: returns its result, or what is awaited for it, or the generator that it is."""

Kind: TypeAlias = Literal["function", "coroutine", "stream", "async-stream"]


def invoke(func: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call: the innermost step, whatever the kind."""
    return func(*args, **kwargs)


def kind_of(func: Function) -> Kind:
    """Return what `func` is, as `inspect` sees it."""
    code = getattr(func, "__code__", None)
    if code is not None and not code.co_flags & _SPECIAL and not hasattr(func, "__wrapped__"):
        return "function"  # most are; `inspect` takes three microseconds to find that out
    kind = _seen_kind(func)
    if kind == "function" and not inspect.isroutine(func) and not isinstance(func, type | partial):
        return _seen_kind(type(func).__call__)  # an object is what its `__call__` is
    return kind


def _seen_kind(func: Function) -> Kind:
    if inspect.iscoroutinefunction(func):
        return "coroutine"
    if inspect.isasyncgenfunction(func):
        return "async-stream"
    return "stream" if inspect.isgeneratorfunction(func) else "function"


class Layer(Protocol):
    """What a pipeline is made of: every policy of this feature, the circuit breaker and pipelines themselves."""

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions."""
        ...

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions, which is one itself."""
        ...

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions, which is one itself."""
        ...

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions, which is one itself."""
        ...


_SPECIAL: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
