"""The shared breaker: round trips, and what a store that is down costs; beside pybreaker on Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pybreaker
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from backendkit.resilience import CircuitBreaker, CircuitOpen
from backendkit.stores import connect
from tests.benchmarks.report import Row, write
from tests.ground.single import Single
from tests.ground.waiting import eventually

CALLS = 2_000

TEXT = """
Round trips are commands that the server has counted, a call. The latency is that of calls which succeed while the server is
stopped, after the first one that noticed. pybreaker's Redis storage runs on a client without retries; with redis-py's own
retries each call takes seconds. Lower is better; ratios
are to our own bounds.
"""


def page() -> str:
    """Measure everything and write the page."""
    with Single() as single:
        rows = [*_round_trips(single), *_down(single)]
    return write("resilience_shared", "The shared breaker", TEXT, rows, ["pybreaker", "redis"])


def _round_trips(single: Single) -> Iterator[Row]:
    theirs = _pybreaker(single, "theirs")
    strict = _ours(single, "strict", coalesce=0)
    lazy = _ours(single, "lazy")
    for breaker in (strict, lazy):
        breaker.call(int)
    eventually(lambda: _trips(single, lambda: lazy.call(int), 50) < 0.5, "a second has passed")
    each = _trips(single, lambda: theirs.call(int))
    yield _row("success, each told at once", _trips(single, lambda: strict.call(int)), each, 1.05)
    yield _row("success, told together", _trips(single, lambda: lazy.call(int)), each, 0.1)
    theirs.open()
    lazy.open()
    each = _trips(single, lambda: _rejected(theirs))
    yield _row("rejected while open", _trips(single, lambda: _rejected(lazy)), each, 0.1)
    strict.reconfigure(trials=1, open_for=0.2, open_growth=1)
    yield _row("trial", _trial(single, strict), _trial(single, _pybreaker(single, "trial")), 2)


def _trial(single: Single, breaker: Any) -> float:
    """Count the commands of the call that closes an open circuit."""
    breaker.open()
    time.sleep(1.1)
    return _trips(single, lambda: breaker.call(int), 1)


def _row(what: str, ours: float, theirs: float, bound: float) -> Row:
    """Hold a figure against the bound that we had set ourselves."""
    return Row(what, f"{ours:.3f} trips", "pybreaker", f"{theirs:.1f} trips", ours / bound, 1)


def _down(single: Single) -> Iterator[Row]:
    breaker, theirs = _ours(single, "down"), _pybreaker(single, "down")
    breaker.call(int)
    single.server.kill()
    each = sorted(_seconds(lambda: breaker.call(int)) for _ in range(CALLS))
    calls = sorted(_seconds(lambda: theirs.call(int)) for _ in range(50))
    ours, rival = each[int(0.99 * CALLS)] * 1e6, calls[len(calls) // 2] * 1e6
    yield Row(
        "Redis down, p99 of a call",
        f"{ours:.0f} us",
        "pybreaker",
        f"{rival:.0f} us",
        ours / 1000,
        1,
    )
    failures = _until_open(breaker)
    yield Row(
        "Redis down, failures until open", f"{failures}", "pybreaker", "never", failures / 10, 1
    )


def _until_open(breaker: CircuitBreaker) -> int:
    def fail() -> None:
        raise OSError

    for count in range(CALLS):
        try:
            breaker.call(fail)
        except CircuitOpen:
            return count
        except OSError:
            pass
    return CALLS


def _ours(single: Single, name: str, **options: Any) -> CircuitBreaker:
    usual: dict[str, Any] = {"window": 20, "minimum_calls": 10, "open_for": 60}
    return CircuitBreaker(name, store=connect(single.url), **{**usual, **options})


def _pybreaker(single: Single, name: str) -> pybreaker.CircuitBreaker:
    client = redis.Redis(port=single.server.port, retry=Retry(NoBackoff(), 0), socket_timeout=0.25)
    storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace=name)
    return pybreaker.CircuitBreaker(fail_max=10, reset_timeout=1, state_storage=storage)


def _rejected(breaker: Any) -> None:
    with suppress(pybreaker.CircuitBreakerError):
        breaker.call(int)


def _trips(single: Single, work: Callable[[], Any], calls: int = CALLS) -> float:
    """Return the commands that the server got for each call: scripts, or, of who sends none, all."""
    before = _commands(single)
    for _ in range(calls):
        work()
    grown = {name: count - before.get(name, 0) for name, count in _commands(single).items()}
    # What a script runs inside is counted by the server, and is no trip.
    return (grown.get("cmdstat_evalsha") or sum(grown.values())) / calls


def _commands(single: Single) -> dict[str, int]:
    told = single.server.info("commandstats")
    counts = {name: int(line.split("calls=")[1].split(",")[0]) for name, line in told.items()}
    counts.pop("cmdstat_info", None)
    return counts


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    with suppress(Exception):
        work()
    return time.perf_counter() - began
