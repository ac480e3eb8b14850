"""The conformance suite: one list of scenarios, asked of any application on any framework.

For whoever adds a framework:

    def make_app(kit: Kit) -> WSGIApplication: ...     # the routes of `backendkit.testing.scenarios`, with `kit` installed

    def test_the_adapter() -> None:
        check_adapter(make_app)

It asks every `Scenario`, and what data cannot say: that an unknown error is reported once, with its traceback and
in its request's context; that a stream which fails is cut; that nothing of a request stays behind; that two
applications with two kits do not mix.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.kit import Kit
from backendkit.settings import HttpSettings, Settings
from backendkit.testing.answers import Answer, BrokenProtocol
from backendkit.testing.asgi import AsgiClient
from backendkit.testing.blocking import BlockingAsgiClient
from backendkit.testing.scenarios import REQUEST_ID, SCENARIOS, Scenario
from backendkit.testing.wsgi import WsgiClient

MakeApp: TypeAlias = Callable[[Kit], Any]
"""Returns an ASGI or WSGI application with the routes of `scenarios`, and the kit that it is given installed."""

Client: TypeAlias = BlockingAsgiClient | WsgiClient


def check_adapter(make_app: MakeApp, *, without: Collection[str] = ()) -> None:
    """Assert that an adapter answers as all others do.

    Args:
        make_app: see `MakeApp`; called several times.
        without: scenarios to leave out, by name or by what they need (`framework`, `body`, `layers`).

    Raises:
        AssertionError: it does not; the message has a line for everything that is wrong.
    """
    wrong = list(faults(make_app, without=without))
    if wrong:
        raise AssertionError(f"{len(wrong)} faults:\n  " + "\n  ".join(wrong))


def faults(make_app: MakeApp, *, without: Collection[str] = ()) -> Iterator[str]:
    """Say what is wrong with an adapter, line by line; arguments as for `check_adapter`."""
    client = client_of(make_app(new_kit()))
    for scenario in SCENARIOS:
        left_out = scenario.name in without or (scenario.needs and scenario.needs in without)
        if not left_out:
            yield from _told(scenario.name, partial(_played, client, scenario))
    for check in (_reports_once, _cuts_streams, _leaves_nothing, _knows_the_id):
        yield from _told(check.__name__[1:].replace("_", " "), partial(check, client))
    yield from _told("two applications", partial(_keeps_apart, make_app))


def client_of(app: Any) -> Client:
    """Return a client that fits: an application whose call is a coroutine function is ASGI, any other WSGI."""
    call = app if inspect.isroutine(app) else type(app).__call__
    return AsgiClient(app).sync if inspect.iscoroutinefunction(call) else WsgiClient(app)


def new_kit(**http: Any) -> Kit:
    """Return a kit whose clock stands still, so that answers can be compared byte for byte."""
    return Kit(Settings(http=HttpSettings(**http)), clock=ManualClock())


@contextmanager
def reports() -> Generator[list[tuple[BaseException, str | None]]]:
    """Collect what is logged with an exception, with the id of the request that was current."""
    found: list[tuple[BaseException, str | None]] = []

    class Catcher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (
                record.exc_info
                and record.exc_info[1] is not None
                and record.exc_info[2] is not None
            ):
                found.append((record.exc_info[1], context.request_id()))

    catcher = Catcher()
    root = logging.getLogger()
    root.addHandler(catcher)
    try:
        yield found
    finally:
        root.removeHandler(catcher)


def _told(name: str, question: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Say what a question finds; an application that raises is a fault, not the end of the suite."""
    try:
        for fault in question():
            yield f"{name}: {fault}"
    except Exception as error:  # noqa: BLE001 - whatever an adapter does wrong is to be listed
        yield f"{name}: {type(error).__name__}: {error}"


def _played(client: Client, scenario: Scenario) -> Iterator[str]:
    answer = client.request(
        scenario.method, scenario.path, headers=scenario.sends, body=scenario.body
    )
    yield from scenario.faults(answer)


def _reports_once(client: Client) -> Iterator[str]:
    with reports() as found:
        client.get("/raise/unknown?token=secret", headers={"X-Request-ID": REQUEST_ID})
    told = [(type(exc), rid) for exc, rid in found]
    if told != [(ValueError, REQUEST_ID)]:
        yield f"an unknown error was reported as {told!r}"
    with reports() as found:
        client.get("/raise/own")
    if found:
        yield f"an error with a name was reported as unknown: {found!r}"


def _cuts_streams(client: Client) -> Iterator[str]:
    with reports() as found:
        try:
            answer = client.get("/stream", headers={"X-Request-ID": REQUEST_ID})
        except (BrokenPipeError, BrokenProtocol):
            answer = Answer()
    if answer.complete:
        yield "a stream that failed looks complete"
    if [type(exc) for exc, _ in found] != [ValueError]:
        yield f"a stream that failed was reported as {found!r}"


def _leaves_nothing(client: Client) -> Iterator[str]:
    for path in ("/ok", "/raise/own", "/raise/unknown"):
        client.get(path)
        if context.current() is not None:
            yield f"after {path} its request is still current"


def _knows_the_id(client: Client) -> Iterator[str]:
    answer = client.get("/ok")
    made = answer.header("x-request-id")
    if not made or answer.json() != {"requestId": made}:
        yield f"the application saw {answer.body!r}, the client {made!r}"
    if client.get("/ok").header("x-request-id") == made:
        yield "two requests have one id"


def _keeps_apart(make_app: MakeApp) -> Iterator[str]:
    plain, problems = client_of(make_app(new_kit())), new_kit(error_format="problem")
    other = client_of(make_app(problems))
    for _ in range(2):
        if plain.get("/raise/own").header("content-type") != "application/json":
            yield "the kit with envelopes tells problems"
        if other.get("/raise/own").header("content-type") != "application/problem+json":
            yield "the kit with problems tells envelopes"
