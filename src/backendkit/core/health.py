"""Whether this process can serve: checks that the application registers, run side by side, and a flag for the way out.

A check is any callable, `def` or `async def`; it passes unless it raises or returns False. Each has its own time limit, and one
that hangs is not started again before it has come back: a dead dependency costs one thread, not one per probe. What was
found holds for a second, so that probes from many sides, or an attacker's, cost no more than one.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateResult
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

from backendkit.core import checks
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.core.operation import Change, Operation, Script

logger = logging.getLogger("backendkit.health")

Check: TypeAlias = Callable[[], object]
"""Passes unless it raises or returns False; may be `async def`."""

Result: TypeAlias = Literal["ok", "failed", "timeout"]


class Finding(NamedTuple):
    """What one check said.

    Attributes:
        name: the check's.
        result: `timeout` also where an earlier run has not come back yet.
        duration_us: how long it took.
    """

    name: str
    result: Result
    duration_us: int


class Readiness(NamedTuple):
    """Whether requests should come here.

    Attributes:
        state: `draining` on the way out, whatever the checks would say.
        findings: of the checks, in the order in which they were added.
    """

    state: Literal["ready", "unready", "draining"]
    findings: tuple[Finding, ...]


class Health:
    """The checks of one application; safe to use from any thread and any event loop.

    Args:
        clock: None: the machine's.
        timeout: what a check may take, a `timedelta` or seconds, 1 ms to 60 s.
        keep: how long a finding holds, a `timedelta` or seconds, 0 to 60 s.
    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_clock",
        "_flights",
        "_found",
        "_keep_us",
        "_timeout_us",
        "_turn",
        "draining",
    )

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        timeout: checks.Duration = 1.0,
        keep: checks.Duration = 1.0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._timeout_us = _limit(timeout)
        self._keep_us = checks.duration_us("keep", keep, least_us=0, most_us=60 * SECOND_US)
        self._checks: tuple[_Check, ...] = ()
        self._found: tuple[int, tuple[Finding, ...]] | None = None
        self._turn = threading.Lock()
        self._flights: WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Task[tuple[Finding, ...]]
        ] = WeakKeyDictionary()
        self.draining = False

    def add(self, name: str, check: Check, *, timeout: checks.Duration | None = None) -> None:
        """Register a check; one of the same name is replaced.

        Args:
            name: shown to whoever may ask: 1..128 printable ASCII characters.
            check: see `Check`. Called from a thread of its own, or, if it is `async def`, by the event loop that asks.
            timeout: None: this object's.
        """
        limit = self._timeout_us if timeout is None else _limit(timeout)
        added = _Check(checks.name("name", name), check, limit)
        self._checks = (*[c for c in self._checks if c.name != name], added)
        self._found = None

    def drain(self) -> None:
        """Say from now on that no requests should come here; those that run are not touched."""
        self.draining = True

    def readiness(self) -> Readiness:
        """Return whether requests should come here. Blocks for the longest of the checks' timeouts at the most."""
        found = self._known()
        if found is None:
            with self._turn:
                found = self._known()
                if found is None:
                    found = self._keep(_looked(self._checks, self._clock))
        return self._told(found)

    @property
    def aio(self) -> AsyncHealth:
        """The asynchronous face of the same checks."""
        return AsyncHealth(self)

    async def _readiness(self) -> Readiness:
        found = self._known()
        if found is None:
            loop = asyncio.get_running_loop()
            flight = self._flights.get(loop)
            if flight is None or flight.done():
                # In a context of its own: what is found belongs to no request.
                flight = loop.create_task(self._look(), context=contextvars.Context())
                self._flights[loop] = flight
            found = await asyncio.shield(flight)
        return self._told(found)

    async def _look(self) -> tuple[Finding, ...]:
        looks = [_look(check, self._clock) for check in self._checks]
        return self._keep(tuple(await asyncio.gather(*looks)))

    def _known(self) -> tuple[Finding, ...] | None:
        if self.draining:
            return ()
        if self._found is None or self._clock.mono_us() - self._found[0] >= self._keep_us:
            return None
        return self._found[1]

    def _keep(self, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
        before = {} if self._found is None else {f.name: f.result for f in self._found[1]}
        for finding in found:
            if finding.result != before.get(finding.name, "ok"):
                logger.warning("check %s: %s", finding.name, finding.result)
        self._found = (self._clock.mono_us(), found)
        return found

    def _told(self, found: tuple[Finding, ...]) -> Readiness:
        if self.draining:
            return Readiness("draining", ())
        ready = all(finding.result == "ok" for finding in found)
        return Readiness("ready" if ready else "unready", found)


def ping() -> Operation[None]:
    """Return an operation that changes nothing, by which a store shows that it carries operations out."""
    return Operation(_PING, (b"backendkit:health",), (), _nothing)


def _nothing(_: object) -> None:
    """Read a reply that says nothing."""


_PING = Script("health.ping", lua="return {1}", fold=lambda _states, _now, _args: Change((), [1]))


class AsyncHealth:
    """The asynchronous face of a `Health`."""

    __slots__ = ("sync",)

    def __init__(self, health: Health) -> None:
        self.sync = health

    async def readiness(self) -> Readiness:
        """Return whether requests should come here; asked at once by many, the checks run once."""
        return await self.sync._readiness()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its other face


class _Check:
    """A check and its run that has not come back, if there is one."""

    __slots__ = ("function", "is_async", "name", "running", "timeout_us")

    def __init__(self, name: str, function: Check, timeout_us: int) -> None:
        self.name = name
        self.function = function
        self.timeout_us = timeout_us
        self.is_async = inspect.iscoroutinefunction(function)
        self.running: Future[object] | asyncio.Task[object] | None = None

    def start(self) -> Future[object] | None:
        """Run the check in a thread of its own; None: an earlier run is still on."""
        if self.running is not None and not self.running.done():
            return None
        future: Future[object] = Future()
        self.running = future
        run = contextvars.Context().run
        threading.Thread(
            target=run, args=(self._run, future), name=f"health {self.name}", daemon=True
        ).start()
        return future

    def _run(self, future: Future[object]) -> None:
        try:
            if self.is_async:
                function = cast("Callable[[], Coroutine[Any, Any, object]]", self.function)
                future.set_result(asyncio.run(function()))
            else:
                future.set_result(self.function())
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            future.set_exception(error)

    def start_here(self) -> asyncio.Task[object] | asyncio.Future[object] | None:
        """Run an `async def` check on the running loop, another in a thread; None: an earlier run is still on."""
        if not self.is_async:
            future = self.start()
            return None if future is None else asyncio.wrap_future(future)
        if self.running is not None and not self.running.done():
            return None
        function = cast("Callable[[], Coroutine[Any, Any, object]]", self.function)
        self.running = asyncio.get_running_loop().create_task(function())
        return self.running

    def result(self, done: Future[object] | asyncio.Future[object]) -> Result:
        error = done.exception()
        if error is not None:
            logger.info("check %s raised %s", self.name, type(error).__name__)
        return "failed" if error is not None or done.result() is False else "ok"


def _looked(all_checks: Iterable[_Check], clock: Clock) -> tuple[Finding, ...]:
    """Run checks in threads, side by side."""
    begun = clock.mono_us()
    started = [(check, check.start()) for check in all_checks]
    return tuple(_awaited(check, future, begun, clock) for check, future in started)


def _awaited(check: _Check, future: Future[object] | None, begun: int, clock: Clock) -> Finding:
    result: Result = "timeout"
    if future is not None:
        left_us = check.timeout_us - (clock.mono_us() - begun)
        try:
            future.exception(max(left_us, 0) / SECOND_US)
        except LateResult:
            pass
        else:
            result = check.result(future)
    return Finding(check.name, result, clock.mono_us() - begun)


async def _look(check: _Check, clock: Clock) -> Finding:
    begun = clock.mono_us()
    result: Result = "timeout"
    running = check.start_here()
    if running is not None:
        done, _ = await asyncio.wait((running,), timeout=check.timeout_us / SECOND_US)
        if done and not running.cancelled():
            result = check.result(running)
        elif check.is_async:
            running.cancel()
    return Finding(check.name, result, clock.mono_us() - begun)


def _limit(timeout: checks.Duration) -> int:
    return checks.duration_us("timeout", timeout, least_us=1_000, most_us=60 * SECOND_US)
