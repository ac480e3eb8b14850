"""What every policy has in common: it goes around a call, and serves functions of every kind."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, cast

from backendkit.resilience import marks, streams
from backendkit.resilience.steps import Function, Kind, Step, invoke, kind_of

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


class Policy:
    """A layer that can be used alone. One object serves any number of calls, threads and event loops at once."""

    def call(self, func: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
        """Call `func` under this policy; a generator function's work begins at its first item.

        Raises:
            TypeError: `func` is a coroutine function, see `call_async`.
        """
        kind = kind_of(func)
        if kind == "coroutine":
            raise TypeError(
                f"call() would not await {func!r}\nTo fix it: await policy.call_async(func, ...)"
            )
        result: R = self._chain(kind)(func, args, kwargs)
        return result

    async def call_async(
        self, func: Callable[..., Awaitable[R]], /, *args: Any, **kwargs: Any
    ) -> R:
        """Call `func` under this policy and await what it returns."""
        result: R = await self._awaited(func, args, kwargs)
        return result

    def __call__(self, func: F, /) -> F:
        """Decorate a function, a coroutine function, or a generator of either kind; it stays what it is."""
        kind = kind_of(func)
        return cast("F", decorated(self._chain(kind), func, kind))

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions; by default the inner one."""
        return inner

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions; by default the inner one."""
        return inner

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions; by default the inner one."""
        return inner

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions; by default the inner one."""
        return inner

    def _chain(self, kind: Kind) -> Step:
        if kind == "function":
            return self._called
        if kind == "coroutine":
            return self._awaited
        return self._streamed if kind == "stream" else self._streamed_async

    @functools.cached_property
    def _called(self) -> Step:
        return self.around(invoke)

    @functools.cached_property
    def _awaited(self) -> Step:
        return self.around_async(invoke)

    @functools.cached_property
    def _streamed(self) -> Step:
        return self.around_stream(invoke)

    @functools.cached_property
    def _streamed_async(self) -> Step:
        return self.around_async_stream(invoke)


def decorated(chain: Step, func: Function, kind: Kind) -> Function:
    """Return what stands for `func` and calls it through a chain of steps; it is of the same kind."""
    if kind == "coroutine":
        return _coroutine(chain, func)
    if kind == "async-stream":
        return functools.wraps(func)(streams.delegating(chain, func))
    return _stream(chain, func) if kind == "stream" else _function(chain, func)


def _function(chain: Step, func: Function) -> Function:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return chain(func, args, kwargs)

    return marks.passed_on(chain, wrapper)


def _coroutine(chain: Step, func: Function) -> Function:
    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await chain(func, args, kwargs)

    return wrapper


def _stream(chain: Step, func: Function) -> Function:
    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        stream: Generator[Any, Any, Any] = chain(func, args, kwargs)
        return (yield from stream)

    return wrapper


class OpeningPolicy(Policy):
    """A policy to which a stream is a call that ends with the first item; what comes after it is not its business."""

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""
        return streams.resumed(self.around(streams.opening(inner)))

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""
        return streams.resumed_async(self.around_async(streams.opening_async(inner)))
