"""Answering in another way where the usual one failed."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import Any

from backendkit.core.errors import InvalidArgument
from backendkit.resilience import streams
from backendkit.resilience.judge import Chosen, Classifier
from backendkit.resilience.layers import OpeningPolicy
from backendkit.resilience.steps import Args, Function, Kwargs, Step


class Fallback(OpeningPolicy):
    """Answers by `handler(*args, **kwargs)`, with the call's own arguments, where the call raised.

    What the handler raises is raised, with the first error as its `__context__`; while it runs, `sys.exception()` is the
    first error. A cancelled call, `KeyboardInterrupt` and their like pass. A stream that fails before its first item is
    replaced by the one that the handler returns; later failures pass.

    Args:
        handler: called in place; a coroutine function serves coroutine functions only.
        on: which errors: classes, or functions that take one and say whether.

    Raises:
        InvalidArgument: naming the argument, its rule and the value.
    """

    def __init__(
        self, handler: Callable[..., Any], *, on: Iterable[Classifier] = (Exception,)
    ) -> None:
        if not callable(handler):
            raise InvalidArgument(
                "handler", "must be a function", handler, "for a constant, Fallback.value(...)"
            )
        self._handler = handler
        self._on = Chosen(on, "a classifier of fallbacks raised, which answers nothing")

    @classmethod
    def value(cls, value: object, *, on: Iterable[Classifier] = (Exception,)) -> Fallback:
        """Return a fallback that answers with a constant."""

        def constant(*_: object, **__: object) -> object:
            return value

        return cls(constant, on=on)

    def around(self, inner: Step, /) -> Step:
        """Return the step for functions.

        Raises:
            InvalidArgument: the handler is a coroutine function, which nobody would await.
        """
        if inspect.iscoroutinefunction(self._handler):
            raise InvalidArgument(
                "handler", "must be a plain function where the call is one", self._handler
            )
        return self._backed(inner, self._answer)

    def around_async(self, inner: Step, /) -> Step:
        """Return the step for coroutine functions."""
        return self._backed_async(inner, self._answer)

    def around_stream(self, inner: Step, /) -> Step:
        """Return the step for generator functions."""
        other = streams.opening(self._stream)
        return streams.resumed(self._backed(streams.opening(inner), other))

    def around_async_stream(self, inner: Step, /) -> Step:
        """Return the step for asynchronous generator functions."""
        other = streams.opening_async(self._async_stream)
        return streams.resumed_async(self._backed_async(streams.opening_async(inner), other))

    def _backed(self, inner: Step, other: Step) -> Step:
        on = self._on

        def backed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            try:
                return inner(func, args, kwargs)
            except Exception as error:
                if error not in on:
                    raise
                return other(func, args, kwargs)

        return backed

    def _backed_async(self, inner: Step, other: Step) -> Step:
        on = self._on

        async def backed(func: Function, args: Args, kwargs: Kwargs) -> Any:
            try:
                return await inner(func, args, kwargs)
            except Exception as error:
                if error not in on:
                    raise
                result = other(func, args, kwargs)
                return await result if inspect.isawaitable(result) else result

        return backed

    def _answer(self, func: Function, args: Args, kwargs: Kwargs) -> Any:
        return self._handler(*args, **kwargs)

    def _stream(self, func: Function, args: Args, kwargs: Kwargs) -> Generator[Any, Any, Any]:
        stream: Generator[Any, Any, Any] = self._handler(*args, **kwargs)
        return (yield from stream)

    async def _async_stream(
        self, func: Function, args: Args, kwargs: Kwargs
    ) -> AsyncGenerator[Any, None]:
        async for item in self._handler(*args, **kwargs):
            yield item
