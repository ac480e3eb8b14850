"""The layers: security headers, deadlines, health, the access line; in the frame, alone, and as each adapter brings them."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.health import Health
from backendkit.errors import Errors
from backendkit.http import (
    AsgiFrame,
    DeadlineExceeded,
    Deadlines,
    HealthPages,
    Layers,
    SecurityHeaders,
    WsgiFrame,
    outgoing,
    remaining_us,
    use_security_headers,
)
from backendkit.http.alone_asgi import AsgiAccess, AsgiHealth, AsgiSecurity, asgi_deadline
from backendkit.http.alone_wsgi import WsgiHealth, WsgiSecurity, wsgi_access, wsgi_deadline
from backendkit.http.deadline import seconds
from backendkit.http.security import API, NONE
from tests.unit.web.apps import ID, PAIRS, Pair, fastapi_pair, flask_pair, new_kit
from tests.unit.web.drivers import Asgi, Driver, Wsgi

PRESET = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


@pytest.fixture(params=list(PAIRS.values()), ids=list(PAIRS))
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return the application on each framework."""
    make: Callable[[], Pair] = request.param
    return make()


def asgi_app(*headers: tuple[bytes, bytes], status: int = 200) -> Any:
    """Return an application that answers `ok` with these headers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def wsgi_app(*headers: tuple[str, str], status: str = "200 OK") -> Any:
    """Return an application that answers `ok` with these headers."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [*headers])
        return [b"ok"]

    return app


@pytest.mark.parametrize(
    "path", ["/ok", "/nowhere", "/raise/app", "/raise/unknown", "/healthz", "/redirect"]
)
def test_every_status_has_the_preset_once(pair: Pair, path: str) -> None:
    """Errors, redirects and pages of ours are answers, too; HSTS means nothing over http."""
    answer = pair.driver.get(path, ID)
    assert {name: answer.one(name) for name in PRESET} == PRESET
    assert answer.one("strict-transport-security") is None
    wanted = "no-store" if answer.status >= 400 or path == "/healthz" else None
    assert answer.one("cache-control") == wanted


