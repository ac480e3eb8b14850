"""Clients of HTTP: what is repeated, what opens a host's circuit, and what callers see; against a real server."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import httpx
import pytest
import requests

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.core.errors import DeadlineExceeded, InvalidArgument
from backendkit.resilience import (
    BreakerPolicy,
    CircuitOpen,
    CircuitRegistry,
    Pipeline,
    Retry,
    httpx_transports,
    requests_adapter,
)
from backendkit.resilience.httpx_transports import ResilientAsyncTransport, ResilientTransport
from backendkit.resilience.requests_adapter import ResilientAdapter, host_of
from backendkit.resilience.upstream import Upstream


class Host(ThreadingHTTPServer):
    """Answers with the statuses it is told to, then with 200; keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.retry_after = ""
        self.seen: list[tuple[str, bytes, str | None]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        host.seen.append((self.command, body, self.headers.get("X-Left")))
        status = host.statuses.pop(0) if host.statuses else 200
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        if host.retry_after:
            self.send_header("Retry-After", host.retry_after)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_PUT = do_GET  # noqa: N815 - as it is called

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
        """Write nothing."""


@pytest.fixture
def host() -> Iterator[Host]:
    """A host of the test's own."""
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Send = Callable[..., tuple[int, bytes]]


class Client:
    """A client of any kind: sends, and returns status and body."""

    def __init__(self, kind: str, upstream: Upstream) -> None:
        self.kind = kind
        self.upstream = upstream

    def send(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        """Send a request."""
        if self.kind == "requests":
            session = requests.Session()
            session.trust_env = False
            with session:
                session.mount("http://", ResilientAdapter(self.upstream))
                answer = session.request(method, url, data=options.pop("content", None), **options)
                return answer.status_code, answer.content
        if self.kind == "httpx":
            with httpx.Client(transport=ResilientTransport(self.upstream)) as client:
                reply = client.request(method, url, **options)
                return reply.status_code, reply.content
        return asyncio.run(self._send(method, url, options))

    async def _send(self, method: str, url: str, options: Any) -> tuple[int, bytes]:
        content = options.get("content")
        if hasattr(content, "__next__"):
            options["content"] = _pieces(list(content))
        async with httpx.AsyncClient(transport=ResilientAsyncTransport(self.upstream)) as client:
            reply = await client.request(method, url, **options)
            return reply.status_code, reply.content


async def _pieces(pieces: list[bytes]) -> Any:
    for piece in pieces:
        yield piece


@pytest.fixture(params=["httpx", "httpx-async", "requests"])
def client(request: pytest.FixtureRequest) -> Client:
    """One of each kind, whose pauses take no time."""
    clock = ManualClock()
    policy = BreakerPolicy(minimum_calls=4, jitter=0)
    breakers = CircuitRegistry(policy, clock=clock)
    return Client(request.param, Upstream("up", breakers=breakers, clock=clock, header="X-Left"))


def test_a_get_is_repeated(client: Client, host: Host) -> None:
    """The caller sees the good answer."""
    host.statuses = [502, 0]
    assert client.send("GET", host.url) == (200, b"ok")
    assert len(host.seen) == 3


def test_the_last_answer_is_the_callers(client: Client, host: Host) -> None:
    """As it is, with its body."""
    host.statuses = [503, 503, 504]
    assert client.send("GET", host.url) == (504, b"ok")
    host.statuses = [500]
    assert client.send("GET", host.url) == (500, b"ok")
    assert len(host.seen) == 4


def test_a_post_is_not_repeated(client: Client, host: Host) -> None:
    """Unless it carries a key by which the host knows it again."""
    host.statuses = [503]
    assert client.send("POST", host.url, content=b"order")[0] == 503
    host.statuses = [503]
    headers = {"Idempotency-Key": "7"}
    assert client.send("POST", host.url, content=b"order", headers=headers)[0] == 200
    assert [body for _, body, _ in host.seen] == [b"order"] * 3


def test_a_body_that_is_gone_is_not_sent_again(client: Client, host: Host) -> None:
    """A stream cannot be read twice."""
    host.statuses = [503]
    headers = {"Content-Length": "2"} if client.kind != "requests" else {}
    status, _ = client.send("PUT", host.url, content=iter([b"a", b"b"]), headers=headers)
    assert status in (503, 200)
    assert len(host.seen) == 1 or client.kind == "requests"


def test_retry_after_is_honoured(client: Client, host: Host) -> None:
    """To the second."""
    clock: Any = client.upstream.clock
    host.statuses, host.retry_after = [429], "7"
    before = clock.mono_us()
    assert client.send("GET", host.url)[0] == 200
    assert clock.mono_us() - before == 7_000_000


def test_a_failing_host_is_left_alone_and_others_are_not(client: Client, host: Host) -> None:
    """Per host; 429 and our own mistakes do not count."""
    host.statuses = [429] * 6
    for _ in range(2):
        client.send("GET", host.url)
    breaker = client.upstream.breakers.find(f"up/127.0.0.1:{host.server_port}")
    assert breaker is not None
    assert breaker.current_state == "closed"
    host.statuses = [500] * 10
    seen = len(host.seen)
    for _ in range(4):
        client.send("GET", host.url)
    with pytest.raises(CircuitOpen):
        client.send("GET", host.url)
    assert len(host.seen) == seen + 4
    with Host() as other:
        threading.Thread(target=other.handle_request, daemon=True).start()
        assert client.send("GET", other.url)[0] == 200


def test_a_host_that_is_not_there_is_a_failure(client: Client) -> None:
    """The client library's own exception, after as many attempts as there may be."""
    with Host() as gone:
        url = gone.url
    with pytest.raises((httpx.ConnectError, requests.ConnectionError)):
        client.send("GET", url)
    with pytest.raises((httpx.ConnectError, requests.ConnectionError, CircuitOpen)):
        client.send("GET", url)
    breaker = next(iter(client.upstream.breakers))
    assert breaker.totals.failed >= 4


def test_nothing_is_sent_after_the_deadline(client: Client, host: Host) -> None:
    """And the host is told what is left before it."""
    clock: Any = client.upstream.clock
    with context.until(clock.mono_us() + 2_500_000):
        assert client.send("GET", host.url, timeout=60)[0] == 200
        clock.advance(3_000_000)
        with pytest.raises(DeadlineExceeded):
            client.send("GET", host.url)
    assert [left for _, _, left in host.seen] == ["2.500000"]
    breaker = next(iter(client.upstream.breakers))
    assert breaker.totals.failed == 0


def test_the_usual_policies_need_nothing(host: Host) -> None:
    """Each transport works as it is."""
    with httpx.Client(transport=ResilientTransport()) as client:
        assert client.get(host.url).status_code == 200
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", ResilientAdapter())
        assert session.get(host.url, timeout=30).status_code == 200
    with pytest.raises(InvalidArgument, match="header"):
        Upstream(header="a b")


def test_hosts_that_went_leave_nothing(client: Client) -> None:
    """A crawler's policies go with its breakers, of which there is a bounded number."""
    upstream = Upstream("up", breakers=CircuitRegistry(max_size=4))
    gone = [
        weakref.ref(upstream.policy(f"{number}.example", FAULTS_OF[client.kind], twice=True))
        for number in range(50)
    ]
    gc.collect()
    assert sum(policy() is not None for policy in gone) <= 4


def test_one_upstream_serves_both_libraries(host: Host) -> None:
    """Whichever comes first: each has exceptions of its own, and both have one breaker and one budget."""
    clock = ManualClock()
    upstream = Upstream("up", breakers=CircuitRegistry(clock=clock), clock=clock)
    for kind in ("httpx", "requests", "httpx-async"):
        host.statuses = [0, 0]
        assert Client(kind, upstream).send("GET", host.url) == (200, b"ok")
    assert len(host.seen) == 9
    assert len(upstream.breakers) == 1
    budgets = {
        id(layer.budget)
        for faults in FAULTS_OF.values()
        for twice in (False, True)
        for layer in cast("Pipeline", upstream.policy(host.url[7:-1], faults, twice=twice)).layers
        if isinstance(layer, Retry)
    }
    assert len(budgets) == 1


class Opened(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that knows whether it was closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"no"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"no"

    def close(self) -> None:
        """Take note."""
        self.closed = True

    async def aclose(self) -> None:
        """Take note."""
        self.closed = True


@pytest.mark.parametrize("kind", ["httpx", "httpx-async"])
def test_a_response_that_nobody_gets_is_closed(kind: str) -> None:
    """The circuit opens between two attempts: the first one's connection goes back."""
    clock, bodies = ManualClock(), list[Opened]()
    upstream = Upstream("up", breakers=CircuitRegistry(OPENS_AT_ONCE, clock=clock), clock=clock)

    def answer(_: httpx.Request) -> httpx.Response:
        bodies.append(Opened())
        return httpx.Response(503, stream=bodies[-1])

    inner = httpx.MockTransport(answer)
    request = httpx.Request("GET", "http://up.example/")

    def ask() -> None:
        if kind == "httpx":
            ResilientTransport(upstream, transport=inner).handle_request(request)
            return
        transport = ResilientAsyncTransport(upstream, transport=inner)
        asyncio.run(transport.handle_async_request(request))

    with pytest.raises(CircuitOpen):
        ask()
    assert [body.closed for body in bodies] == [True]


def test_a_response_of_requests_that_nobody_gets_is_closed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with httpx, where the body is streamed."""
    clock, closed = ManualClock(), list[int]()
    upstream = Upstream("up", breakers=CircuitRegistry(OPENS_AT_ONCE, clock=clock), clock=clock)
    close = requests.Response.close

    def noted(response: requests.Response) -> None:
        closed.append(response.status_code)
        close(response)

    monkeypatch.setattr(requests.Response, "close", noted)
    host.statuses = [503, 200]
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", ResilientAdapter(upstream))
        with pytest.raises(CircuitOpen):
            session.get(host.url, stream=True, timeout=30)
    assert closed == [503]


def test_a_cancelled_pause_closes_what_came_before() -> None:
    """The client went away between two attempts."""
    body, asked = Opened(), asyncio.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        asked.set()
        return httpx.Response(503, headers={"Retry-After": "50"}, stream=body)

    async def run() -> None:
        transport = ResilientAsyncTransport(transport=httpx.MockTransport(answer))
        request = httpx.Request("GET", "http://up.example/")
        task = asyncio.create_task(transport.handle_async_request(request))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert body.closed


def test_a_request_is_the_callers(client: Client, host: Host) -> None:
    """Sent again without a deadline, it has none: neither its timeouts nor its headers were changed for good."""
    if client.kind == "requests":
        prepared = requests.Request("GET", host.url).prepare()
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", ResilientAdapter(client.upstream))
            with context.until(client.upstream.clock.mono_us() + 2_500_000):
                session.send(prepared, timeout=30)
            session.send(prepared, timeout=30)
    else:
        request = httpx.Request("GET", host.url, extensions={"timeout": {"read": 30.0}})
        with context.until(client.upstream.clock.mono_us() + 2_500_000):
            sent(client, request)
        assert request.extensions == {"timeout": {"read": 30.0}}
        sent(client, request)
    assert [left for _, _, left in host.seen] == ["2.500000", None]


def sent(client: Client, request: httpx.Request) -> None:
    """Send a request through a client of its kind."""

    async def later() -> None:
        async with httpx.AsyncClient(transport=ResilientAsyncTransport(client.upstream)) as own:
            await own.send(request)

    if client.kind == "httpx":
        with httpx.Client(transport=ResilientTransport(client.upstream)) as own:
            own.send(request)
    else:
        asyncio.run(later())


def test_the_usual_port_is_no_other_host() -> None:
    """Requests leaves it in the address; with a name and password before it, which are nobody's business."""
    assert host_of("https://u:p@API.example:443/x") == "api.example"
    assert host_of("http://api.example:80/x") == "api.example"
    assert host_of("http://api.example:443/x") == "api.example:443"
    assert host_of("http://[::1]:80/x") == "[::1]"


def test_a_body_that_cannot_be_read_is_no_fault_of_the_host(client: Client, host: Host) -> None:
    """What the caller's own stream raises passes as it is; the host's circuit stays as it was."""

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise ValueError("the upload broke off")

    async def broken_async() -> AsyncIterator[bytes]:
        for piece in broken():
            yield piece

    content = broken_async() if client.kind == "httpx-async" else broken()
    with pytest.raises(ValueError, match="broke off"):
        client.send("PUT", host.url, content=content)
    (breaker,) = client.upstream.breakers
    assert (breaker.totals.failed, breaker.totals.ignored) == (0, 1)


def test_a_fault_of_the_transport_is_the_hosts() -> None:
    """Whatever it raises, where the body was at hand."""
    upstream = Upstream()

    def broken(_: httpx.Request) -> httpx.Response:
        raise RuntimeError("no idea")

    with (
        httpx.Client(
            transport=ResilientTransport(upstream, transport=httpx.MockTransport(broken))
        ) as client,
        pytest.raises(RuntimeError),
    ):
        client.put("http://up.example/", content=b"a")
    (breaker,) = upstream.breakers
    assert breaker.totals.failed == 1


OPENS_AT_ONCE = BreakerPolicy(window=1, minimum_calls=1, jitter=0)
FAULTS_OF = {
    "httpx": httpx_transports.FAULTS,
    "httpx-async": httpx_transports.FAULTS,
    "requests": requests_adapter.FAULTS,
}
