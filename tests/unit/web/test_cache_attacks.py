"""Attacks on the response cache: another's answer, a poisoned one, one cut short, one too late, one that never ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from backendkit.core import context
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument, StoreUnavailable
from backendkit.http import AsgiCache, CacheControl, CacheRule, WsgiCache, url_key
from backendkit.http.cache_asgi import asked_of as asked_of_scope
from backendkit.http.cache_wsgi import asked_of as asked_of_environ
from backendkit.http.etags import not_modified
from backendkit.testing import Answer, AsgiClient, BrokenProtocol, WsgiClient
from tests.unit.web.cached import Served

DATE = "Fri, 20 Nov 2026 10:00:00 GMT"
CACHED = ("cache-control", "max-age=60")


@pytest.fixture(params=["asgi", "wsgi"])
def served(request: pytest.FixtureRequest) -> Served:
    """A site behind the cache."""
    return Served(request.param)


# Another's answer


@pytest.mark.parametrize(
    "header", ["X-API-Key", "Proxy-Authorization", "X-Forwarded-User", "X-Forwarded-Client-Cert"]
)
def test_other_credentials_are_credentials(served: Served, header: str) -> None:
    """Keys, and the names that proxies add who have asked for a login; unless the rule says that they are not."""
    served.site.echo = header.lower()
    assert served.ask(**{header: "ada"}).body == b"ada"
    assert served.ask(**{header: "bob"}).body == b"bob"
    assert served.ask().body == b"none"
    served.use(credentials=())
    assert served.ask(**{header: "bob"}).body == b"none"


@pytest.mark.parametrize("sign", [{"REMOTE_USER": "ada"}, {"SSL_CLIENT_VERIFY": "SUCCESS"}])
def test_who_is_known_to_the_server_is_known(sign: dict[str, str]) -> None:
    """By a login of its own, or a client's certificate."""
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **sign}
    served = Served("wsgi")
    assert not served.rule.shares(asked_of_environ(environ))
    served.use(share_authorized=True)
    assert served.rule.shares(asked_of_environ(environ))


def test_who_has_a_certificate_is_known() -> None:
    """As servers tell it that have the TLS extension."""
    scope: dict[str, Any] = {"method": "GET", "path": "/", "headers": []}
    served = Served("asgi")
    assert served.rule.shares(asked_of_scope(scope))
    scope["extensions"] = {"tls": {"client_cert_chain": ["..."]}}
    assert not served.rule.shares(asked_of_scope(scope))


def test_what_a_guard_has_found_personal_is_not_stored(served: Served) -> None:
    """Though the rule shares what cookies asked for: on this page they make a difference."""
    served.use(share_cookies=True)
    request = context.Request("r1")
    request.personal = True
    token = context.enter(request)
    try:
        served.ask(cookie="session=ada")
    finally:
        context.leave(request, token)
    served.ask(cookie="session=bob")
    assert served.calls == 2


# A poisoned answer


@pytest.mark.parametrize(
    "header",
    ["Origin", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Original-URL", "X-Forwarded-Prefix"],
)
def test_what_moves_a_page_is_part_of_its_key(served: Served, header: str) -> None:
    """Applications build links of it, and do not say so in `Vary`."""
    served.site.echo = header.lower()
    assert served.ask(**{header: "evil.example"}).body == b"evil.example"
    assert served.ask().body == b"none"
    assert served.ask(**{header: "evil.example"}).body == b"evil.example"
    assert served.calls == 2
    served.cache.invalidate(url_key(("http", "testserver", "/a", "")))
    served.ask()
    assert served.calls == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"x-http-method-override": "DELETE"}, {"if-match": '"x"'}, {"if-unmodified-since": DATE}, {"content-length": "3"},
        {"transfer-encoding": "chunked"},
    ],
)  # fmt: skip
def test_odd_requests_ask_and_store_nothing(served: Served, headers: dict[str, str]) -> None:
    """With another method inside, a precondition, a body."""
    for _ in range(2):
        served.ask(**headers)
    served.ask()
    assert served.calls == 3
    served.ask(**headers)
    assert served.calls == 4


