"""Fixtures of all tests: real servers, shared or of one's own, and the fault proxy.

Shared servers (`redis_single`, ...) start when a test first asks and live as long as the session;
tests keep apart by `namespace`, and must leave them healthy. Whoever breaks a server takes one of
their own (`own_redis`, ...).
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from hypothesis import settings

from tests.ground.cluster import ClusterGroup
from tests.ground.proxy import FaultProxy
from tests.ground.sentinel import SentinelGroup
from tests.ground.single import SecureSingle, Single

settings.register_profile("default", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("ci", settings.get_profile("default"), max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A suite that was started in the background ignores Ctrl-C or the terminal's end, and so would every server it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Nothing fails over in the shared groups: a busy machine must not look like a dead server.
_CALM_MS = 10_000


@pytest.fixture(scope="session")
def redis_single() -> Iterator[Single]:
    """One shared server."""
    with Single() as single:
        yield single


@pytest.fixture(scope="session")
def redis_tls() -> Iterator[SecureSingle]:
    """One shared server with TLS and ACL users."""
    with SecureSingle() as single:
        yield single


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[SentinelGroup]:
    """A shared master with one replica and three sentinels."""
    with SentinelGroup(down_after_ms=_CALM_MS) as group:
        yield group


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[ClusterGroup]:
    """A shared cluster of three masters."""
    with ClusterGroup(node_timeout_ms=_CALM_MS) as group:
        yield group


@pytest.fixture
def namespace() -> str:
    """A prefix for keys that no other test has; without braces, so that it is no hash tag."""
    return f"test-{uuid4().hex}:"


@pytest.fixture
def own_redis() -> Iterator[Callable[..., Single]]:
    """Start servers of this test's own; arguments as for `Single`."""
    with ExitStack() as stack:
        yield lambda *config: stack.enter_context(Single(*config))


@pytest.fixture
def own_sentinel() -> Iterator[Callable[..., SentinelGroup]]:
    """Start Sentinel groups of this test's own; arguments as for `SentinelGroup`."""
    with ExitStack() as stack:
        yield lambda *config, **options: stack.enter_context(SentinelGroup(*config, **options))


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., ClusterGroup]]:
    """Start clusters of this test's own; arguments as for `ClusterGroup`."""
    with ExitStack() as stack:
        yield lambda *config, **options: stack.enter_context(ClusterGroup(*config, **options))


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Put fault proxies before servers; arguments as for `FaultProxy`."""
    with ExitStack() as stack:
        yield lambda *target, **options: stack.enter_context(FaultProxy(*target, **options))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make what a test has written fit to be sent to another process: some write lone surrogates."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
