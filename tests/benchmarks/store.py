"""The stores beside redis-py: what one operation costs the client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import redis
import redis.asyncio

from backendkit.core.operation import Change, Item, Operation, Script, State
from backendkit.core.store import Store
from backendkit.stores import MemoryStore, connect
from backendkit.stores.redis.wire import Packer
from tests.benchmarks.measure import Duel, bare_trip, duel, median_cost
from tests.benchmarks.report import Row, write
from tests.ground.single import Single

TASKS = 64

TEXT = """
One operation is one round trip. What it costs on the client decides how many requests a process serves, so that
wall time and the client's CPU time are told apart. Ours goes through the public store, guard included; theirs is
redis-py's `evalsha` with the script loaded and connections warm. Lower is better; a ratio of 0.5 is half the cost.

The floor is a bare socket that sends the same bytes and reads the reply by hiredis alone.
"""


def page() -> str:
    """Measure everything and write the page."""
    with Single() as single:
        url = single.url
        server = redis.Redis.from_url(url)
        rows = [*_blocking(url, single.server.port), *_awaiting(url), _memory(), *_bare_import()]
        notes = _server_time(url, server)
        server.close()
    return write("store", "Stores", TEXT, rows, ["redis", "hiredis"], notes=notes)


def _blocking(url: str, port: int) -> list[Row]:
    ours = connect(url, timeout=5)
    theirs = redis.Redis.from_url(url)
    digest = theirs.script_load(COUNT.lua)

    def we(calls: int) -> None:
        for _ in range(calls):
            ours.run(Operation(COUNT, (b"bench:{ours}",), (1,), _first))

    def they(calls: int) -> None:
        for _ in range(calls):
            theirs.evalsha(digest, 1, b"bench:{theirs}", 1)

    result = duel(we, they, 2_000)
    operation = Operation(COUNT, (b"bench:{bare}",), (1,), _first)
    ours.run(operation)  # the server knows the script from now on
    floor = duel(we, bare_trip(port, Packer().pack(operation), 1), 2_000)
    ours.close()
    theirs.close()
    what = "one thread, one INCRBY"
    return [
        *_both(what, "redis-py", result, wall=0.7, cpu=0.5),
        *_both(what, "bare socket", floor, wall=None, cpu=None),
    ]


def _awaiting(url: str) -> list[Row]:
    with _loop() as run:
        ours = connect(url, timeout=5)
        theirs = redis.asyncio.Redis.from_url(url, max_connections=TASKS)
        digest = run(theirs.script_load(COUNT.lua))

        async def we() -> None:
            await ours.aio.run(Operation(COUNT, (b"bench:{ours}",), (1,), _first))

        async def they() -> None:
            await theirs.evalsha(digest, 1, b"bench:{theirs}", 1)

        many = duel(_together(run, we), _together(run, they), 60)
        one = duel(_in_turn(run, we), _in_turn(run, they), 1_500)
        run(ours.aio.close())
        run(theirs.aclose())
    name = "redis.asyncio"
    return [
        *_both(f"{TASKS} tasks, one INCRBY each", f"{TASKS} connections", many, wall=0.25, cpu=0.2),
        *_both("one task, one at a time", name, one, wall=1.0, cpu=1.0),
    ]


def _memory() -> Row:
    store = MemoryStore()

    def work(calls: int) -> None:
        for _ in range(calls):
            store.run(Operation(COUNT, (b"bench:{ours}",), (1,), _first))

    cost = median_cost(work, 50_000)
    bound = 1.5
    return Row(
        "memory store, one count (CPU)",
        f"{cost.cpu:.2f} us",
        "bound",
        f"{bound} us",
        cost.cpu / bound,
        1.0,
    )


def _bare_import() -> list[Row]:
    bare = (
        "import sys; before = len(sys.modules); import backendkit; print(len(sys.modules) - before)"
    )
    modules = int(subprocess.check_output([sys.executable, "-I", "-c", bare]))
    with_us = median(_process("import backendkit") for _ in range(11))
    without = median(_process("pass") for _ in range(11))
    ms = max(with_us - without, 0.0) * 1000
    return [
        Row("`import backendkit`, modules", str(modules), "bound", "60", modules / 60, 1.0),
        Row("`import backendkit`, wall", f"{ms:.1f} ms", "bound", "30 ms", ms / 30, 1.0),
    ]


def _server_time(url: str, server: redis.Redis) -> str:
    """Say what heavier scripts cost beside the server's own time: there the client no longer decides."""
    lines = ["Other scripts, 64 tasks, beside the time that Redis itself spends on each:", ""]
    lines += ["| script | wall | client CPU | server |", "|---|---|---|---|"]
    with _loop() as run:
        store = connect(url, timeout=5)
        for script in (COUNT, LOG):
            server.config_resetstat()
            cost = median_cost(_together(run, partial(_run_script, store, script)), 40, rounds=5)
            stats: Any = server.info("commandstats")
            spent = stats["cmdstat_evalsha"]["usec_per_call"]
            per = (cost.wall / TASKS, cost.cpu / TASKS)
            lines.append(
                f"| `{script.name}` | {per[0]:.1f} us | {per[1]:.1f} us | {spent:.1f} us |"
            )
        run(store.aio.close())
    return "\n".join(lines)


async def _run_script(store: Store, script: Script) -> None:
    await store.aio.run(Operation(script, (b"bench:{%b}" % script.name.encode(),), (1,), _first))


def _both(
    what: str, rival: str, result: Duel, *, wall: float | None, cpu: float | None
) -> list[Row]:
    def us(value: float) -> str:
        return f"{value:.1f} us"

    return [
        Row(
            f"{what} (wall)",
            us(result.ours.wall),
            rival,
            us(result.theirs.wall),
            result.wall_ratio,
            wall,
        ),
        Row(
            f"{what} (CPU)",
            us(result.ours.cpu),
            rival,
            us(result.theirs.cpu),
            result.cpu_ratio,
            cpu,
        ),
    ]


Run = Callable[[Awaitable[Any]], Any]


@contextmanager
def _loop() -> Iterator[Run]:
    with asyncio.Runner() as runner:

        async def wait(work: Awaitable[Any]) -> Any:
            return await work

        yield lambda work: runner.run(wait(work))


def _together(run: Run, work: Callable[[], Awaitable[None]]) -> Callable[[int], None]:
    async def rounds(calls: int) -> None:
        for _ in range(calls):
            await asyncio.gather(*(work() for _ in range(TASKS)))

    return lambda calls: run(rounds(calls))


def _in_turn(run: Run, work: Callable[[], Awaitable[None]]) -> Callable[[int], None]:
    async def turns(calls: int) -> None:
        for _ in range(calls):
            await work()

    return lambda calls: run(turns(calls))


def _process(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return time.perf_counter() - begun


def _first(reply: Sequence[Item]) -> Item:
    return reply[0]


def _fold_count(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    count = (states[0] or 0) + args[0]
    return Change(((count, 60_000_000),), [count])


def _fold_log(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    raise AssertionError("measured on Redis only")


COUNT = Script("count", lua="return {redis.call('INCRBY', KEYS[1], ARGV[1])}", fold=_fold_count)

LOG = Script(
    "log of 100",
    lua="""
local stamps = redis.call('GET', KEYS[1]) or ''
local stamp = string.format('%016.0f', now)
if #stamps >= 1600 then stamps = string.sub(stamps, 17) end
redis.call('SET', KEYS[1], table.concat({stamps, stamp}), 'PX', 60000)
return {#stamps / 16 + 1}
""",
    fold=_fold_log,
)