@pytest.mark.parametrize("status", [405, 414, 501])
def test_errors_of_one_odd_request_need_to_say_so(served: Served, status: int) -> None:
    """The rule's own lifetime does not hold for them."""
    served.use(ttl=60)
    served.site.status = status
    served.site.headers = []
    served.ask()
    served.ask()
    assert served.calls == 2
    served.site.headers = [("Cache-Control", "max-age=60")]
    served.ask()
    served.ask()
    assert served.calls == 3


def test_an_absent_header_is_not_an_empty_one(served: Served) -> None:
    """They may well be answered differently."""
    served.site.headers.append(("Vary", "X-Mode"))
    served.site.echo = "x-mode"
    assert served.ask(x_mode="").body == b""
    assert served.ask().body == b"none"


def test_a_content_type_is_a_header_like_others(served: Served) -> None:
    """CGI names it differently."""
    served.site.headers.append(("Vary", "Content-Type"))
    served.ask(content_type="a/b")
    served.ask(content_type="a/c")
    assert served.calls == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/%61", "/a", True), ("/caf%c3%a9", "/caf%C3%A9", True), ("/a%2541", "/aA", False), ("/a%25", "/a%2525", False),
        ("/a?b=1&c=2", "/a?c=2&b=1", False), ("/a?b=1&b=2", "/a?b=2&b=1", False), ("/a?", "/b", False), ("/a/", "/a", False),
        ("/A", "/a", False), ("//a", "/a", False), ("/a;b", "/a", False),
    ],
)  # fmt: skip
def test_spellings_of_a_path(served: Served, one: str, other: str, same: bool) -> None:
    """The same ones are one page, and others are never mixed up."""
    served.ask(path=one)
    served.ask(path=other)
    assert served.calls == (1 if same else 2)


def test_an_escaped_slash_is_another_page_where_that_can_be_seen() -> None:
    """WSGI has unescaped it."""
    served = Served("asgi")
    served.ask(path="/a%2Fb")
    served.ask(path="/a/b")
    assert served.calls == 2


def test_a_url_is_invalidated_as_it_is_written(served: Served) -> None:
    """Escaped or not, in whatever case; it is the same on both fronts."""
    served.ask(path="/caf%C3%A9%20x!", host="shop.example")
    for number, path in enumerate(("/caf%c3%a9%20x!", "/café x!", "/%63afé%20x!")):
        served.cache.invalidate(url_key(("HTTP", "Shop.Example", path, "")))
        served.ask(path="/caf%C3%A9%20x!", host="shop.example")
        assert served.calls == number + 2


# How long


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("Cache-Control", "max-age=60"), ("Age", "50")], 10),
        ([("Cache-Control", "max-age=60"), ("Age", "60")], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "x")], 60),
        ([("Cache-Control", "max-age=60"), ("Date", 20)], 40),
        ([("Cache-Control", "max-age=60"), ("Date", -20)], 60),
        ([("Cache-Control", "max-age=60"), ("Date", 20), ("Age", "30")], 30),
        ([("Expires", "0")], 0),
        ([("Expires", -30)], 30),
        ([("Expires", -30), ("Date", 10)], 30),
        ([("Expires", 5)], 0),
        ([("Expires", -30), ("Cache-Control", "max-age=5")], 5),
        ([("Pragma", "no-cache")], 0),
        ([], 90),
    ],
)
def test_lifetimes(served: Served, headers: list[tuple[str, Any]], seconds: int) -> None:
    """By Age, Date and Expires (RFC 9111 section 4.2); a number is a moment that many seconds ago."""
    served.use(ttl=90)
    now_s = served.clock.wall_us() // SECOND_US
    served.site.headers = [
        (name, formatdate(now_s - value, usegmt=True) if isinstance(value, int) else value)
        for name, value in headers
    ]
    served.ask()
    if seconds:
        served.wait(seconds - 1)
        assert served.ask().header("age") is not None
        assert served.calls == 1
        served.wait(1)
    served.ask()
    assert served.calls == 2


def test_an_age_goes_on(served: Served) -> None:
    """What a response had lived when it came counts, also for who wants nothing old."""
    served.site.headers = [("Cache-Control", "max-age=60, stale-if-error=60"), ("Age", "50")]
    served.ask()
    served.wait(5)
    assert served.ask().header("age") == "55"
    served.ask(cache_control="max-age=54")
    assert served.calls == 2


