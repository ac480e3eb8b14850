"""Breakers behind a web front: errors, readiness, operators' routes, numbers; the same from both frameworks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from fastapi import FastAPI, Header
from flask import Flask, request

import backendkit.fastapi
import backendkit.flask
from backendkit.core.clock import ManualClock
from backendkit.core.metrics import Family
from backendkit.errors import Forbidden
from backendkit.kit import Kit
from backendkit.resilience import BulkheadFull, DeadlineExceeded
from backendkit.resilience.counts import check
from backendkit.settings import HttpSettings, ResilienceSettings, Settings, StoreSettings
from backendkit.stores import MemoryStore
from tests.unit.web.drivers import Asgi, Driver, Wsgi

SECOND = 1_000_000
SECRET = {"x-operator": "yes"}


def kit_of(**http: Any) -> Kit:
    """A kit on a clock that stands."""
    settings = Settings(http=HttpSettings(metrics_path="/metrics", **http))
    return Kit(settings, clock=ManualClock())


def fail() -> None:
    """Be what fails."""
    raise OSError("psw=hunter2")


def payments(kit: Kit) -> str:
    """Call the upstream, which is down."""
    return str(kit.breaker("pay").call(fail))


def fastapi_app(kit: Kit) -> Driver:
    """FastAPI."""
    app = FastAPI()
    backendkit.fastapi.install(app, kit)

    def guard(x_operator: str = Header(default="")) -> None:
        if x_operator != "yes":
            raise Forbidden("operators only")

    app.include_router(backendkit.fastapi.breakers_router(kit.breakers, guard=guard))

    @app.get("/pay/{order}")
    def pay(order: str) -> str:
        return payments(kit)

    @app.get("/late")
    def late() -> str:
        raise DeadlineExceeded

    @app.get("/full")
    def full() -> str:
        raise BulkheadFull("pay", 3)

    return Asgi(app)


def flask_app(kit: Kit) -> Driver:
    """Flask."""
    app = Flask(__name__)
    backendkit.flask.install(app, kit)

    def guard() -> None:
        if request.headers.get("x-operator") != "yes":
            raise Forbidden("operators only")

    app.register_blueprint(backendkit.flask.breakers_blueprint(kit.breakers, guard=guard))

    @app.get("/pay/<order>")
    def pay(order: str) -> str:
        return payments(kit)

    @app.get("/late")
    def late() -> str:
        raise DeadlineExceeded

    @app.get("/full")
    def full() -> str:
        raise BulkheadFull("pay", 3)

    return Wsgi(app)


both = pytest.mark.parametrize("made", [fastapi_app, flask_app], ids=["fastapi", "flask"])
Made = Callable[[Kit], Driver]


@both
def test_a_rejection_is_a_503_with_retry_after(made: Made) -> None:
    """In the envelope; nothing of the circuit shows."""
    kit = kit_of()
    front = made(kit)
    kit.breaker("pay", open_for=7.5, jitter=0).open()
    answer = front.get("/pay/1")
    assert (answer.status, answer.error["code"]) == (503, "CIRCUIT_OPEN")
    assert answer.one("retry-after") == "8"
    assert b"pay" not in answer.body


@both
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/late", 504, "DEADLINE_EXCEEDED"), ("/full", 503, "BULKHEAD_FULL")],
)
def test_other_refusals_have_their_status(made: Made, path: str, status: int, code: str) -> None:
    """In the envelope."""
    answer = made(kit_of()).get(path)
    assert (answer.status, answer.error["code"]) == (status, code)


@both
def test_operators_list_force_and_reset(made: Made) -> None:
    """Nobody else does; a message of a failure, which may hold secrets, is not shown."""
    kit = kit_of()
    front = made(kit)
    for _ in range(10):
        front.get("/pay/1")
    kit.breaker("pay", "api.example:8080")
    for method, path in [
        ("GET", "/circuits"),
        ("PUT", "/circuits/pay"),
        ("DELETE", "/circuits/pay"),
    ]:
        assert front.request(method, path).status == 403
    answer = front.get("/circuits", SECRET)
    assert b"hunter2" not in answer.body
    one, host = json.loads(answer.body)["circuits"]
    assert (one["name"], one["state"], one["totals"]["failed"]) == ("pay", "open", 10)
    assert one["lastFailure"]["type"] == "builtins.OSError"
    assert host["name"] == "pay/api.example:8080"
    assert put(front, "/circuits/pay/api.example:8080", "forced-open").status == 200
    assert kit.breaker("pay", "api.example:8080").current_state == "forced-open"
    assert put(front, "/circuits/pay", "ajar").status == 400
    assert put(front, "/circuits/nobody", "open").status == 404
    assert front.request("DELETE", "/circuits/pay", headers=SECRET).status == 200
    assert kit.breaker("pay").current_state == "closed"


def put(front: Driver, path: str, mode: str) -> Any:
    """Give an order."""
    body = json.dumps({"mode": mode}).encode()
    headers = {**SECRET, "content-type": "application/json", "content-length": str(len(body))}
    return front.request("PUT", path, headers=headers, body=body)


@both
def test_numbers_for_prometheus(made: Made) -> None:
    """Route templates, not paths; circuits and events; unknown paths and methods make no series of their own."""
    kit = kit_of(access_log=False)
    front = made(kit)
    for order in range(12):
        front.get(f"/pay/{order}")
    front.get("/nowhere/1")
    front.request("BREW", "/nowhere/2")
    answer = front.get("/metrics")
    text = answer.body.decode()
    assert answer.status == 200
    assert str(answer.one("content-type")).startswith("text/plain; version=")
    template = "/pay/{order}" if made is fastapi_app else "/pay/<order>"
    for line in (
        f'backendkit_http_requests_total{{method="GET",route="{template}",status="500"}} 10.0',
        f'backendkit_http_requests_total{{method="GET",route="{template}",status="503"}} 2.0',
        'backendkit_http_requests_total{method="OTHER",route="(none)",status="404"} 1.0',
        f'backendkit_http_request_duration_seconds_count{{method="GET",route="{template}"}} 12.0',
        'backendkit_circuit_state{circuit="pay",state="open"} 1.0',
        'backendkit_circuit_calls_total{circuit="pay",outcome="rejected"} 2.0',
        'backendkit_events_total{event="CircuitTransition"} 1.0',
    ):
        assert line in text
    assert "/pay/1" not in text


@both
def test_without_a_path_there_is_no_page(made: Made) -> None:
    """Nothing is told unless asked for."""
    kit = Kit(clock=ManualClock())
    assert made(kit).get("/metrics").status == 404


def test_readiness_may_look_at_a_breaker() -> None:
    """Only at those that it was told to."""
    kit = kit_of()
    kit.health.add("payments", check(kit.breaker("pay")))
    front = fastapi_app(kit)
    assert front.get("/readyz").status == 200
    kit.breaker("pay").force_open()
    clock: Any = kit.clock
    clock.advance(2 * SECOND)
    assert front.get("/readyz").status == 503


def test_the_kit_shares_circuits_through_a_store_that_is_shared() -> None:
    """Those of a memory store of its own are this process's, and stay when the kit is closed."""
    store = MemoryStore()
    one, other = Kit(store=store), Kit(store=store)
    one.breaker("pay").force_open()
    assert other.breaker("pay").current_state != "forced-open"
    with pytest.raises(Exception, match="forced-open"):
        other.breaker("pay").call(print)
    alone = Kit()
    first = alone.breaker("pay", trials=9)
    assert alone.breaker("pay") is first
    assert first.policy.trials == 9
    alone.close()
    assert alone.breaker("pay") is first
    store.close()


