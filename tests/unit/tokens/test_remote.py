"""Another issuer's keys: fetched by one for all, seldom, over https, bounded; an old set serves on."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from backendkit.core.clock import SECOND_US, ManualClock, SystemClock
from backendkit.core.errors import InvalidArgument, ServiceUnavailable
from backendkit.core.events import Hooks
from backendkit.tokens import jws
from backendkit.tokens.errors import InvalidToken, TokenExpired
from backendkit.tokens.events import KeySetFailed
from backendkit.tokens.fetch import LARGEST_BODY, Answer, checked_url, https
from backendkit.tokens.keys import Key
from backendkit.tokens.remote import RemoteKeys, RemoteVerifier
from backendkit.tokens.ring import KeyRing
from tests.ground.loops import in_fork, in_threads

URL = "https://id.example/jwks.json"
ONE, TWO = Key.generate("ES256"), Key.generate("EdDSA")


def body_of(*keys: Key, extra: tuple[Any, ...] = ()) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": [*(key.jwk() for key in keys), *extra]}).encode()


class Issuer:
    """Answers as it is told, and counts."""

    def __init__(self, *keys: Key) -> None:
        self.clock = ManualClock()
        self.body = body_of(*keys)
        self.headers: dict[str, str] = {}
        self.status = 200
        self.error: Exception | None = None
        self.asked: list[Mapping[str, str]] = []
        self.meanwhile: Callable[[], object] = int
        self.told: list[Any] = []
        hooks = Hooks()
        hooks.add(self.told.append)
        self.keys = RemoteKeys(URL, transport=self, clock=self.clock, hooks=hooks)
        self.verifier = RemoteVerifier(
            self.keys, issuer="https://id.example", audience="api", clock=self.clock
        )

    def __call__(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Answer a request."""
        assert url == URL
        self.asked.append(headers)
        self.meanwhile()
        if self.error is not None:
            raise self.error
        return Answer(self.status, self.headers, self.body)

    def token(self, key: Key, **changes: Any) -> str:
        """Return a token of the issuer."""
        now = self.clock.wall_us() // SECOND_US
        claims = {
            "iss": "https://id.example", "sub": "u", "aud": "api", "exp": now + 10**6, **changes,
        }  # fmt: skip
        return jws.sign(json.dumps(claims).encode(), key)


def test_many_tokens_cost_one_request() -> None:
    """Keys are fetched with the first token, and serve the others; both faces share them."""
    issuer = Issuer(ONE, TWO)
    for key in (ONE, TWO, ONE):
        assert issuer.verifier.verify(issuer.token(key))["sub"] == "u"
    assert asyncio.run(issuer.verifier.aio.verify(issuer.token(TWO)))["sub"] == "u"
    assert len(issuer.asked) == 1
    assert issuer.verifier.aio.sync is issuer.verifier
    assert issuer.keys.aio.sync is issuer.keys
    assert ONE.kid in repr(issuer.verifier)


def test_what_is_wrong_with_a_token_is_no_reason_to_ask() -> None:
    """A bad signature, another audience, an expired token: refused with the keys that are known."""
    issuer = Issuer(ONE)
    good = issuer.token(ONE)
    issuer.verifier.verify(good)
    issuer.clock.advance(11 * SECOND_US)
    for bad in (good[:-4] + "AAAA", issuer.token(ONE, aud="other"), "junk", "a.b.c"):
        with pytest.raises(InvalidToken):
            issuer.verifier.verify(bad)
    with pytest.raises(TokenExpired):
        issuer.verifier.verify(issuer.token(ONE, exp=5))
    assert len(issuer.asked) == 1