def test_numbers_without_end_are_the_longest() -> None:
    """RFC 9111 section 1.2.2; and of thousands of digits nobody makes a number."""
    for digits in ("2147483648", "9" * 11, "9" * 5_000):
        assert CacheControl.parse(f"max-age={digits}").max_age == 2**31 - 1
    assert CacheControl.parse("max-age=" + "0" * 5_000).max_age == 0
    assert CacheControl.parse("max-age=" + "0" * 5_000 + "7").max_age == 7


@pytest.mark.parametrize("strict", ["proxy-revalidate", "s-maxage=10"])
def test_max_stale_does_not_reach_what_shared_caches_must_ask_about(
    served: Served, strict: str
) -> None:
    """RFC 9111 section 4.2.4."""
    served.site.headers = [("Cache-Control", f"max-age=10, stale-if-error=60, {strict}")]
    served.ask()
    served.wait(20)
    served.ask(cache_control="max-stale")
    assert served.calls == 2


def test_only_if_cached_takes_what_may_be_served_stale(served: Served) -> None:
    """And the page is made anew all the same."""
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=30")]
    served.ask()
    served.wait(20)
    assert served.ask(cache_control="only-if-cached").header("age") == "20"
    served.wait(100)
    assert served.ask(cache_control="only-if-cached").status == 504


@pytest.mark.parametrize(
    "rule", [{"ttl": 0.5}, {"ttl": 1.5}, {"longest": 0}, {"longest": 46 * 86_400}, {"credentials": "x"}, {"keyed": ["X"]}]
)  # fmt: skip
def test_a_rule_that_could_not_be_kept_is_refused(rule: dict[str, Any]) -> None:
    """When it is made, not at a request."""
    with pytest.raises(InvalidArgument, match=next(iter(rule))):
        CacheRule(**rule)


# Conditions


@pytest.mark.parametrize(
    "date", ["1 Jan 2026 00:00:00 +99999999999999", "1 Jan 99999999999999999 00:00:00", "Fri, 20 Nov 2026 10:00:00", "", "0", "-1", "\0" * 99]
)  # fmt: skip
def test_no_date_breaks_a_request(served: Served, date: str) -> None:
    """Whatever a client sends as one."""
    served.site.headers.append(("Last-Modified", DATE))
    assert served.ask(if_modified_since=date).status in (200, 304)
    assert not not_modified([], DATE, None, date) or date.startswith("Fri")


def test_an_applications_own_304_fills_no_gap(served: Served) -> None:
    """Who has the page already asks first: the application is asked for the whole page, and it is stored."""
    served.site.headers.append(("ETag", '"v1"'))
    real = served.site.respond

    def respond(method: str, path: str, headers: dict[str, str]) -> Any:
        status, given, body = real(method, path, headers)
        return (304, given, []) if headers.get("if-none-match") == '"v1"' else (status, given, body)

    served.site.respond = respond  # type: ignore[method-assign]  # for this test
    assert served.ask(if_none_match='"v1"').status == 304
    assert served.ask().body == b"hello"
    assert served.ask(if_none_match='"v1"').status == 304
    assert served.calls == 1
    assert served.ask(if_none_match='"v1"', cookie="a=b").status == 304


def test_what_is_too_large_to_hold_is_not_sent_twice(served: Served) -> None:
    """By its own tag it is known to be there already."""
    served.use(max_body=5)
    served.site.headers += [("ETag", '"big"'), ("Content-Length", "12")]
    served.site.body = [b"hello ", b"world!"]
    assert served.ask(if_none_match='"big"').status == 304
    assert served.ask(if_none_match='"big"').body == b""
    assert served.ask().body == b"hello world!"


# Cut short, or without end


def test_what_was_cut_is_not_stored(served: Served) -> None:
    """Its length says that there was more (RFC 9111 section 3.3)."""
    served.site.headers.append(("Content-Length", "9"))
    for _ in range(2):
        with pytest.raises(BrokenProtocol, match="Content-Length is 9"):
            served.ask()
    assert served.calls == 2


@pytest.mark.parametrize("body", [b"123456", [b"123", b"456"]])
@pytest.mark.parametrize("length", [None, "6"])
def test_what_is_too_large_passes(
    served: Served, body: bytes | list[bytes], length: str | None
) -> None:
    """In one piece or many, whatever it says of its length."""
    served.use(max_body=5)
    served.site.body = body
    served.site.headers += [("Content-Length", length)] if length else []
    for _ in range(2):
        answer = served.ask()
        assert (answer.body, answer.header("etag")) == (b"123456", None)
    assert served.calls == 2


