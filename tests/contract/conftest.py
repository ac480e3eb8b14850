"""One parametrised fixture for all stores and colours: `driver`; and all of them at once: `drivers`."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from backendkit.core.clock import ManualClock
from tests.ground.stores import EVERY, Bench, Driver, Kind, LoopThread


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """The event loop on which asynchronous faces run."""
    with LoopThread() as thread:
        yield thread


@pytest.fixture
def clock() -> ManualClock:
    """What all stores of a test take for now."""
    return ManualClock()


@pytest.fixture
def bench(
    request: pytest.FixtureRequest, loop_thread: LoopThread, clock: ManualClock, namespace: str
) -> Bench:
    """Opens stores of any kind; a kind's servers start when it is first asked for."""

    def url_of(kind: Kind) -> str:
        return str(request.getfixturevalue(f"redis_{kind}").url)

    return Bench(url_of, loop_thread, clock, namespace)


@pytest.fixture(params=EVERY, ids="-".join)
def driver(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Driver]:
    """A store in a colour: each test that takes it runs on all of them."""
    kind, colour = request.param
    with bench.driver(kind, colour) as opened:
        yield opened


@pytest.fixture
def drivers(bench: Bench) -> Iterator[list[Driver]]:
    """All stores in all colours at once, each with keys of its own, on one clock."""
    with ExitStack() as stack:
        yield [stack.enter_context(bench.driver(*each)) for each in EVERY]


@pytest.fixture(params=["memory", "single", "cluster"])
def shared_kind(request: pytest.FixtureRequest) -> Kind:
    """A kind of store whose faces many callers use at once."""
    kind: Kind = request.param
    return kind
