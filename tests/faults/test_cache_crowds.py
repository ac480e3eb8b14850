"""A crowd that asks for one cold key: threads, tasks, processes; and what becomes of it when whoever loads is killed or paused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from backendkit.cache import Cache, JsonCodec
from backendkit.stores import connect
from tests.ground.lifeline import tied
from tests.ground.single import Single
from tests.ground.waiting import eventually

CALLERS = 200
SLACK_S = 3.0
"""What a busy machine may add to any bound."""

MEMBER = """
import asyncio, json, os, sys, threading, time
from pathlib import Path
from backendkit.cache import Cache, JsonCodec
from backendkit.stores import connect
url, namespace, folder, first, later, threads, tasks = sys.argv[1:]
folder = Path(folder)
store = connect(url, timeout=5, connect_timeout=5)
cache = Cache(store, namespace=namespace, codec=JsonCodec())
cache.get("nothing")
delays = []
def begin():
    try:
        (folder / "first").touch(exist_ok=False)
        seconds = float(first)
    except FileExistsError:
        seconds = float(later)
    (folder / f"load-{time.monotonic_ns()}-{os.getpid()}").touch()
    return seconds
def load():
    time.sleep(begin())
    return {"ended": time.monotonic(), "by": os.getpid()}
async def aload():
    await asyncio.sleep(begin())
    return {"ended": time.monotonic(), "by": os.getpid()}
def ask():
    value = cache.get_or_load("k", load)
    delays.append(time.monotonic() - value["ended"])
async def aask():
    value = await cache.aio.get_or_load("k", aload)
    delays.append(time.monotonic() - value["ended"])
async def crowd():
    await asyncio.gather(*(aask() for _ in range(int(tasks))))
    await store.aio.close()
callers = [threading.Thread(target=ask) for _ in range(int(threads))]
(folder / f"ready-{os.getpid()}").touch()
while not (folder / "go").exists():
    time.sleep(0.002)
for caller in callers: caller.start()
asyncio.run(crowd())
for caller in callers: caller.join()
cache.close()
print(json.dumps(delays))
"""


class Start(NamedTuple):
    """A load that has begun: seconds on the clock of the machine, and the process."""

    at: float
    by: int


class Crowd:
    """Processes that ask for the same key at once."""

    def __init__(self, stack: ExitStack, folder: Path, url: str, namespace: str) -> None:
        self.folder = folder
        self._stack = stack
        self._goal = (url, namespace, str(folder))
        self.members: list[subprocess.Popen[str]] = []

    def start(
        self, processes: int, *, threads: int, tasks: int, first: float, later: float = 0.1
    ) -> None:
        """Start them, each with so many callers, and let all go together; loads take so many seconds."""
        how = (str(first), str(later), str(threads), str(tasks))
        for _ in range(processes):
            command = tied(sys.executable, "-c", MEMBER, *self._goal, *how, number=signal.SIGKILL)
            member = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._stack.callback(_end, member)
            self.members.append(member)
        ready = lambda: len(list(self.folder.glob("ready-*"))) == processes  # noqa: E731 - said once
        eventually(ready, "all have started", within=60)
        (self.folder / "go").touch()

    def loads(self) -> list[Start]:
        """Return the loads so far, in their order."""
        names = (path.name.split("-") for path in self.folder.glob("load-*"))
        return sorted(Start(int(at) / 1e9, int(by)) for _, at, by in names)

    def delays(self, *, without: int = 0) -> list[float]:
        """Wait for the callers of all members but one; return how long after the end of the load each had its value."""
        found: list[float] = []
        for member in self.members:
            if member.pid != without:
                found += json.loads(member.communicate(timeout=60)[0])
        return sorted(found)


def _end(member: subprocess.Popen[str]) -> None:
    if member.poll() is None:
        member.send_signal(signal.SIGCONT)
        member.kill()
    member.wait()
    if member.stdout is not None:
        member.stdout.close()


@pytest.fixture
def crowd(redis_single: Single, namespace: str, tmp_path: Path) -> Iterator[Crowd]:
    """One that ends with the test."""
    with ExitStack() as stack:
        yield Crowd(stack, tmp_path, redis_single.url, namespace[:-1])


@pytest.fixture
def stored(redis_single: Single, namespace: str) -> Iterator[Callable[[], Any]]:
    """What another process finds in Redis."""
    store = connect(redis_single.url, timeout=5, connect_timeout=5)
    cache = Cache(store, namespace=namespace[:-1], codec=JsonCodec())
    yield lambda: cache.get("k")
    cache.close()
    store.close()


@pytest.mark.parametrize(
    ("processes", "threads", "tasks", "seconds"),
    [(1, 200, 0, 0.2), (1, 0, 200, 0.2), (1, 100, 100, 0.2), (4, 25, 25, 0.2), (4, 25, 25, 3.0)],
    ids=["threads", "tasks", "both", "processes", "longer-than-a-lease"],
)
def test_a_crowd_loads_once(
    crowd: Crowd, processes: int, threads: int, tasks: int, seconds: float
) -> None:
    """200 cold callers: one load, and all have its value soon after its end."""
    crowd.start(processes, threads=threads, tasks=tasks, first=seconds)
    delays = crowd.delays()
    assert len(delays) == CALLERS
    assert len(crowd.loads()) == 1
    assert delays[CALLERS * 99 // 100 - 1] < SLACK_S


def test_a_holder_that_is_killed_is_followed_soon(crowd: Crowd) -> None:
    """While the others wait: one of them loads as soon as its lease is over. Two loads in all."""
    crowd.start(4, threads=25, tasks=25, first=60)
    holder = eventually(crowd.loads, "somebody loads")[0].by
    member = next(member for member in crowd.members if member.pid == holder)
    member.kill()
    member.wait()
    died = time.monotonic()
    assert len(crowd.delays(without=holder)) == CALLERS * 3 // 4
    loads = crowd.loads()
    assert len(loads) == 2
    assert loads[1].at - died < 1 + SLACK_S


def test_a_holder_that_is_paused_stores_nothing(crowd: Crowd, stored: Callable[[], Any]) -> None:
    """For longer than its lease: another loads, and only that one's value is kept."""
    crowd.start(4, threads=25, tasks=25, first=2)
    holder = eventually(crowd.loads, "somebody loads")[0].by
    member = next(member for member in crowd.members if member.pid == holder)
    member.send_signal(signal.SIGSTOP)
    crowd.delays(without=holder)
    member.send_signal(signal.SIGCONT)
    assert len(json.loads(member.communicate(timeout=60)[0])) == CALLERS // 4
    loads = crowd.loads()
    assert [load.by == holder for load in loads] == [True, False]
    assert stored()["by"] == loads[1].by
