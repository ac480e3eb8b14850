"""Beside the real Sentry SDK and OpenTelemetry's real instrumentation, put in before us and after us."""

from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
import sentry_sdk
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

import backendkit.fastapi
import backendkit.flask
from backendkit.http.reporting import report
from tests.ground.loops import in_fork
from tests.unit.web.apps import new_kit
from tests.unit.web.drivers import Asgi, Driver, Wsgi, caught_reports

ORDERS = ["install first", "install last"]


def boom() -> None:
    """Raise what nobody has named."""
    raise ValueError("hunter2")


def application(framework: str, order: str, instrument: Callable[[Any], None]) -> Driver:
    """Return an application with a kit and a watcher, put in in this order."""
    app: Any = FastAPI() if framework == "fastapi" else flask.Flask("watched")
    install: Any = backendkit.fastapi if framework == "fastapi" else backendkit.flask
    app.get("/boom")(boom)
    if order == "install first":
        install.install(app, new_kit())
    instrument(app)
    if order == "install last":
        install.install(app, new_kit())
    return Asgi(app) if framework == "fastapi" else Wsgi(app)


class Sent(Transport):
    """A transport that keeps the events."""

    events: list[str]

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep the exceptions' types."""
        for item in envelope.items:
            if item.type == "event" and item.payload.json:
                self.events.append(item.payload.json["exception"]["values"][-1]["type"])


def test_sentry_that_is_loaded_and_not_set_up_is_not_asked_to_capture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A capture prepares the whole event, in milliseconds, before nobody takes it."""
    captured: list[BaseException] = []
    monkeypatch.setattr(sentry_sdk, "is_initialized", lambda: False)
    monkeypatch.setattr(sentry_sdk, "capture_exception", captured.append)
    report(ValueError("hunter2"), "GET /x")
    assert captured == []
    monkeypatch.setattr(sentry_sdk, "is_initialized", lambda: True)
    error = ValueError("hunter2")
    report(error, "GET /x")
    assert captured == [error]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_sentry_sees_an_unhandled_error_once(framework: str, order: str) -> None:
    """The envelope goes out, one record is written, and Sentry's own integration adds no second event."""

    def watched() -> tuple[str, int, list[str], list[str]]:
        sent = Sent()
        sentry_sdk.init(dsn="http://a@127.0.0.1:9/1", transport=sent)
        driver = application(framework, order, lambda _: None)
        with caught_reports() as reports:
            answer = driver.get("/boom")
        first = list(sent.events)
        driver.get("/nowhere")
        return answer.error["code"], len(reports), first, sent.events

    # Sentry patches threads, subprocesses and both frameworks, and never takes that back: only a child's are.
    assert in_fork(watched) == ("INTERNAL_ERROR", 1, ["ValueError"], ["ValueError"])


@pytest.fixture
def spans() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """A provider of this test's own, and what it has exported."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_the_current_span_has_the_error_once(
    framework: str, order: str, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    """And its trace is in the access line."""
    provider, exporter = spans
    undo: list[Callable[[], None]] = []

    def instrument(app: Any) -> None:
        instrumentor: Any = FastAPIInstrumentor if framework == "fastapi" else FlaskInstrumentor()
        instrumentor.instrument_app(app, tracer_provider=provider)
        undo.append(lambda: instrumentor.uninstrument_app(app))

    driver = application(framework, order, instrument)
    answer = driver.get("/boom")
    undo[0]()
    assert answer.error["code"] == "INTERNAL_ERROR"
    assert answer.one("x-request-id")
    found = [
        event.attributes["exception.type"]
        for span in exporter.get_finished_spans()
        for event in span.events
        if event.name == "exception" and event.attributes
    ]
    assert found == ["ValueError"]


def _listen(on: Any, app: Any) -> None:
    flask.got_request_exception.connect(on, app)


@pytest.mark.parametrize("order", ORDERS)
def test_got_request_exception_fires_once(order: str) -> None:
    """What Flask's own watchers listen to."""
    seen: list[type[BaseException]] = []

    def on(_: Any, exception: BaseException) -> None:
        seen.append(type(exception))

    driver = application("flask", order, lambda app: _listen(on, app))
    assert driver.get("/boom").status == 500
    assert seen == [ValueError]
