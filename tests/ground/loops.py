"""Measuring and crowding: event-loop stalls, CPU time, threads, forks, subprocesses."""

import asyncio
import math
import os
import pickle
import select
import selectors
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Barrier, Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from backendkit.core.clock import ManualClock
from tests.ground.lifeline import die_with

T = TypeVar("T")

_WITHIN_S = 30.0
_LAST_WORDS_S = 1.0


class StallMeter:
    """Measures how long the running event loop did not come round; an asynchronous context manager.

    A ticker asks to be called every `every` seconds and notes how much later than that it was. On a
    busy machine the figure includes the time in which this process had no core.
    """

    def __init__(self, *, every: float = 0.001) -> None:
        self.worst = 0.0
        """Seconds: the longest stall so far."""
        self.ticks = 0
        """How often the ticker ran: a `worst` of few ticks says little."""
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        await asyncio.sleep(0)  # the ticker has begun before the block does
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        await asyncio.sleep(self._every)  # a stall just before the end is seen, too
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tick(self) -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(self._every)
            now = time.perf_counter()
            self.worst = max(self.worst, now - before - self._every)
            self.ticks += 1
            before = now


@dataclass(slots=True)
class Spent:
    """Seconds that a block took; filled in when it ends."""

    wall: float = 0.0
    process_cpu: float = 0.0
    thread_cpu: float = 0.0


@contextmanager
def spending() -> Generator[Spent]:
    """Measure a block: wall time, CPU time of the whole process, CPU time of this thread."""
    spent = Spent()
    wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    try:
        yield spent
    finally:
        spent.thread_cpu = time.thread_time() - thread
        spent.process_cpu = time.process_time() - process
        spent.wall = time.perf_counter() - wall


def in_threads(count: int, work: Callable[[int], T], *, within: float = _WITHIN_S) -> list[T]:
    """Run `work(0)` ... `work(count - 1)` in threads that start as one; return what they return.

    Raises:
        ExceptionGroup: What the threads raised.
        TimeoutError: Some did not end in time; they are daemons, and go on.
    """
    results: dict[int, T] = {}
    errors: list[Exception] = []
    barrier = Barrier(count)

    def run(number: int) -> None:
        try:
            barrier.wait(within)
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001  # all are raised together, below
            errors.append(error)

    threads = [Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    deadline = time.monotonic() + within
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {count} threads failed", errors)
    if len(results) < count:
        raise TimeoutError(
            f"{count - len(results)} of {count} threads still run after {within:g} s"
        )
    return [results[number] for number in range(count)]


def in_fork(work: Callable[[], T], *, within: float = _WITHIN_S) -> T:
    """Run `work` in a forked child; return its result or raise its error: both must pickle.

    The child ends by `os._exit`: no finalizer, no `atexit`. It is killed if it takes longer than
    `within` seconds.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        # From 3.12 on Python warns of forking among threads; what happens then is what fork tests
        # are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _report(work, writer, parent)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + within)
    except BaseException:
        os.kill(pid, signal.SIGKILL)  # ours until it is reaped, below
        raise
    finally:
        os.close(reader)
        _reap(pid)
    if not answer:
        raise RuntimeError("the forked child died without an answer")
    result, error = pickle.loads(answer)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]  # pickled by our own child


def _reap(pid: int) -> None:
    """Wait for a child that has answered, and has nothing left to do but to save what coverage saw.

    Coverage's own lock may have been another thread's when the parent forked: then the child waits for ever.
    """
    watch = os.pidfd_open(pid)
    ended, _, _ = select.select([watch], [], [], _LAST_WORDS_S)
    os.close(watch)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def in_subprocess(source: str, *arguments: str, within: float = _WITHIN_S) -> str:
    """Run Python source in a fresh interpreter, warnings being errors, and return what it printed.

    Raises:
        AssertionError: It did not exit with 0; the message holds what it wrote.
        subprocess.TimeoutExpired: It took too long, and was killed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _report(work: Callable[[], object], writer: int, parent: int) -> None:
    """The child's whole life."""
    try:
        die_with(parent)
        answer: tuple[Any, BaseException | None] = (work(), None)
    except BaseException as error:  # noqa: BLE001  # the parent raises it
        answer = (None, error)
    try:
        data = _pickled(answer)
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)
    finally:
        os._exit(0)


def _pickled(answer: tuple[Any, BaseException | None]) -> bytes:
    try:
        data = pickle.dumps(answer)
        pickle.loads(data)  # some errors pickle, yet cannot be made again
    except Exception:  # noqa: BLE001  # pickling runs code of whatever it is given
        data = pickle.dumps((None, RuntimeError(f"the child's answer does not pickle: {answer!r}")))
    return data


def _read_all(reader: int, deadline: float) -> bytes:
    received = bytearray()
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError("the forked child did not answer in time")
        chunk = os.read(reader, 65536)
        if not chunk:
            return bytes(received)
        received += chunk


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop on a manual clock: where it would wait for a timer, the clock moves to it instead.

    What other threads tell it is heard, and waited for where there is no timer.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_Skipping(clock))
        self._manual = clock
        self.timers = 0
        """How many timers it was asked for."""

    def time(self) -> float:
        """Return the clock's seconds."""
        return self._manual.mono_us() / 1_000_000

    def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override] # passes on what it gets
        """Count it."""
        self.timers += 1
        return super().call_at(*args, **kwargs)


class _Skipping(selectors.DefaultSelector):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let time pass instead of waiting."""
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self._clock.advance(math.ceil(timeout * 1_000_000))
        return ready


def run_manually(scene: Coroutine[Any, Any, T], clock: ManualClock) -> T:
    """Run a coroutine on a loop of a manual clock."""
    with asyncio.Runner(loop_factory=lambda: ManualLoop(clock)) as runner:
        return runner.run(scene)


async def passes(seconds: float) -> None:
    """Let so much of the loop's time pass: none at all for real, on a `ManualLoop`."""
    await asyncio.sleep(seconds)