def test_a_lie_about_the_length_fills_no_memory() -> None:
    """What comes beyond the limit is not held back."""
    seen: list[int] = []

    def app(environ: Any, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "5")])
        for number in range(1_000):
            seen.append(number)
            yield b"12345"

    with WsgiClient(WsgiCache(app, CacheRule(max_body=50))).stream("GET", "/") as pieces:
        assert next(iter(pieces)) == b"12345"
        assert len(seen) == 0 or seen[-1] <= 11


def test_an_event_stream_begins_at_once() -> None:
    """Its client learns that it is connected before the first event."""

    async def scenario() -> None:
        event = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await event.wait()
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await send({"type": "http.response.body"})

        client = AsgiClient(AsgiCache(app, Served("asgi").rule))
        async with client.stream("GET", "/events") as stream:
            assert (await stream.begin()).status == 200
            event.set()
            assert [piece async for piece in stream] == [b"data: 1\n\n"]

    asyncio.run(scenario())


def test_an_event_stream_of_one_piece_is_one_all_the_same() -> None:
    """Over WSGI, too."""
    kind = [("Content-Type", "text/event-stream"), ("Cache-Control", "max-age=9")]
    served = Served("wsgi")
    served.site.headers = kind
    assert served.ask().header("etag") is None


def test_trailers_pass() -> None:
    """A response that announces them ends with them."""
    served = Served("asgi")
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [CACHED_RAW],
                "trailers": True,
            }
        )
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": []})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "http", "method": "GET", "path": "/a", "headers": []}
    asyncio.run(AsgiCache(app, served.rule)(scope, _never, send))
    assert sent == ["http.response.start", "http.response.body", "http.response.trailers"]


def test_what_comes_before_the_response_is_not_its_beginning() -> None:
    """A debug message, an early hint: the response behind it is stored."""
    served = Served("asgi")
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(1)
        await send({"type": "http.response.debug", "info": {}})
        await send({"type": "http.response.start", "status": 200, "headers": [CACHED_RAW]})
        await send({"type": "http.response.body", "body": b"x"})

    async def ask() -> list[str]:
        sent: list[str] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await AsgiCache(app, served.rule)(
            {"type": "http", "method": "GET", "path": "/a", "headers": []}, _never, send
        )
        return sent

    assert asyncio.run(ask())[1:] == asyncio.run(ask())
    assert calls == [1]


def test_a_response_that_breaks_off_breaks_off() -> None:
    """The server sees as much of it as without the cache, and no less."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
        )
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})

    async def send(message: Any) -> None:
        sent.append((message["type"], message.get("more_body")))

    scope = {"type": "http", "method": "GET", "path": "/a", "headers": []}
    asyncio.run(AsgiCache(app, Served("asgi").rule)(scope, _never, send))
    assert sent == [("http.response.start", None), ("http.response.body", True)]


def test_what_was_for_one_connection_is_not_stored(served: Served) -> None:
    """Nor what `Connection` names."""
    if served.colour == "wsgi":  # such applications may not say it (PEP 3333)
        served.site.headers += [("Proxy-Authenticate", "x")]
    else:
        served.site.headers += [("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1")]
    served.site.headers += [("X-Mine", "1")]
    served.ask()
    names = {name.lower() for name, _ in served.ask().headers}
    assert names == {"cache-control", "x-mine", "etag", "age"}
    assert served.calls == 1


# Too late


def test_background_work_holds_no_response_up() -> None:
    """It is sent, stored and told to others before; and what goes wrong then is not the client's."""
    served = Served("asgi")

    async def scenario() -> None:
        answered = asyncio.Event()
        made = []

        async def later() -> None:
            await asyncio.wait_for(answered.wait(), 10)
            raise RuntimeError("in the background")

        async def show(request: Any) -> Any:
            made.append(1)
            return PlainTextResponse("x", headers=dict([CACHED]), background=BackgroundTask(later))

        app = Starlette(routes=[Route("/a", show)])
        client = AsgiClient(AsgiCache(app, served.rule))

        async def ask() -> None:
            async with client.stream("GET", "/a") as stream:
                assert b"".join([piece async for piece in stream]) == b"x"
                assert (await client.get("/a")).header("age") == "0"
                answered.set()

        with pytest.raises(RuntimeError, match="in the background"):
            await ask()
        assert made == [1]

    asyncio.run(scenario())


