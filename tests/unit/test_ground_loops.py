"""Stalls, threads, forks, subprocesses, CPU time."""

import asyncio
import os
import threading
import time

import pytest

from tests.ground.loops import StallMeter, in_fork, in_subprocess, in_threads, spending


def spin(seconds: float) -> None:
    """Use the CPU for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_stall_of_the_loop_is_measured() -> None:
    """The longest gap is found, also when it is the last thing that happens."""

    async def main() -> float:
        async with StallMeter() as stalls:
            spin(0.05)
        return stalls.worst

    assert 0.045 < asyncio.run(main()) < 5


def test_a_free_loop_does_not_stall() -> None:
    """Waiting is no stall; the ticker did run."""

    async def main() -> StallMeter:
        async with StallMeter() as stalls:
            ticked = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, ticked.set)
            await ticked.wait()
        return stalls

    stalls = asyncio.run(main())
    assert stalls.ticks >= 1
    assert 0 <= stalls.worst < 1


def test_cpu_time_tells_work_from_waiting() -> None:
    """Waiting is wall time only; another thread's work is the process's, not ours."""
    with spending() as idle:
        threading.Event().wait(0.05)
    with spending() as busy:
        worker = threading.Thread(target=spin, args=(0.1,))
        worker.start()
        worker.join()
    assert idle.wall >= 0.05 > idle.process_cpu
    assert busy.process_cpu > busy.thread_cpu
    assert busy.thread_cpu < 0.05


def test_threads_start_as_one_and_results_keep_their_order() -> None:
    """All are past the barrier before one ends."""
    assert in_threads(8, lambda number: number * number) == [n * n for n in range(8)]


def test_what_threads_raise_is_collected() -> None:
    """All errors arrive, not just the first."""

    def work(number: int) -> None:
        if number % 2:
            raise ValueError(number)

    with pytest.raises(ExceptionGroup) as caught:
        in_threads(4, work)
    assert sorted(error.args for error in caught.value.exceptions) == [(1,), (3,)]


def test_a_thread_that_hangs_is_reported() -> None:
    """It does not hang the tests."""
    release = threading.Event()
    with pytest.raises(TimeoutError, match="1 of 2 threads"):
        in_threads(2, lambda number: number or release.wait(20), within=0.2)
    release.set()


def test_a_forked_child_hands_back_its_result() -> None:
    """It ran elsewhere."""
    pid, value = in_fork(lambda: (os.getpid(), "x" * 300_000))
    assert pid != os.getpid()
    assert len(value) == 300_000


def test_a_forked_childs_error_is_raised() -> None:
    """As itself."""

    def fail() -> None:
        raise LookupError("in the child")

    with pytest.raises(LookupError, match="in the child"):
        in_fork(fail)


def test_an_answer_that_does_not_pickle_is_named() -> None:
    """Not an end of file nobody understands."""
    with pytest.raises(RuntimeError, match="does not pickle"):
        in_fork(threading.Lock)


def test_a_child_that_dies_or_hangs_is_reported() -> None:
    """And it is gone."""
    with pytest.raises(RuntimeError, match="without an answer"):
        in_fork(lambda: os._exit(3))
    with pytest.raises(TimeoutError, match="did not answer"):
        in_fork(lambda: threading.Event().wait(), within=0.2)


def test_a_subprocess_hands_back_its_output() -> None:
    """It has its arguments, and can import what we can."""
    source = "import sys, tests.ground; print(sys.argv[1:])"
    assert in_subprocess(source, "a", "b") == "['a', 'b']\n"


def test_a_warning_in_a_subprocess_is_an_error() -> None:
    """And the message says which."""
    with pytest.raises(AssertionError, match="UserWarning: careful"):
        in_subprocess("import warnings; warnings.warn('careful')")