@pytest.mark.parametrize("make", ["asgi frame", "asgi alone", "wsgi frame", "wsgi alone"])
def test_what_the_application_sets_stays_and_is_never_twice(make: str) -> None:
    """In whichever case it spells the name."""
    own = ("X-Frame-Options", "SAMEORIGIN")
    raw = (own[0].encode(), own[1].encode())
    cookies = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    layers = Layers(security=API)
    drivers: dict[str, Callable[[], Driver]] = {
        "asgi frame": lambda: _Lower(AsgiFrame(asgi_app(raw, *cookies), Errors(), layers=layers)),
        "asgi alone": lambda: _Lower(AsgiSecurity(asgi_app(raw, *cookies))),
        "wsgi frame": lambda: Wsgi(
            WsgiFrame(
                wsgi_app(own, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")), Errors(), layers=layers
            )
        ),
        "wsgi alone": lambda: Wsgi(
            WsgiSecurity(wsgi_app(own, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")))
        ),
    }
    answer = drivers[make]().get("/")
    assert answer.all("x-frame-options") == ["SAMEORIGIN"]
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.one("x-content-type-options") == "nosniff"


class _Lower(Asgi):
    """Takes header names as they come, as servers do."""

    def __init__(self, app: Any) -> None:
        async def lowered(scope: Any, receive: Any, send: Any) -> None:
            async def lower(message: Any) -> None:
                if "headers" in message:
                    message = {
                        **message,
                        "headers": [(k.lower(), v) for k, v in message["headers"]],
                    }
                await send(message)

            await app(scope, receive, lower)

        super().__init__(lowered)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_hsts_goes_out_over_https_only(scheme: str) -> None:
    """RFC 6797 section 7.2."""
    policy = SecurityHeaders()
    names = {name.lower() for name, _ in policy.missing((), 200, https=scheme == "https")}
    assert ("strict-transport-security" in names) == (scheme == "https")
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asgi_app()({**scope}, receive, send)

    async def send(message: Any) -> None:
        found.extend(message.get("headers", ()))

    scope = {"type": "http", "method": "GET", "path": "/", "scheme": scheme, "headers": []}
    frame = AsgiFrame(app, Errors(), layers=Layers(security=policy))
    asyncio.run(frame(scope, None, send))  # type: ignore[arg-type]
    assert (b"strict-transport-security" in dict(found)) == (scheme == "https")


def test_a_route_asks_for_other_headers(pair: Pair) -> None:
    """From the view itself, whichever framework it is on."""

    def view() -> str:
        use_security_headers(NONE)
        return "{}"

    pair.app.get("/embed")(view)
    answer = pair.driver.get("/embed")
    assert not PRESET.keys() & {name for name, _ in answer.headers}


def test_documentation_pages_are_relaxed_and_the_rest_is_not() -> None:
    """Swagger's page loads scripts from elsewhere."""
    driver = fastapi_pair().driver
    for path in ("/docs", "/redoc"):
        csp = driver.get(path).one("content-security-policy")
        assert csp is not None
        assert "https://cdn.jsdelivr.net" in csp
    assert (
        driver.get("/openapi.json").one("content-security-policy")
        == PRESET["content-security-policy"]
    )


def test_security_headers_are_checked_and_can_be_switched_off() -> None:
    """A line break would be another header."""
    with pytest.raises(InvalidArgument, match="one line"):
        SecurityHeaders(csp="a\r\nb: c")
    kit = new_kit(http={"security_headers": False, "live_path": None, "ready_path": None})
    answer = fastapi_pair(kit).driver.get("/ok")
    assert answer.one("x-frame-options") is None
    assert fastapi_pair(kit=new_kit(http={"live_path": None})).driver.get("/healthz").status == 404


# deadlines


@pytest.mark.parametrize(
    ("text", "us"),
    [("1", 1_000_000), ("0.25", 250_000), (" 2.5 ", 2_500_000), ("0.0000001", None), ("0", None)]
    + [(bad, None) for bad in ("-1", "NaN", "inf", "1e3", "", "x", "1;2", "٣", "9" * 40, "+1")],
)
def test_a_deadline_is_a_positive_number_of_seconds(text: str, us: int | None) -> None:
    """Whatever else a client sends is ignored."""
    assert seconds(text) == us


@given(st.text())
def test_no_header_breaks_the_deadline(text: str) -> None:
    """Total, and within the limit."""
    budget = Deadlines(most=5).budget_us(text)
    assert budget is None or 0 < budget <= 5_000_000


def test_a_client_may_ask_for_less_and_no_more_than_the_limit() -> None:
    """The default is for those that say nothing."""
    deadlines = Deadlines(default=2, most=10)
    assert deadlines.budget_us("99") == 10_000_000
    assert deadlines.budget_us("nan") == deadlines.budget_us(None) == 2_000_000
    with pytest.raises(InvalidArgument):
        Deadlines("bad header")


def test_the_deadline_reaches_views_threads_and_outgoing_requests(pair: Pair) -> None:
    """And ends with the request."""
    clock = pair.kit.clock
    seen: list[Any] = []

    def view() -> str:
        seen.append((remaining_us(clock), outgoing(clock=clock)))
        return "{}"

    pair.app.get("/left")(view)
    pair.driver.get("/left", {"X-Request-Timeout": "1.5"})
    pair.driver.get("/left", {"X-Request-Timeout": "NaN"})
    assert seen == [(1_500_000, {"X-Request-Timeout": "1.500000"}), (None, {})]
    assert context.deadline_us() is None


def test_a_deadline_that_has_passed_refuses_to_ask_others() -> None:
    """It would be in vain."""
    clock = ManualClock()
    with context.until(clock.mono_us() + 5):
        clock.advance(5)
        with pytest.raises(DeadlineExceeded):
            outgoing(clock=clock)


@pytest.mark.parametrize("kind", ["async", "thread", "swallowed"])
def test_a_request_over_its_deadline_is_a_504(kind: str) -> None:
    """Also where a thread goes on in vain; what was bound to the deadline is told once, as a warning."""
    pair = fastapi_pair()
    app: FastAPI = pair.app
    release = threading.Event()

    @app.get("/slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if kind != "swallowed":
                raise
            await asyncio.sleep(0)
            raise

    @app.get("/thread")
    def thread() -> None:
        release.wait(5)

    begun = time.monotonic()
    path = "/thread" if kind == "thread" else "/slow"

    async def ask() -> Any:
        try:
            return await pair.driver._request("GET", path, {**ID, "X-Request-Timeout": "0.05"}, b"")  # type: ignore[attr-defined]
        finally:
            release.set()

    answer = asyncio.run(ask())
    assert (answer.status, answer.error["code"]) == (504, "DEADLINE_EXCEEDED")
    assert time.monotonic() - begun < 4


def test_a_cancellation_from_outside_passes_a_deadline() -> None:
    """It is not ours to tell."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        framed = asgi_deadline(app, Errors(), Deadlines(default=20))
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        task = asyncio.create_task(framed(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_wsgi_has_the_deadline_in_its_context() -> None:
    """And interrupts nothing."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(context.deadline_us())
        return wsgi_app()(environ, start_response)

    Wsgi(wsgi_deadline(app, Errors())).get("/", {"X-Request-Timeout": "9"})
    assert seen[0] is not None


# health


def test_the_pages_answer_head_and_get_and_leave_the_rest(pair: Pair) -> None:
    """No envelope: probes look at the status."""
    answer = pair.driver.get("/healthz", ID)
    assert (answer.status, answer.body, answer.one("x-request-id")) == (
        200,
        b'{"status":"ok"}',
        "same-1",
    )
    assert pair.driver.get("/readyz").body == b'{"status":"ready","checks":{}}'
    head = pair.driver.request("HEAD", "/readyz")
    assert (head.status, head.body) == (200, b"")
    assert pair.driver.request("POST", "/healthz").status == 404


def test_readiness_goes_down_with_a_check_and_on_the_way_out(pair: Pair) -> None:
    """What a check raised stays inside; what was found holds for a second."""
    fine = [True]

    def check() -> bool:
        if not fine[0]:
            raise RuntimeError("dsn=hunter2")
        return True

    clock = pair.kit.clock
    assert isinstance(clock, ManualClock)
    pair.kit.health.add("billing", check)
    assert pair.driver.get("/readyz").status == 200
    fine[0] = False
    clock.advance(999_999)
    assert pair.driver.get("/readyz").status == 200
    clock.advance(1)
    answer = pair.driver.get("/readyz")
    assert (answer.status, b"hunter2" in answer.body) == (503, False)
    assert b'"billing":{"status":"failed"' in answer.body
    assert pair.driver.get("/healthz").status == 200
    pair.kit.health.drain()
    assert b'"draining"' in pair.driver.get("/readyz").body
    assert pair.driver.get("/ok").status == 200


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_checks_run_side_by_side_each_with_its_own_limit(colour: str) -> None:
    """One that hangs is not started again before it has come back."""
    health = Health(timeout=0.15, keep=0)
    meet, hang, calls = threading.Barrier(2), threading.Event(), []

    async def on_the_loop() -> None:
        await asyncio.sleep(0)

    async def for_ever() -> None:
        await asyncio.Event().wait()

    def hangs() -> None:
        calls.append(1)
        hang.wait(5)

    health.add("a", lambda: meet.wait(2), timeout=3)
    health.add("b", lambda: meet.wait(2), timeout=3)
    health.add("loop", on_the_loop)
    health.add("false", lambda: False)
    health.add("hangs", hangs)
    if colour == "async":
        health.add("ever", for_ever)

    async def twice() -> Any:
        return await health.aio.readiness(), await health.aio.readiness()

    found = asyncio.run(twice()) if colour == "async" else (health.readiness(), health.readiness())
    hang.set()
    for readiness in found:
        results = {f.name: f.result for f in readiness.findings}
        assert results.pop("hangs") == results.pop("ever", "timeout") == "timeout"
        assert results == {"a": "ok", "b": "ok", "loop": "ok", "false": "failed"}
        assert readiness.state == "unready"
    assert len(calls) == 1


def test_many_probes_at_once_run_the_checks_once() -> None:
    """An attacker's probes cost what one costs."""
    calls: list[int] = []

    async def check() -> None:
        calls.append(1)
        await asyncio.sleep(0)

    health = Health()
    health.add("x", check)

    async def scenario() -> None:
        await asyncio.gather(*[health.aio.readiness() for _ in range(50)])

    asyncio.run(scenario())
    assert len(calls) == 1


def test_the_stores_check_is_there_where_a_store_is_named() -> None:
    """It carries an operation out."""
    from backendkit.kit import Kit
    from backendkit.settings import Settings
    from backendkit.stores import MemoryStore

    store = MemoryStore()
    kit = Kit(Settings(), store=store)
    assert [f.result for f in kit.health.readiness().findings] == ["ok"]
    broken = Kit(Settings(), store=store)
    store.close()
    assert [f.result for f in broken.health.readiness().findings] == ["failed"]


def test_health_alone() -> None:
    """On any application, in both worlds."""
    pages = HealthPages(Health(), ready="/r")
    for driver in (Asgi(AsgiHealth(asgi_app(), pages)), Wsgi(WsgiHealth(wsgi_app(), pages))):
        assert driver.get("/r").status == driver.request("HEAD", "/healthz").status == 200
        assert driver.get("/else").body == b"ok"


# the access line


class Lines:
    """An access log that remembers."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(
        self, request: Any, method: str, path: str, status: int, duration_us: int, **more: Any
    ) -> None:
        """Remember one line."""
        rid = None if request is None else request.id
        fields = {} if request is None else request.fields
        self.lines.append(
            {
                "id": rid,
                "method": method,
                "path": path,
                "status": status,
                "us": duration_us,
                **fields,
                **more,
            }
        )


def with_lines(make: Callable[..., Pair]) -> tuple[Pair, list[dict[str, Any]]]:
    """Return an application and the lines that it writes."""
    kit = new_kit()
    lines = Lines()
    kit.access = lines  # type: ignore[assignment]
    return make(kit), lines.lines


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ok", 200),
        ("/nowhere", 404),
        ("/raise/app", 409),
        ("/raise/unknown", 500),
        ("/readyz", 200),
    ],
)
@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_each_request_has_one_line(make: Callable[..., Pair], path: str, status: int) -> None:
    """With its id, its status and the size of what was sent."""
    pair, lines = with_lines(make)
    answer = pair.driver.get(path, ID)
    (line,) = lines
    assert (line["id"], line["method"], line["path"]) == ("same-1", "GET", path)
    assert (line["status"], line["size"]) == (status, len(answer.body))
    template = {"/raise/app": ("/raise/{name}", "/raise/<name>"), "/ok": ("/ok", "/ok")}
    if path in template:
        assert line["route"] == template[path][pair.name == "flask"]


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_what_a_view_binds_is_in_its_line(make: Callable[..., Pair]) -> None:
    """From a worker thread as well."""
    pair, lines = with_lines(make)

    def view() -> str:
        context.bind(user_id=7)
        return "{}"

    pair.app.get("/bind")(view)
    pair.driver.get("/bind")
    assert lines[0]["user_id"] == 7


def _nothing(number: int) -> dict[str, int]:
    return {}


def test_a_router_with_a_prefix_shows_its_whole_template() -> None:
    """As dashboards group by it."""
    from fastapi import APIRouter

    pair, lines = with_lines(fastapi_pair)
    router = APIRouter(prefix="/v1")
    router.add_api_route("/users/{number}", _nothing, methods=["GET"])
    pair.app.include_router(router, prefix="/api")
    pair.driver.get("/api/v1/users/7")
    assert lines[0]["route"] == "/api/v1/users/{number}"


def test_a_cancelled_request_and_one_whose_client_left_are_499() -> None:
    """Nginx's status for it."""
    lines = Lines()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await asyncio.Event().wait()
        await receive()
        await asgi_app()(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        """Drop it."""

    frame = AsgiFrame(app, Errors(), layers=Layers(access=lines))

    async def scenario() -> None:
        scope = {"type": "http", "method": "GET", "path": "/gone", "headers": []}
        await frame(scope, receive, send)
        waiting = {"type": "http", "method": "GET", "path": "/wait", "headers": []}
        task = asyncio.create_task(frame(waiting, receive, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert [line["status"] for line in lines.lines] == [499, 499]


def test_access_alone(caplog: pytest.LogCaptureFixture) -> None:
    """On any application; without a frame there is no id."""
    lines = Lines()
    Asgi(AsgiAccess(asgi_app(status=201), lines)).get("/x")
    Wsgi(wsgi_access(wsgi_app(), Errors(), lines)).get("/y")

    async def boom(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        Asgi(AsgiAccess(boom, lines)).get("/z")
    assert [(line["path"], line["status"], line["size"]) for line in lines.lines] == [
        ("/x", 201, 2),
        ("/y", 200, 2),
        ("/z", 500, 0),
    ]


def test_the_real_access_log_writes_one_json_line_of_each_request() -> None:
    """The frame and the feature fit together."""
    import io
    import json

    from backendkit.logging import configure_logging

    out = io.BytesIO()
    with configure_logging(stream=out):
        for make in (fastapi_pair, flask_pair):
            make().driver.get("/raise/app", ID)
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [r["route"] for r in records] == ["/raise/{name}", "/raise/<name>"]
    assert all(r["request_id"] == "same-1" and r["status"] == 409 for r in records)
    assert all(r["bytes"] > 100 for r in records)


def test_a_wsgi_stream_counts_what_it_sends_and_a_file_what_it_says() -> None:
    """The line is written when the server closes the response."""
    lines = Lines()

    class Wrapper:
        """As `wsgi.file_wrapper` of servers."""

        def __init__(self, data: bytes) -> None:
            self.data = data

        def __iter__(self) -> Iterator[bytes]:
            return iter([self.data])

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/file":
            start_response("200 OK", [("Content-Length", "5")])
            environ["wsgi.file_wrapper"] = Wrapper
            return Wrapper(b"12345")
        start_response("200 OK", [])
        return iter([b"a", b"bb", b"ccc"])

    driver = Wsgi(WsgiFrame(app, Errors(), layers=Layers(access=lines)))
    driver.get("/stream")
    driver.get("/file")
    assert [(line["path"], line["size"]) for line in lines.lines] == [("/stream", 6), ("/file", 5)]


def test_lifespans_pass() -> None:
    """They are no requests."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for layer in (
        AsgiSecurity(app),
        AsgiHealth(app, HealthPages(Health())),
        AsgiAccess(app, Lines()),
    ):
        asyncio.run(layer({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"] * 3