class Body:
    """A body that notes when it is closed."""

    def __init__(self, seen: list[str], fails: Exception | None) -> None:
        self.seen = seen
        self.fails = fails

    def __iter__(self) -> Iterator[bytes]:
        """Yield all, or fail in the middle."""
        yield b"x"
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        """Note it."""
        self.seen.append("closed")


@pytest.mark.parametrize("fails", [None, RuntimeError("in the middle")])
def test_what_is_done_on_close_is_done_when_the_response_is_out(fails: Exception | None) -> None:
    """Over WSGI: what Flask calls on close. What failed before is closed all the same, once, and not stored."""
    seen: list[str] = []
    served = Served("wsgi")

    def app(environ: Any, start: Any) -> Any:
        start("200 OK", [("Cache-Control", "max-age=60"), ("Content-Length", "1")])
        return Body(seen, fails)

    cached = WsgiCache(app, served.rule)

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        seen.append("begun")

    environ = WsgiClient(app)._environ("GET", "/a", b"", {})
    if fails is not None:
        with pytest.raises(RuntimeError, match="in the middle"):
            cached(environ, start)
        assert seen == ["closed"]
        return
    body: Any = cached(environ, start)
    assert (list(body), seen) == ([b"x"], ["begun"])
    body.close()
    assert seen == ["begun", "closed"]
    assert list(cached(WsgiClient(app)._environ("GET", "/a", b"", {}), start)) == [b"x"]
    assert seen == ["begun", "closed", "begun"]


class Watched:
    """A store that counts how often something is dropped."""

    def __init__(self, cache: Any, dropped: list[str], *, aio: bool = False) -> None:
        self.get, self.set, self.get_or_load = cache.get, cache.set, cache.get_or_load
        self.real = cache.invalidate
        self.dropped = dropped
        self.invalidate: Any = self.drop_async if aio else self.drop
        self.aio: Any = None if aio else Watched(cache.aio, dropped, aio=True)

    def drop(self, *keys: str) -> None:
        """Drop."""
        self.dropped.extend(keys)
        self.real(*keys)

    async def drop_async(self, *keys: str) -> None:
        """Drop."""
        self.dropped.extend(keys)
        await self.real(*keys)


def test_a_change_is_seen_by_whoever_hears_of_it() -> None:
    """The pages are dropped before the answer goes out, and again when all is done."""
    served, dropped, seen = Served("asgi"), list[str](), list[int]()
    served.ask()
    served.use(store=Watched(served.cache, dropped))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        seen.append(len(dropped))

    scope = {"type": "http", "method": "POST", "path": "/a", "headers": [(b"host", b"testserver")]}
    asyncio.run(AsgiCache(app, served.rule)(scope, _never, send))
    assert (seen, len(dropped)) == ([1, 1], 2)
    served.ask()
    assert served.calls == 2


def test_a_change_that_begins_late_is_seen_all_the_same() -> None:
    """Over WSGI a response may begin with its first piece; what is written before the body counts as well."""
    served, dropped, seen = Served("wsgi"), list[str](), list[int]()
    served.ask()
    served.use(store=Watched(served.cache, dropped))

    def late(environ: Any, start: Any) -> Iterator[bytes]:
        start("200 OK", [])
        seen.append(len(dropped))
        yield b""

    def at_once(environ: Any, start: Any) -> Any:
        start("201 Made", [])(b"old")
        return [b" way"]

    WsgiClient(WsgiCache(late, served.rule)).post("/a")
    assert (seen, len(dropped)) == ([1], 2)
    served.ask()
    assert WsgiClient(WsgiCache(at_once, served.rule)).post("/a").body == b"old way"
    assert len(dropped) == 3
    served.ask()
    assert served.calls == 3


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_page_that_became_a_stream_is_let_go_of(version: str) -> None:
    """Nobody waits for what is fetched anew behind a client: an endless stream of it ends, and no loop spins."""
    served = Served("asgi")
    ended = []

    async def forever() -> Any:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            ended.append(True)

    stream = [False]

    async def show(request: Any) -> Any:
        if stream[0]:
            return StreamingResponse(forever(), headers=dict([CACHED]))
        return PlainTextResponse(
            "x", headers={"cache-control": "max-age=10, stale-while-revalidate=90"}
        )

    inner = AsgiCache(Starlette(routes=[Route("/a", show)]), served.rule)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["asgi"]["spec_version"] = version
        await inner(scope, receive, send)

    async def scenario() -> None:
        client = AsgiClient(app)
        await client.get("/a")
        stream[0] = True
        served.wait(20)
        assert (await asyncio.wait_for(client.get("/a"), 10)).body == b"x"

    asyncio.run(scenario())
    assert ended == [True]


