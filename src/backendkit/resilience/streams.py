"""Generators of both kinds, passed on to their consumer step by step.

What the consumer sends, throws or ends reaches the source, as with `yield from`; around each step, and after the last,
a layer has its say. Nothing happens before the first item is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeVar

from backendkit.resilience.steps import Args, Function, Kwargs, Step

T = TypeVar("T")


class Passage:
    """What a layer does about one stream; this one does nothing."""

    def step(self, take: Callable[..., T], *args: Any) -> T:
        """Take a step of the source: `take(*args)`."""
        return take(*args)

    async def step_async(self, step: Awaitable[T]) -> T:
        """Take a step of an asynchronous source."""
        return await step

    def ended(self, error: BaseException | None, result: object = None) -> None:
        """Learn how it ended; `GeneratorExit`: the consumer wants no more."""


class Opened(NamedTuple):
    """A stream whose first item is there.

    Attributes:
        source: the rest of it.
        item: the first item, or what a stream without any returned.
        over: whether it has none.
    """

    source: Any
    item: Any
    over: bool


def opening(inner: Step) -> Step:
    """Return what opens the streams of `inner`: an ordinary call, which may fail, be repeated and so on."""

    def opened(func: Function, args: Args, kwargs: Kwargs) -> Opened:
        source = inner(func, args, kwargs)
        try:
            return Opened(source, next(source), over=False)
        except StopIteration as end:
            return Opened(source, end.value, over=True)

    return opened


def opening_async(inner: Step) -> Step:
    """Do the same for asynchronous streams."""

    async def opened(func: Function, args: Args, kwargs: Kwargs) -> Opened:
        source = inner(func, args, kwargs)
        try:
            return Opened(source, await anext(source), over=False)
        except StopAsyncIteration:
            return Opened(source, None, over=True)

    return opened


def resumed(opened: Step) -> Step:
    """Return the streams that `opened` opens, when their first item is asked for."""

    def stream(func: Function, args: Args, kwargs: Kwargs) -> Generator[Any, Any, Any]:
        source, item, over = opened(func, args, kwargs)
        if over:
            return item
        return (yield from _Steps(source, _NOTHING, (item,)))

    return stream


def resumed_async(opened: Step) -> Step:
    """Do the same for asynchronous streams."""

    async def begin(
        func: Function, args: Args, kwargs: Kwargs
    ) -> tuple[Passage, AsyncGenerator[Any, Any], Awaitable[Any]]:
        source, item, over = await opened(func, args, kwargs)
        return _NOTHING, source, source.asend(None) if over else _ready(item)

    return _relayed(begin)


def passed(inner: Step, begin: Callable[[Function, Args, Kwargs], Passage]) -> Step:
    """Return the streams of `inner`, each through a passage that begins when its first item is asked for."""

    def stream(func: Function, args: Args, kwargs: Kwargs) -> Generator[Any, Any, Any]:
        passage = begin(func, args, kwargs)
        try:
            result = yield from _Steps(inner(func, args, kwargs), passage)
        except BaseException as error:
            passage.ended(error)
            raise
        passage.ended(None, result)
        return result

    return stream


def passed_async(
    inner: Step, begin: Callable[[Function, Args, Kwargs], Awaitable[Passage]]
) -> Step:
    """Do the same for asynchronous streams."""

    async def started(
        func: Function, args: Args, kwargs: Kwargs
    ) -> tuple[Passage, AsyncGenerator[Any, Any], Awaitable[Any]]:
        passage = await begin(func, args, kwargs)
        try:
            source = inner(func, args, kwargs)
        except BaseException as error:
            passage.ended(error)
            raise
        return passage, source, source.asend(None)

    return _relayed(started)


class _Steps(Generator[Any, Any, Any]):
    """A generator each of whose steps goes through a passage; its first item may have been taken before."""

    def __init__(
        self, source: Generator[Any, Any, Any], passage: Passage, taken: tuple[Any, ...] = ()
    ) -> None:
        self._source = source
        self._passage = passage
        self._taken = taken

    def send(self, value: Any, /) -> Any:
        if self._taken:
            (item,), self._taken = self._taken, ()
            return item
        return self._passage.step(self._source.send, value)

    def throw(self, *raised: Any) -> Any:
        return self._passage.step(self._source.throw, *raised)

    def close(self) -> None:
        self._passage.step(self._source.close)


def delegating(chain: Step, func: Function) -> Function:
    """Return the streams of `chain` as what `func` is: an asynchronous generator function."""

    async def begin(
        *args: Any, **kwargs: Any
    ) -> tuple[Passage, AsyncGenerator[Any, Any], Awaitable[Any]]:
        source = chain(func, args, kwargs)
        return _NOTHING, source, source.asend(None)

    return _relayed(begin)


def _relayed(
    begin: Callable[..., Awaitable[tuple[Passage, AsyncGenerator[Any, Any], Awaitable[Any]]]],
) -> Function:
    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        passage, source, step = await begin(*args, **kwargs)
        try:
            while True:
                try:
                    item = await passage.step_async(step)
                except StopAsyncIteration:
                    break
                try:
                    step = source.asend((yield item))
                except GeneratorExit:
                    await passage.step_async(source.aclose())
                    raise
                except BaseException as error:  # noqa: BLE001 - the consumer threw it into the source
                    step = source.athrow(error)
        except BaseException as error:
            passage.ended(error)
            raise
        passage.ended(None)

    return stream


async def _ready(item: T) -> T:
    return item


_NOTHING = Passage()
