"""The pytest plugin: fixtures for tests of applications. pytest finds it by itself where backendkit is installed.

It loads nothing before a test asks for a fixture; `-p no:backendkit` leaves it out.

| fixture | is |
|---|---|
| `manual_clock` | a `ManualClock` |
| `faulty_store` | a `FaultyStore` around a `MemoryStore`, on `manual_clock`; closed after the test |
| `backend_kit` | a `Kit` on `faulty_store` and `manual_clock`, with default settings; closed after the test |
| `recorded_events` | the `RecordedEvents` of `backend_kit` |
| `asgi_client`, `wsgi_client` | make a client of an application |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from backendkit.core.clock import ManualClock
    from backendkit.kit import Kit
    from backendkit.testing.asgi import AsgiClient
    from backendkit.testing.events import RecordedEvents
    from backendkit.testing.faulty import FaultyStore
    from backendkit.testing.wsgi import WsgiClient


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that moves only when told."""
    from backendkit.core.clock import ManualClock  # noqa: PLC0415 - nothing is loaded unasked, here and below

    return ManualClock()


@pytest.fixture
def faulty_store(manual_clock: ManualClock) -> Iterator[FaultyStore]:
    """A store in memory that fails on command, on the manual clock."""
    from backendkit.stores import MemoryStore  # noqa: PLC0415
    from backendkit.testing.faulty import FaultyStore  # noqa: PLC0415

    store = FaultyStore(MemoryStore(clock=manual_clock))
    yield store
    store.close()


@pytest.fixture
def backend_kit(faulty_store: FaultyStore, manual_clock: ManualClock) -> Iterator[Kit]:
    """A kit on the faulty store and the manual clock."""
    from backendkit.kit import Kit  # noqa: PLC0415

    with Kit(store=faulty_store, clock=manual_clock) as kit:
        yield kit


@pytest.fixture
def recorded_events(backend_kit: Kit) -> Iterator[RecordedEvents]:
    """What the kit's features say has happened."""
    from backendkit.testing.events import RecordedEvents  # noqa: PLC0415

    events = RecordedEvents(backend_kit.hooks)
    yield events
    events.stop()


@pytest.fixture
def asgi_client() -> type[AsgiClient]:
    """Make a client of an ASGI application: `asgi_client(app).sync.get("/")`."""
    from backendkit.testing.asgi import AsgiClient  # noqa: PLC0415

    return AsgiClient


@pytest.fixture
def wsgi_client() -> type[WsgiClient]:
    """Make a client of a WSGI application: `wsgi_client(app).get("/")`."""
    from backendkit.testing.wsgi import WsgiClient  # noqa: PLC0415

    return WsgiClient