def test_what_is_fetched_behind_a_client_and_fails_is_told() -> None:
    """To the server, which logs it, as for any request."""
    served = Served("asgi")
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=90")]
    served.ask()
    served.wait(20)
    served.site.error = RuntimeError("down")
    with pytest.raises(RuntimeError, match="down"):
        served.ask()


def test_an_error_that_something_stale_hides_is_told(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """To operators: the client sees none."""
    served.site.headers = [("Cache-Control", "max-age=10, stale-if-error=90")]
    served.ask()
    served.wait(20)
    served.site.error = RuntimeError("the source is down")
    assert served.ask(path="/a?").body == b"hello"
    assert "the source is down" in caplog.text


def test_a_store_that_raises_at_the_first_look_is_nobodys_problem(served: Served) -> None:
    """A strict cache, for one."""

    class Down:
        """Fails."""

        def __init__(self, *, aio: bool) -> None:
            fail: Callable[..., Any] = self.fail_async if aio else self.fail
            self.get = self.set = self.get_or_load = self.invalidate = fail
            self.aio: Any = None if aio else Down(aio=True)

        def fail(self, *args: Any, **options: Any) -> None:
            raise StoreUnavailable("down")

        async def fail_async(self, *args: Any, **options: Any) -> None:
            raise StoreUnavailable("down")

    served.use(store=Down(aio=False))
    assert [served.ask().status, served.ask("POST").status, served.calls] == [200, 200, 2]


class Failing:
    """A store that does what it should, and then fails: at turns, or at any look behind one."""

    def __init__(self, cache: Any, *, looks: bool, aio: bool = False) -> None:
        self.cache = cache
        self.get, self.set, self.invalidate = cache.get, cache.set, cache.invalidate
        self.down = False
        self.looks = looks
        self.get_or_load: Any = self.load_async if aio else self.load
        self.aio: Any = None if aio else Failing(cache.aio, looks=looks, aio=True)

    def _mind(self, key: str, *, done: bool) -> bool:
        """Fail where it is time, and tell whether this is a turn."""
        turn = key.endswith(":turn")
        if (turn and done and not self.looks) or (self.down and not turn):
            raise StoreUnavailable("down")
        if turn:
            self.down = self.looks
        return turn

    def load(self, key: str, loader: Any, **options: Any) -> Any:
        """Load, or fail."""
        if self._mind(key, done=False) and self.looks:
            return "kept"
        found = self.cache.get_or_load(key, loader, **options)
        self._mind(key, done=True)
        return found

    async def load_async(self, key: str, loader: Any, **options: Any) -> Any:
        """Load, or fail."""
        if self._mind(key, done=False) and self.looks:
            return "kept"
        found = await self.cache.get_or_load(key, loader, **options)
        self._mind(key, done=True)
        return found


@pytest.mark.parametrize("looks", [False, True])
def test_a_store_that_fails_in_the_middle_is_nobodys_problem(
    served: Served,
    looks: bool,
) -> None:
    """Behind a turn, or before what it should have brought is found: the application has answered, once."""
    served.use(store=Failing(served.cache, looks=looks))
    assert (served.ask().body, served.calls) == (b"hello", 1)


def test_one_loop_fetches_anew_at_a_time() -> None:
    """While a stale page is fetched, others get the stale one and ask nobody."""
    served = Served("asgi")
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=30")]
    served.ask()
    served.wait(20)

    async def scenario() -> list[str | None]:
        client: AsgiClient
        ages: list[str | None] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            ages.append((await client.get("/a")).header("age"))
            await served.site.asgi(scope, receive, send)

        client = AsgiClient(AsgiCache(app, served.rule))
        return [(await client.get("/a")).header("age"), *ages]

    assert asyncio.run(scenario()) == ["20", "20"]
    assert served.calls == 2


# Compression inside


def test_compressed_pages_are_variants() -> None:
    """Each with a tag of its own, of the bytes that are sent."""
    served = Served("asgi")
    made = []

    async def show(request: Any) -> Any:
        made.append(1)
        return PlainTextResponse("x" * 2_000, headers=dict([CACHED]))

    app = Starlette(routes=[Route("/a", show)], middleware=[Middleware(GZipMiddleware)])
    client = AsgiClient(AsgiCache(app, served.rule)).sync

    def ask(accepted: str) -> Answer:
        return client.get("/a", headers={"Accept-Encoding": accepted})

    plain, small = ask("identity"), ask("gzip")
    assert (len(plain.body), small.header("content-encoding")) == (2_000, "gzip")
    assert plain.header("etag") != small.header("etag")
    assert (ask("gzip").body, ask("identity").body) == (small.body, plain.body)
    assert len(made) == 2


def test_threads_of_different_hosts_never_meet(served: Served) -> None:
    """Nor do those with different ports."""
    served.site.echo = "host"
    gate = threading.Barrier(4)
    found: dict[str, bytes] = {}

    def ask(host: str) -> None:
        gate.wait(10)
        found[host] = served.ask(host=host).body

    hosts = ["a.example", "b.example", "a.example:81", "c.example"]
    threads = [threading.Thread(target=ask, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {host: host.encode() for host in hosts}


CACHED_RAW = (b"cache-control", b"max-age=60")


async def _never() -> Any:
    await asyncio.Event().wait()


# Both fronts

WORDS = [
    "max-age=10", "max-age=10, stale-while-revalidate=20", "max-age=10, stale-if-error=20", "s-maxage=5, max-age=50", "private",
    "no-store", "no-cache", "public", "max-age=10, must-revalidate", "",
]  # fmt: skip
WISHES = ["", "no-cache", "max-age=3", "max-stale", "min-fresh=8", "only-if-cached", "no-store"]
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.1, 4, 12, 31])),
    st.tuples(st.just("site"), st.sampled_from([200, 404, 405, 503]), st.sampled_from(WORDS), st.sampled_from(["", "accept", "*"]), st.sampled_from([b"one", [b"a", b"b"], b"x" * 40])),
    st.tuples(st.just("ask"), st.sampled_from(["GET", "HEAD", "POST"]), st.sampled_from(["/a", "/a?b", "/%61", "/b"]), st.sampled_from(WISHES), st.sampled_from(["", "de"]), st.sampled_from(["", "*", '"one"']), st.booleans()),
)  # fmt: skip