def test_an_unknown_key_asks_once_in_ten_seconds() -> None:
    """Keys rotate, so an unknown id asks; whoever invents ids gets one request out of us in ten seconds."""
    issuer = Issuer(ONE)
    issuer.verifier.verify(issuer.token(ONE))
    issuer.body = body_of(ONE, TWO)
    with pytest.raises(InvalidToken):
        issuer.verifier.verify(issuer.token(TWO))
    issuer.clock.advance(10 * SECOND_US - 1)
    with pytest.raises(InvalidToken):
        issuer.verifier.verify(issuer.token(TWO))
    assert len(issuer.asked) == 1
    issuer.clock.advance(1)
    assert issuer.verifier.verify(issuer.token(TWO))["sub"] == "u"
    for _ in range(50):
        with pytest.raises(InvalidToken):
            issuer.verifier.verify(issuer.token(Key.generate("EdDSA")))
    assert len(issuer.asked) == 2


def test_sixteen_threads_share_a_request() -> None:
    """One asks, the others wait for it."""
    issuer = Issuer(ONE)
    waiting = threading.Semaphore(0)
    issuer.meanwhile = lambda: [waiting.acquire(timeout=30) for _ in range(15)]
    token = issuer.token(ONE)

    def verify(_: int) -> Any:
        waiting.release()
        return issuer.verifier.verify(token)["sub"]

    assert in_threads(16, verify) == ["u"] * 16
    assert len(issuer.asked) == 1


def test_two_hundred_tasks_share_a_request() -> None:
    """As tasks do; and one that goes away takes nothing from the others."""
    issuer = Issuer(ONE)
    token = issuer.token(ONE)

    async def transport(url: str, headers: Mapping[str, str]) -> Answer:
        await asyncio.sleep(0)
        return issuer(url, headers)

    keys = RemoteKeys(URL, transport=transport, clock=issuer.clock)
    verifier = RemoteVerifier(keys, issuer="https://id.example", audience="api", clock=issuer.clock)

    async def crowd() -> list[Any]:
        tasks = [asyncio.create_task(verifier.aio.verify(token)) for _ in range(200)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    first, *others = asyncio.run(crowd())
    assert isinstance(first, asyncio.CancelledError)
    assert [one["sub"] for one in others] == ["u"] * 199
    assert len(issuer.asked) == 1
    with pytest.raises(InvalidArgument, match="transport"):
        verifier.verify(token)
    with pytest.raises(InvalidArgument, match="transport"):
        keys.ensure()


def test_an_old_set_serves_while_one_caller_asks() -> None:
    """Nobody but the one who asks waits for a set that is merely old."""
    issuer = Issuer(ONE)
    token = issuer.token(ONE)
    issuer.keys.ensure()
    issuer.clock.advance(3_600 * SECOND_US)
    seen: list[Any] = []
    issuer.meanwhile = lambda: seen.append(in_threads(1, lambda _: issuer.verifier.verify(token)))
    issuer.verifier.verify(token)
    assert seen[0][0]["sub"] == "u"
    assert len(issuer.asked) == 2


def test_an_old_set_serves_on_when_asking_fails_and_not_for_ever() -> None:
    """A day at most, with an event for each failure; then 503, never 401; and it comes back by itself."""
    issuer = Issuer(ONE)
    token = issuer.token(ONE)
    asyncio.run(issuer.keys.aio.ensure())
    issuer.error = ConnectionRefusedError("secret detail")
    issuer.clock.advance(3_600 * SECOND_US)
    assert issuer.verifier.verify(token)["sub"] == "u"
    assert issuer.verifier.verify(token)["sub"] == "u"
    assert issuer.told == [KeySetFailed(URL, "ConnectionRefusedError", stale=True)]
    issuer.clock.advance(82_800 * SECOND_US - 1)
    assert issuer.verifier.verify(token)["sub"] == "u"
    issuer.clock.advance(1)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            issuer.verifier.verify(token)
    assert len(issuer.asked) == 3
    issuer.error = None
    issuer.clock.advance(10 * SECOND_US)
    assert issuer.verifier.verify(token)["sub"] == "u"


def test_without_any_set_it_is_503() -> None:
    """And asked for once in ten seconds all the same."""
    issuer = Issuer(ONE)
    issuer.error = TimeoutError()
    refused: list[ServiceUnavailable] = []
    for _ in range(5):
        with pytest.raises(ServiceUnavailable) as caught:
            issuer.verifier.verify(issuer.token(ONE))
        refused.append(caught.value)
    assert {error.retry_after for error in refused} == {10}
    assert len(issuer.asked) == 1
    assert issuer.told == [KeySetFailed(URL, "TimeoutError", stale=False)]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (301, b""),
        (302, body_of(ONE)),
        (500, body_of(ONE)),
        (304, b""),
        (200, b" " * (LARGEST_BODY + 1)),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": {}}'),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [], "keys": []}'),
        (200, b"[" * 200_000),
        (200, body_of(ONE, ONE)),
        (200, body_of(extra=(5, None, "x", {"kty": "oct", "k": "A" * 43, "alg": "HS256"}))),
    ],
)
def test_answers_that_are_no_key_set_change_nothing(status: int, body: bytes) -> None:
    """Redirects, errors, too many bytes, no keys, a kid twice: what was known serves on."""
    issuer = Issuer(ONE)
    if status != 304:
        issuer.keys.ensure()
    issuer.clock.advance(3_600 * SECOND_US)
    issuer.status, issuer.body = status, body
    if status == 304:
        with pytest.raises(ServiceUnavailable):
            issuer.keys.ensure()
    else:
        assert issuer.verifier.verify(issuer.token(ONE))["sub"] == "u"
    assert [type(event) for event in issuer.told] == [KeySetFailed]