@both
def test_the_page_of_numbers_is_plain_text_of_the_version_that_all_read(made: Made) -> None:
    """A scraper that asks for no other gets 0.0.4; HEAD gets no body; another method is the application's."""
    front = made(kit_of())
    answer = front.get("/metrics", {"accept": "*/*"})
    assert answer.one("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.one("cache-control") == "no-store"
    head = front.request("HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")
    assert int(str(head.one("content-length"))) > 0
    assert front.request("POST", "/metrics").status == 404


@both
def test_a_name_is_escaped(made: Made) -> None:
    """Quotes and backslashes end no label."""
    kit = kit_of()
    kit.breaker('a"\\b')
    assert rb'{circuit="a\"\\b",state="closed"} 1.0' in made(kit).get("/metrics").body


@both
def test_hosts_make_no_series(made: Made) -> None:
    """Those of a name are counted together, also those that have gone: what grows never falls."""
    settings = Settings(
        http=HttpSettings(metrics_path="/metrics"), resilience=ResilienceSettings(max_circuits=3)
    )
    kit = Kit(settings, clock=ManualClock())
    front = made(kit)
    for number in range(20):
        kit.breaker("crawl", f"{number}.example").call(str)
    kit.breaker("crawl", "19.example").open()
    text = front.get("/metrics").body.decode()
    assert ".example" not in text
    for line in (
        'backendkit_circuit_state{circuit="crawl",state="open"} 1.0',
        'backendkit_circuit_state{circuit="crawl",state="closed"} 2.0',
        'backendkit_circuit_calls_total{circuit="crawl",outcome="succeeded"} 20.0',
    ):
        assert line in text


def test_numbers_are_drawn_beside_the_event_loop() -> None:
    """Ten thousand circuits take a while to tell."""
    kit, threads = kit_of(), set[int]()

    def source() -> list[Family]:
        threads.add(threading.get_ident())
        return []

    kit.metrics.add(source)
    assert fastapi_app(kit).get("/metrics").status == 200
    assert threads
    assert threading.get_ident() not in threads


def test_all_stores_of_the_kit_are_counted() -> None:
    """Also those that it opened for limits and circuits; no line is told twice."""
    kit = Kit(
        Settings(store=StoreSettings.model_validate({"url": "redis://user:hunter2@127.0.0.1:1"}))
    )
    assert "backendkit_store_operations" not in {family.name for family in kit.metrics.families()}
    kit.breaker("pay")
    for _ in range(2):
        families = {family.name: family.samples for family in kit.metrics.families()}
        assert len(families["backendkit_store_operations"]) == 1
        assert "hunter2" not in repr(families)
        assert kit.store.stats().operations == 0
    kit.close()


def flask_guarded_by(guard: Callable[[], object]) -> Driver:
    """Flask, with this guard."""
    kit, app = kit_of(), Flask(__name__)
    backendkit.flask.install(app, kit)
    kit.breaker("pay")
    app.register_blueprint(backendkit.flask.breakers_blueprint(kit.breakers, guard=guard))
    return Wsgi(app)


def test_a_guard_of_flask_may_answer() -> None:
    """As functions of `before_request` do; None lets pass."""
    answer = flask_guarded_by(lambda: ("not you", 401)).get("/circuits")
    assert (answer.status, answer.body) == (401, b"not you")
    assert flask_guarded_by(lambda: None).get("/circuits").status == 200


def test_a_guard_that_says_something_else_lets_nobody_in() -> None:
    """A False is no None, and a coroutine that nobody awaits has guarded nothing."""

    async def later() -> None:
        await asyncio.sleep(0)
        raise Forbidden("operators only")

    for guard in (lambda: False, later):
        answer = flask_guarded_by(guard).get("/circuits")
        assert answer.status in {403, 500}
        assert b"pay" not in answer.body


@both
def test_an_order_is_not_repeated_to_the_caller_at_length(made: Made) -> None:
    """Nor is a mode that is no text an error of ours."""
    kit = kit_of()
    front = made(kit)
    kit.breaker("pay")
    answer = put(front, "/circuits/pay", "x" * 100_000)
    assert answer.status == 400
    assert len(answer.body) < 2_000
    assert put(front, "/circuits/pay", cast("str", ["open"])).status in {400, 422}