@given(st.lists(STEPS, max_size=25), st.booleans(), st.sampled_from([None, 7]))
def test_both_fronts_answer_alike(steps: list[Any], obey: bool, ttl: int | None) -> None:
    """Whatever is asked, in whatever order; and who has a cookie is answered by the application."""
    fronts = [Served("asgi"), Served("wsgi")]
    for front in fronts:
        front.use(obey_requests=obey, ttl=ttl, max_body=30)
    for kind, *rest in steps:
        if kind == "wait":
            for front in fronts:
                front.wait(rest[0])
            continue
        if kind == "site":
            for front in fronts:
                front.site.status, says, vary, front.site.body = rest
                front.site.headers = [("Cache-Control", says)] if says else []
                front.site.headers += [("Vary", vary)] if vary else []
            continue
        method, path, wish, accept, condition, cookie = rest
        headers = {"cache-control": wish, "accept": accept, "if-none-match": condition}
        sent = {name: value for name, value in headers.items() if value}
        before = fronts[0].calls
        one, other = (
            front.ask(method, path, **sent, **({"cookie": "a=b"} if cookie else {}))
            for front in fronts
        )
        assert (one.status, one.body, sorted(one.headers)) == (
            other.status,
            other.body,
            sorted(other.headers),
        )
        assert fronts[0].site.calls == fronts[1].site.calls
        assert not cookie or fronts[0].calls == before + 1
        assert one.status != 304 or not one.body
