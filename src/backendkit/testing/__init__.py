"""What tests need of an application that uses backendkit, and of whoever adds a framework to it.

    from backendkit.testing import AsgiClient, FaultyStore, ManualClock, RecordedEvents, faults

    clock = ManualClock()                                  # moves when told; whoever sleeps on it moves it
    store = FaultyStore(MemoryStore(clock=clock))          # a store that fails on command
    store.inject(faults.LOST_AFTER)                        # the next operation runs, and its reply is lost
    kit = Kit(settings, store=store, clock=clock)
    events = RecordedEvents(kit.hooks)                     # what the features said has happened
    answer = AsgiClient(app).sync.get("/users/1")          # no server, no port, no other library

- `ManualClock`: time.
- `RecordedEvents`: events, with assertions.
- `FaultyStore`, `Fault`, `faults`: what a network does to a store, at the moment that a test chooses.
- `AsgiClient`, `WsgiClient`, `Answer`: applications called in process; streams, clients that leave, websockets, lifespans.
- `check_adapter`, `SCENARIOS`: what every adapter answers, as data; for a framework that has none yet.
- `check_store`: what every store owes its callers; for one of your own.
- `backendkit.testing.plugin`: the same as fixtures, which pytest finds by itself.

Importing this needs neither pytest nor a framework, and loads nothing but itself: each name brings in its module on
first use.
"""

TYPE_CHECKING = False  # `typing` would be the largest import here; checkers know this spelling too

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backendkit.core.clock import ManualClock as ManualClock
    from backendkit.testing import faults as faults
    from backendkit.testing.answers import Answer as Answer
    from backendkit.testing.answers import BrokenProtocol as BrokenProtocol
    from backendkit.testing.asgi import AsgiClient as AsgiClient
    from backendkit.testing.blocking import BlockingAsgiClient as BlockingAsgiClient
    from backendkit.testing.conformance import check_adapter as check_adapter
    from backendkit.testing.events import RecordedEvents as RecordedEvents
    from backendkit.testing.faults import Fault as Fault
    from backendkit.testing.faulty import FaultyStore as FaultyStore
    from backendkit.testing.scenarios import SCENARIOS as SCENARIOS
    from backendkit.testing.scenarios import Scenario as Scenario
    from backendkit.testing.sockets import AsgiSocket as AsgiSocket
    from backendkit.testing.sockets import SocketClosed as SocketClosed
    from backendkit.testing.stores import check_store as check_store
    from backendkit.testing.wsgi import WsgiClient as WsgiClient

_HOMES: "Mapping[str, str]" = {
    "Answer": "backendkit.testing.answers",
    "AsgiClient": "backendkit.testing.asgi",
    "AsgiSocket": "backendkit.testing.sockets",
    "BlockingAsgiClient": "backendkit.testing.blocking",
    "BrokenProtocol": "backendkit.testing.answers",
    "Fault": "backendkit.testing.faults",
    "FaultyStore": "backendkit.testing.faulty",
    "ManualClock": "backendkit.core.clock",
    "RecordedEvents": "backendkit.testing.events",
    "SCENARIOS": "backendkit.testing.scenarios",
    "Scenario": "backendkit.testing.scenarios",
    "SocketClosed": "backendkit.testing.sockets",
    "WsgiClient": "backendkit.testing.wsgi",
    "check_adapter": "backendkit.testing.conformance",
    "check_store": "backendkit.testing.stores",
}

__all__ = [
    "SCENARIOS",
    "Answer",
    "AsgiClient",
    "AsgiSocket",
    "BlockingAsgiClient",
    "BrokenProtocol",
    "Fault",
    "FaultyStore",
    "ManualClock",
    "RecordedEvents",
    "Scenario",
    "SocketClosed",
    "WsgiClient",
    "check_adapter",
    "check_store",
    "faults",
]


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562) and keep it."""
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    if name == "faults":
        return import_module("backendkit.testing.faults")
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names that are not imported yet as well."""
    return sorted({*globals(), *__all__})