def test_keys_for_other_purposes_are_passed_over() -> None:
    """Encryption keys, unknown kinds, symmetric ones: left out; the rest serves."""
    encryption = {**ONE.jwk(), "kid": "enc", "use": "enc"}
    rsa = KeyRing.generate("RS256").keys[0]
    unnamed = {name: value for name, value in rsa.jwk().items() if name != "alg"}
    strange = {"kty": "lattice", "kid": "q", "alg": "ML-DSA-44"}
    shared = {"kty": "oct", "k": "A" * 43, "alg": "HS256", "kid": "s"}
    issuer = Issuer(ONE)
    issuer.body = body_of(ONE, extra=(encryption, unnamed, strange, shared, [], {"alg": []}))
    issuer.keys.ensure()
    assert set(issuer.keys.snapshot.by_kid) == {ONE.kid}
    named = RemoteKeys(URL, transport=issuer, alg="RS256", clock=issuer.clock)
    named.ensure()
    assert set(named.snapshot.by_kid) == {ONE.kid, rsa.kid}


def test_the_same_bytes_keep_what_verifiers_remember_and_304_does_too() -> None:
    """The entity tag is sent back; an unchanged set is the same snapshot."""
    issuer = Issuer(ONE)
    issuer.headers = {"etag": '"v1"', "cache-control": "public, max-age=100"}
    issuer.keys.ensure()
    before = issuer.keys.snapshot
    issuer.clock.advance(100 * SECOND_US - 1)
    issuer.keys.ensure()
    assert len(issuer.asked) == 1
    issuer.clock.advance(1)
    issuer.status = 304
    issuer.keys.ensure()
    assert issuer.asked[1]["If-None-Match"] == '"v1"'
    issuer.status, issuer.headers = 200, {}
    issuer.clock.advance(3_600 * SECOND_US)
    issuer.keys.ensure()
    assert issuer.keys.snapshot is before
    assert len(issuer.asked) == 3


@pytest.mark.parametrize(
    ("said", "kept"),
    [("max-age=0", 60), ("no-store", 3_600), ("max-age=999999999", 3_600), ("s-maxage=5", 3_600),
     ("max-age=" + "9" * 5_000, 3_600), ("PUBLIC,MAX-AGE=90", 90)],
)  # fmt: skip
def test_what_an_issuer_says_about_age_is_bounded(said: str, kept: int) -> None:
    """Never less than a minute, never more than we want."""
    issuer = Issuer(ONE)
    issuer.headers = {"cache-control": said}
    issuer.keys.ensure()
    issuer.clock.advance(kept * SECOND_US - 1)
    issuer.keys.ensure()
    assert len(issuer.asked) == 1
    issuer.clock.advance(1)
    issuer.keys.ensure()
    assert len(issuer.asked) == 2


