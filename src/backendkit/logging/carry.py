"""Taking the context along: into threads, executors and jobs, and onto records of the standard library.

A task inherits the context it is made in, `asyncio.to_thread` and the frameworks' thread pools take it along; a
`threading.Thread` (before Python 3.14), an `Executor` and `loop.run_in_executor` do not.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

from backendkit.core import context

P = ParamSpec("P")
T = TypeVar("T")

STAMP = "backendkit_fields"
"""The attribute by which a record of the standard library carries the fields of the context it was made in."""


def carry(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` bound to the context of now: request, bound fields, deadline, current span.

    For `def` and `async def`; may be called often and from several threads at once, each call with a copy of its own.
    About 0.3 us. The request itself is shared, not copied: once it has ended, `bind` in a job that outlives it does nothing.
    """
    taken = copy_context()
    if inspect.iscoroutinefunction(function):
        return cast("Callable[P, T]", _carried(function, taken))

    @wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return taken.copy().run(function, *args, **kwargs)

    return carried


def _carried(
    function: Callable[..., Coroutine[Any, Any, Any]], taken: Context
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(function)
    async def carried(*args: Any, **kwargs: Any) -> Any:
        # A task is what has a context; cancelling the caller cancels it, since it is awaited.
        return await asyncio.create_task(function(*args, **kwargs), context=taken.copy())

    return carried


class CarryingExecutor(Executor):
    """Runs each call in the context it was submitted from, on an executor of threads.

    Args:
        executor: does the work; it is shut down with this one.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call, as `Executor.submit` does."""
        call = partial(fn, *args, **kwargs)
        return self._executor.submit(copy_context().run, call)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - its base's
        """Shut the executor behind this one down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


class StampContext(logging.Filter):
    """Puts the context's fields onto records of the standard library, for handlers that know nothing of them.

    Each field becomes an attribute, unless records have one of that name: `%(request_id)s` in a format works, and is None
    outside a request. Put it on a logger, or on a handler that runs in the thread that logs; a handler behind a
    `QueueHandler` finds them there, and ours takes them from there.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Stamp `record`; let it pass."""
        found = context.fields()
        known = record.__dict__
        known[STAMP] = found
        known.setdefault("request_id", found.get("request_id"))
        for key, value in found.items():
            known.setdefault(key, value)
        return True