@pytest.mark.parametrize(
    "url",
    ["http://id.example/", "http://127.0.0.1/", "file:///etc/passwd", "ftp://id.example/", "https:///x", "id.example",
     "https://u:hunter2@id.example/", "https://id.example/#f", "https://id.example:x/", "https://id.ex\u00e4mple/",
     "https://id.example/a b\n"],
)  # fmt: skip
def test_urls_that_keys_must_not_come_from(url: str) -> None:
    """https, a host, no password; the message shows none."""
    with pytest.raises(InvalidArgument) as caught:
        RemoteKeys(url)
    assert "hunter2" not in str(caught.value)


def test_plain_http_is_for_loopback_and_only_when_said() -> None:
    """The option does not open plain http to anybody else."""
    assert checked_url("http://127.0.0.1:8000/jwks", loopback=True)
    with pytest.raises(InvalidArgument):
        checked_url("http://id.example/jwks", loopback=True)


def test_a_forked_worker_fetches() -> None:
    """The child has locks and flights of its own."""
    issuer = Issuer(ONE)
    issuer.keys.ensure()
    token = issuer.token(ONE)
    assert in_fork(lambda: issuer.verifier.verify(token)["sub"]) == "u"


class Site(BaseHTTPRequestHandler):
    """A web server's side of it."""

    protocol_version = "HTTP/1.1"
    paths: list[str]

    def do_GET(self) -> None:
        """Answer by path."""
        self.paths.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/jwks?v=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = body_of(ONE) if self.path == "/jwks?v=1" else b" " * (4 << 20)
        self.send_response(200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[tuple[str, list[str]]]:
    """A web server: its address, and the paths that it was asked for."""
    paths: list[str] = []
    handler = type("Handler", (Site,), {"paths": paths})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # we hang up on what is too large
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_standard_librarys_transport(site: tuple[str, list[str]]) -> None:
    """It fetches, follows no redirect, and hangs up above the bound."""
    address, paths = site
    keys = RemoteKeys(f"{address}/jwks?v=1", loopback=True)
    keys.ensure()
    assert set(keys.snapshot.by_kid) == {ONE.kid}
    for path in ("/moved", "/large"):
        with pytest.raises(ServiceUnavailable):
            RemoteKeys(f"{address}{path}", loopback=True).ensure()
    assert paths == ["/jwks?v=1", "/moved", "/large"]

    async def fetch() -> None:
        aio = RemoteKeys(f"{address}/jwks?v=1", loopback=True).aio
        await aio.ensure()
        assert set(aio.sync.snapshot.by_kid) == {ONE.kid}

    asyncio.run(fetch())


def test_a_certificate_that_nobody_vouches_for_is_refused(redis_tls: Any) -> None:
    """A server with a certificate of its own making gets no request."""
    certificates = redis_tls.certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate("server"), certificates.key("server"))
    told: list[Any] = []
    hooks = Hooks()
    hooks.add(told.append)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=answer)
        thread.start()
        keys = RemoteKeys(f"https://127.0.0.1:{listener.getsockname()[1]}/", hooks=hooks)
        with pytest.raises(ServiceUnavailable):
            keys.ensure()
        thread.join()
    assert [event.reason for event in told] == ["SSLCertVerificationError"]


def test_a_set_that_drips_is_given_up(site: tuple[str, list[str]]) -> None:
    """Whoever speaks, however slowly, has ten seconds in all."""

    class Hasty(ManualClock):
        def mono_us(self) -> int:
            self.advance(6 * SECOND_US)
            return super().mono_us()

    with pytest.raises(TimeoutError):
        https(Hasty())(f"{site[0]}/large", {})


def test_headers_that_drip_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """No single silence is too long, and yet it ends."""
    monkeypatch.setattr("backendkit.tokens.fetch.LONGEST_US", SECOND_US // 4)
    gone = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not gone.wait(0.01):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(TimeoutError, match="too slowly"):
            https(SystemClock())(f"http://127.0.0.1:{port}/", {})
        gone.set()
        thread.join()
