"""The response cache: what is stored, for whom, for how long, and what a condition gets; over ASGI and WSGI alike."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.errors import InvalidArgument, StoreUnavailable
from backendkit.http import AsgiCache, CacheControl, CacheRule, WsgiCache, etag_of, matches, url_key
from backendkit.http.cache_asgi import asked_of
from backendkit.http.etags import not_modified
from backendkit.testing import Answer, AsgiClient, WsgiClient
from tests.unit.web.cached import Served


@pytest.fixture(params=["asgi", "wsgi"])
def served(request: pytest.FixtureRequest) -> Served:
    """A site behind the cache."""
    return Served(request.param)


def test_a_response_is_stored_for_as_long_as_it_says(served: Served) -> None:
    """Same bytes, same headers, an Age that grows, and then a new one."""
    first = served.ask()
    served.wait(59)
    second = served.ask()
    assert (first.body, second.body, served.calls) == (b"hello", b"hello", 1)
    assert (first.header("age"), second.header("age")) == (None, "59")
    assert first.header("etag") == second.header("etag") == etag_of(b"hello")
    served.wait(1)
    assert served.ask().header("age") is None
    assert served.calls == 2


def test_head_is_served_from_get(served: Served) -> None:
    """Its headers, no body; a HEAD itself stores nothing."""
    served.site.headers.append(("Content-Length", "5"))
    assert served.ask("HEAD").header("etag") is None
    assert served.calls == 1
    got = served.ask()
    head = served.ask("HEAD")
    assert served.calls == 2
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "5")
    assert head.header("etag") == got.header("etag")


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        ("s-maxage=10, max-age=60", 10), ("max-age=10, max-age=60", 10), ("public", 0), ("max-age=0", 0), ("max-age=x", 0),
        ("no-store, max-age=9", 0), ("private, max-age=9", 0), ('private="x-y", max-age=9', 0), ("no-cache, max-age=9", 0),
        ("max-age=999999999", 86_400), ('max-age="10"', 10),
    ],
)  # fmt: skip
def test_the_response_decides(served: Served, says: str, seconds: int) -> None:
    """By its Cache-Control, for shared caches."""
    served.site.headers = [("Cache-Control", says)]
    served.ask()
    if seconds:
        served.wait(seconds - 0.001)
        served.ask()
        assert served.calls == 1
        served.wait(0.001)
    served.ask()
    assert served.calls == 2


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (500, []), (302, []), (206, []), (200, [("Set-Cookie", "a=b")]), (200, [("Vary", "*")]),
        (200, [("vary", "Accept, *")]),
    ],
)  # fmt: skip
def test_what_is_not_for_everybody_is_not_stored(
    served: Served, status: int, headers: list[tuple[str, str]]
) -> None:
    """Errors, cookies, what depends on everything."""
    served.site.status = status
    served.site.headers += headers
    served.ask()
    served.ask()
    assert served.calls == 2


@pytest.mark.parametrize("header", ["authorization", "cookie"])
def test_no_response_of_one_user_reaches_another(served: Served, header: str) -> None:
    """Neither is theirs stored, nor are they served what is; unless the rule says so."""
    served.site.echo = header
    assert served.ask(**{header: "ada"}).body == b"ada"
    assert served.ask().body == b"none"
    assert served.ask(**{header: "bob"}).body == b"bob"
    assert served.ask(**{header: "ada"}, if_none_match=etag_of(b"ada")).status == 304
    assert served.calls == 4
    served.use(**{"share_authorized" if header == "authorization" else "share_cookies": True})
    assert served.ask(**{header: "bob"}).body == b"none"
    assert served.calls == 4


def test_what_a_response_depends_on_is_part_of_its_key(served: Served) -> None:
    """Each variant is stored by itself, whatever order and case Vary has."""
    served.site.echo = "accept-language"
    served.site.headers.append(("Vary", "Accept-Language, accept"))
    for language in ("de", "en", "de", "en"):
        assert served.ask(accept_language=language).body == language.encode()
    assert served.calls == 2
    assert served.ask().body == b"none"
    assert served.ask(accept_language="de", accept="text/html").body == b"de"
    assert served.calls == 4
    assert served.ask(accept_language="de").header("vary") == "Accept-Language, accept"


def test_urls_are_apart(served: Served) -> None:
    """By path, query and host."""
    for path in ("/a", "/a?b=1", "/a?b=2", "/b"):
        served.ask(path=path)
    served.ask(host="other.example")
    assert served.calls == 5


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("TAG", 304), ("W/TAG", 304), ('"x", TAG', 304), ('"x",W/TAG , "y"', 304), ("*", 304), (" * ", 304),
        ('"x"', 200), ("", 200), ('"x, y"', 200), ("hello", 200),
    ],
)  # fmt: skip
def test_if_none_match(served: Served, condition: str, status: int) -> None:
    """Lists, `*`, weak comparison; stored or not."""
    condition = condition.replace("TAG", etag_of(b"hello"))
    for _ in range(2):
        answer = served.ask(if_none_match=condition)
        assert (answer.status, answer.body) == (status, b"hello" if status == 200 else b"")
    assert served.calls == 1


def test_a_304_keeps_what_it_must(served: Served) -> None:
    """Cache-Control, Vary, ETag and all that is not about the content."""
    served.site.headers += [
        ("Vary", "Accept"), ("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-Mine", "kept"),
        ("Expires", "0"), ("Access-Control-Allow-Origin", "*"),
    ]  # fmt: skip
    for _ in range(2):
        answer = served.ask(if_none_match="*")
        names = {name.lower() for name, _ in answer.headers} - {"age"}
        assert names == {"cache-control", "vary", "etag", "x-mine", "expires", "access-control-allow-origin"}  # fmt: skip


def test_if_modified_since(served: Served) -> None:
    """By the date, unless there is a tag to compare; a date that is none counts for nothing."""
    date = "Fri, 20 Nov 2026 10:00:00 GMT"
    served.site.headers.append(("Last-Modified", date))
    assert served.ask(if_modified_since=date).status == 304
    assert served.ask(if_modified_since="Fri, 20 Nov 2026 09:59:59 GMT").status == 200
    assert served.ask(if_modified_since="yesterday").status == 200
    assert served.ask(if_modified_since=date, if_none_match='"x"').status == 200


def test_an_applications_own_tag_stands(served: Served) -> None:
    """And only successes get one."""
    served.site.headers.append(("ETag", 'W/"mine"'))
    assert served.ask().header("etag") == 'W/"mine"'
    assert served.ask(if_none_match='"mine"').status == 304
    served.site.status = 404
    served.site.headers.pop()
    assert served.ask(path="/none", if_none_match="*").status == 404
    assert served.ask(path="/none").header("etag") is None


def test_conditions_work_without_a_store(served: Served) -> None:
    """Each response is made, and only sent where it is new."""
    served.use(store=None)
    assert served.ask(if_none_match=etag_of(b"hello")).status == 304
    assert served.ask("POST").body == b"hello"
    assert served.calls == 2


def test_stale_while_revalidate(served: Served) -> None:
    """The stale one at once, and by the next request there is a new one; after the window nothing stale."""
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=30")]
    served.ask()
    served.site.body = b"new"
    served.wait(39)
    stale = served.ask(if_modified_since="Fri, 20 Nov 2026 10:00:00 GMT")
    assert (stale.body, stale.header("age"), served.calls) == (b"hello", "39", 2)
    assert served.ask().body == b"new"
    assert served.calls == 2
    served.site.body = b"newer"
    served.wait(40)
    assert served.ask().body == b"newer"


def test_stale_if_error(served: Served) -> None:
    """Instead of an error or an exception, within the window, and no longer."""
    served.site.headers = [("Cache-Control", "max-age=10, stale-if-error=30")]
    served.ask()
    served.wait(39)
    served.site.error = RuntimeError("down")
    assert served.ask().body == b"hello"
    assert served.ask().body == b"hello"
    assert served.calls == 2  # whoever comes at the same moment does not ask what has just failed
    served.wait(0.03)
    served.site.error, served.site.status = None, 503
    assert served.ask().header("age") == "39"
    assert served.calls == 3
    served.wait(0.03)
    served.site.status = 400
    assert served.ask().status == 400
    served.wait(2)
    served.site.error = RuntimeError("down")
    with pytest.raises(RuntimeError, match="down"):
        served.ask()


def test_what_must_be_fresh_is_never_stale(served: Served) -> None:
    """`must-revalidate` overrides both windows, and what the request would take."""
    served.site.headers = [
        (
            "Cache-Control",
            "max-age=10, must-revalidate, stale-while-revalidate=30, stale-if-error=30",
        )
    ]
    served.ask()
    served.wait(11)
    served.site.status = 503
    assert served.ask(cache_control="max-stale").status == 503


@pytest.mark.parametrize(
    ("wish", "served_from"),
    [
        ("no-cache", "site"), ("no-store", "site"), ("max-age=4", "site"), ("max-age=5", "store"), ("min-fresh=6", "site"),
        ("min-fresh=5", "store"), ("only-if-cached", "store"),
    ],
)  # fmt: skip
def test_requests_have_wishes(served: Served, wish: str, served_from: str) -> None:
    """Unless the rule does not care."""
    served.site.headers = [("Cache-Control", "max-age=10")]
    served.ask()
    served.wait(5)
    served.ask(cache_control=wish)
    assert served.calls == (2 if served_from == "site" else 1)
    served.use(obey_requests=False)
    before = served.calls
    served.ask(cache_control=wish)
    assert served.calls == before


def test_other_wishes(served: Served) -> None:
    """What is not there is refused, or taken stale; the old word for no-cache counts as well."""
    answer = served.ask(cache_control="only-if-cached")
    assert (answer.status, served.calls) == (504, 0)
    served.site.headers = [("Cache-Control", "max-age=10, stale-if-error=60")]
    served.ask()
    served.wait(20)
    assert served.ask(cache_control="max-stale=10").header("age") == "20"
    assert served.ask(cache_control="max-stale").header("age") == "20"
    assert served.calls == 1
    served.ask(cache_control="max-stale=9")
    assert served.calls == 2
    served.ask(pragma="no-cache")
    assert served.calls == 3


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_change_drops_what_its_url_showed(served: Served, method: str) -> None:
    """All variants of it; a change that failed drops nothing."""
    served.site.headers.append(("Vary", "Accept"))
    served.ask(accept="a")
    served.ask(accept="b")
    served.site.status = 409
    served.ask(method)
    served.site.status = 200
    served.ask(accept="a")
    assert served.calls == 3
    served.ask(method)
    served.ask(accept="a")
    served.ask(accept="b")
    assert served.calls == 6


def test_tags_drop_responses_also_those_that_are_on_their_way(served: Served) -> None:
    """A response that was computed before an invalidation and is stored after it is never served."""
    served.use(tags=lambda asked: [asked.url[2].strip("/")])
    served.site.during = lambda: served.cache.invalidate_tags("a")
    served.ask()
    served.site.during = lambda: None
    served.site.body = b"new"
    assert served.ask().body == b"new"
    assert served.ask().body == b"new"
    assert served.calls == 2
    served.ask(path="/b")
    served.cache.invalidate_tags("a")
    served.ask()
    served.ask(path="/b")
    assert served.calls == 4


def test_a_url_is_invalidated_by_its_key(served: Served) -> None:
    """Scheme, host, path and query."""
    answer = served.ask(host="shop.example")
    assert answer.body == b"hello"
    served.cache.invalidate(url_key(("http", "shop.example", "/a", "")))
    served.ask(host="shop.example")
    assert served.calls == 2


def test_the_rule_has_a_lifetime_for_those_that_say_none(served: Served) -> None:
    """And a limit for those that say too much."""
    served.site.headers = []
    served.use(ttl=5, longest=3)
    served.ask()
    served.wait(2)
    served.ask()
    assert served.calls == 1
    served.wait(1)
    served.ask()
    assert served.calls == 2


def test_ranges_and_streams_pass(served: Served) -> None:
    """Neither held back nor stored; what is long passes, what says that it is short is held."""
    served.ask(range="bytes=0-1")
    served.ask(range="bytes=0-1")
    assert served.calls == 2
    served.site.body = [b"one", b"two", b""]
    answer = served.ask(path="/stream")
    assert (answer.body, answer.header("etag")) == (b"onetwo", None)
    served.site.headers = [("Cache-Control", "max-age=60"), ("Content-Length", "6")]
    assert served.ask(path="/short").header("etag") == etag_of(b"onetwo")
    served.use(max_body=5)
    assert served.ask(path="/long").header("etag") is None


def test_bytes_that_are_no_text_are_stored(served: Served) -> None:
    """As they are."""
    served.site.body = bytes(range(256))
    assert served.ask().body == served.ask().body == bytes(range(256))
    assert served.calls == 1


def test_a_store_that_fails_is_nobodys_problem(served: Served) -> None:
    """Nothing is stored, and all is served."""

    class Broken:
        """Keeps tokens, and nothing else."""

        def __init__(self, cache: Any) -> None:
            self.get, self.get_or_load = cache.get, cache.get_or_load
            self.set: Any = self._fail_async
            if hasattr(cache, "aio"):
                self.aio = Broken(cache.aio)
                self.set = self._fail
            self.invalidate = self.set

        def _fail(self, *args: Any, **kwargs: Any) -> None:
            raise StoreUnavailable("down")

        async def _fail_async(self, *args: Any, **kwargs: Any) -> None:
            raise StoreUnavailable("down")

    served.use(store=Broken(served.cache))
    assert served.ask().body == served.ask().body == b"hello"
    assert served.ask("POST").status == 200
    assert served.calls == 3


def test_foreign_values_in_the_store_are_misses(served: Served) -> None:
    """Whatever stands where a response should."""
    served.ask()

    class Odd:
        """Returns something else."""

        aio: Any = None

        def __init__(self, value: object) -> None:
            self.value = value
            self.get_or_load, self.set = served.cache.get_or_load, served.cache.set

        def get(self, key: str, default: None = None) -> Any:
            return self.value

    class OddAio(Odd):
        """The same, awaited."""

        def __init__(self, value: object) -> None:
            super().__init__(value)
            self.get_or_load = served.cache.aio.get_or_load  # type: ignore[assignment]  # the other colour
            self.set = served.cache.aio.set  # type: ignore[assignment]  # the other colour

        async def get(self, key: str, default: None = None) -> Any:
            return self.value

    values: list[Any] = [1, "x", [], {}, {"text": 1}, {"base64": "!"}, {"text": "", "headers": [1]}]
    for value in values:
        odd = Odd(value)
        odd.aio = OddAio(value)
        served.use(store=odd)
        assert served.ask().body == b"hello"
    assert served.calls == 8


def test_one_worker_fetches_anew_at_a_time() -> None:
    """While a stale page is fetched, others get the stale one and ask nobody."""
    served = Served("wsgi")
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=30")]
    served.ask()
    served.wait(20)
    answers: list[Answer] = []
    served.site.during = lambda: answers.append(served.ask())
    assert served.ask().header("age") == "20"
    assert [answer.header("age") for answer in answers] == ["20"]
    assert served.calls == 2


def test_what_can_no_longer_be_stored_is_still_served_stale(served: Served) -> None:
    """The page has become a stream by the time it is fetched anew."""
    served.site.headers = [("Cache-Control", "max-age=10, stale-while-revalidate=30")]
    served.ask()
    served.wait(20)
    served.site.body = [b"a", b"b"]
    assert served.ask().body == b"hello"
    assert served.ask().body == b"hello"
    assert served.calls == 3


def test_sockets_pass() -> None:
    """Only requests are looked at."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def nothing() -> Any: ...

    cached = AsgiCache(app, CacheRule())
    asyncio.run(cached({"type": "websocket"}, nothing, nothing))  # type: ignore[arg-type]  # never called
    assert seen == ["websocket"]


def test_other_messages_let_a_response_go() -> None:
    """A file that the server sends by itself is not held back."""
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/x"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def nothing() -> Any: ...

    scope = {"type": "http", "method": "GET", "path": "/a", "headers": []}
    asyncio.run(AsgiCache(app, CacheRule())(scope, nothing, send))
    assert sent == ["http.response.start", "http.response.pathsend"]
    assert asked_of(scope).url == ("http", "", "/a", "")


class File:
    """What a file wrapper makes."""

    def __iter__(self) -> Any:
        """Yield the file."""
        return iter([b"file"])


class Late:
    """A body that begins its response with its first piece, and is to be closed."""

    def __init__(self, start: Any) -> None:
        self.start = start
        self.closed = 0

    def __iter__(self) -> Any:
        """Begin."""
        self.start("200 OK", [])
        yield b"late"

    def close(self) -> None:
        """Count."""
        self.closed += 1


def old(answer: Callable[[Any], Any]) -> WsgiClient:
    """Return a client of an application that gets `start_response` and no more."""

    def wrapped(environ: Any, start: Any) -> Any:
        environ["wsgi.file_wrapper"] = File
        return WsgiCache(lambda _, inner: answer(inner), CacheRule())(environ, start)

    return WsgiClient(wrapped)


def write(start: Any, *headers: tuple[str, str]) -> Any:
    """Answer with `write`, and a body behind it."""
    start("200 OK", list(headers))(b"old")
    return iter([b" and", b" new"])


def test_write_comes_before_the_body() -> None:
    """Whether the response is held back or not."""
    assert old(write).get("/").body == b"old and new"
    assert old(lambda start: write(start, ("Content-Length", "11"))).get("/").body == b"old and new"


def test_a_file_is_left_to_the_server() -> None:
    """It can send it by itself."""

    def answer(start: Any) -> Any:
        start("200 OK", [])
        return File()

    assert old(answer).get("/").body == b"file"


def test_a_response_may_begin_with_its_first_piece() -> None:
    """And its body is closed once."""
    bodies: list[Late] = []

    def answer(start: Any) -> Any:
        bodies.append(Late(start))
        return bodies[-1]

    assert old(answer).get("/").body == b"late"
    assert [body.closed for body in bodies] == [1]


@pytest.mark.parametrize("body", [[b"x"], [b"x", b"y"]])
def test_a_response_may_begin_again(body: list[bytes]) -> None:
    """With what went wrong, as long as nothing was sent."""

    def answer(start: Any) -> Any:
        start("200 OK", [("X-Mine", "1")])
        start("503 No", [], (ValueError, ValueError("x"), None))
        return body

    answered = old(answer).get("/")
    assert (answered.status, answered.header("x-mine"), answered.body) == (
        503,
        None,
        b"".join(body),
    )


def test_tags_are_the_same_in_every_process() -> None:
    """Whatever the hash seed."""
    code = "from backendkit.http import etag_of; print(etag_of(b'hello'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {etag_of(b"hello")} == {'"LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"'}


def test_if_match_compares_strongly() -> None:
    """Two weak tags, or one, do not protect an update."""
    assert matches('"a", "b"', '"b"', weak=False)
    assert matches("*", None, weak=False)
    assert not matches('W/"b"', '"b"', weak=False)
    assert not matches('"b"', 'W/"b"', weak=False)
    assert not matches('"b"', None, weak=False)


@given(st.text(max_size=40), st.text(max_size=40))
def test_conditions_from_anywhere_never_fail(condition: str, date: str) -> None:
    """Whatever a client sends."""
    matches(condition, '"a"', weak=True)
    not_modified([], date, None, "Fri, 20 Nov 2026 10:00:00 GMT")
    str(CacheControl.parse(condition).max_age)


SECONDS = st.none() | st.integers(0, 2**31 - 1)


@given(
    st.builds(
        CacheControl,
        private=st.booleans(), no_cache=st.booleans(), no_transform=st.booleans(), must_revalidate=st.booleans(),
        immutable=st.booleans(), max_age=SECONDS, s_maxage=SECONDS, stale_while_revalidate=SECONDS, stale_if_error=SECONDS,
    )
)  # fmt: skip
def test_cache_control_reads_what_it_writes(control: CacheControl) -> None:
    """All of it."""
    assert CacheControl.parse(str(control)) == control


def test_cache_control_is_read_and_written() -> None:
    """Case, quotes, several lines, what is unknown; what contradicts itself is refused."""
    parsed = CacheControl.parse(['Public, MAX-AGE="5" , x=y, no-cache="a, b"', "max-stale, stale-if-error=99999999999999999999999"])  # fmt: skip
    assert (parsed.public, parsed.max_age, parsed.no_cache) == (True, 5, True)
    assert (parsed.max_stale, parsed.stale_if_error) == (2**31 - 1, 2**31 - 1)
    assert str(CacheControl(public=True, max_age=5, s_maxage=6)) == "public, max-age=5, s-maxage=6"
    for wrong in (CacheControl(public=True, private=True), CacheControl(no_store=True, max_age=5)):
        with pytest.raises(InvalidArgument, match="must not go with"):
            str(wrong)
    with pytest.raises(InvalidArgument, match="max_age"):
        CacheControl(max_age=-1)


def test_a_rule_is_checked() -> None:
    """When it is made."""
    for argument in ("ttl", "longest", "max_body"):
        with pytest.raises(InvalidArgument, match=argument):
            CacheRule(**{argument: -1})  # type: ignore[arg-type]  # refused on purpose


HERD = 12


def herd(served: Served, ask: Callable[[], Answer]) -> list[Answer]:
    """Ask many times at once; the application answers only once all have come."""
    if served.colour == "asgi":
        return asyncio.run(_herd_of_tasks(served))
    with ThreadPoolExecutor(HERD) as threads:
        return list(threads.map(lambda _: ask(), range(HERD)))


async def _herd_of_tasks(served: Served) -> list[Answer]:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(HERD):  # so that all the others have come
            await asyncio.sleep(0)
        await served.site.asgi(scope, receive, send)

    client = AsgiClient(AsgiCache(slow, served.rule))
    return list(await asyncio.gather(*(client.get("/a") for _ in range(HERD))))


def test_a_herd_asks_the_application_once(served: Served) -> None:
    """All get the bytes that one of them brought, under one tag."""
    gate = threading.Barrier(HERD)

    def ask() -> Answer:
        gate.wait(10)
        return served.ask()

    answers = herd(served, ask)
    assert {(answer.status, answer.body, answer.header("etag")) for answer in answers} == {
        (200, b"hello", etag_of(b"hello"))
    }
    assert served.calls == 1


@pytest.mark.parametrize(
    "header", [("Cache-Control", "private"), ("Set-Cookie", "a=b"), ("Vary", "*")]
)
def test_what_may_not_be_shared_holds_nobody_up(served: Served, header: tuple[str, str]) -> None:
    """Once that is known all ask at the same time, and nobody gets another's."""
    served.site.headers = [header]
    assert served.ask().status == 200
    served.wait(9)
    together = threading.Barrier(2)
    served.site.during = lambda: together.wait(10) and None
    if served.colour == "wsgi":
        with ThreadPoolExecutor(2) as threads:
            answers = list(threads.map(lambda _: served.ask(), range(2)))
        assert [answer.status for answer in answers] == [200, 200]
        assert served.calls == 3
    else:
        with ThreadPoolExecutor(2) as threads:
            assert [each.status for each in threads.map(lambda _: served.ask(), range(2))] == [
                200,
                200,
            ]


def test_an_error_is_the_error_of_whom_it_met(served: Served) -> None:
    """It is not remembered: the next one asks again, and its answer is stored."""
    served.site.error = RuntimeError("down")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="down"):
            served.ask()
    served.site.error, served.site.status = None, 503
    assert served.ask().status == 503
    served.site.status = 200
    served.wait(1)
    assert [served.ask().status, served.ask().status, served.calls] == [200, 200, 4]


def test_variants_wait_for_their_own(served: Served) -> None:
    """Who waited for another variant takes the turn of its own."""
    served.site.echo = "accept-language"
    served.site.headers.append(("Vary", "Accept-Language"))
    with ThreadPoolExecutor(HERD) as threads:
        asked = [("de", "en", "fr")[place % 3] for place in range(HERD)]
        got = threads.map(lambda language: served.ask(accept_language=language).body, asked)
        assert [body.decode() for body in got] == asked
    assert served.calls <= 5 if served.colour == "wsgi" else served.calls >= 3


def test_who_wants_it_fresh_waits_for_nobody(served: Served) -> None:
    """A request that refuses what is stored asks the application, herd or not."""
    served.ask()
    assert served.ask(cache_control="no-cache").header("age") is None
    assert served.calls == 2


def test_a_cancelled_request_leaves_the_turn_to_another() -> None:
    """The one that asked the application is gone; those who waited for it take over."""
    served = Served("asgi")

    async def scenario() -> list[Answer]:
        begun = asyncio.Event()
        stuck = [True]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            if stuck.pop() if stuck else False:
                await asyncio.Event().wait()
            await served.site.asgi(scope, receive, send)

        client = AsgiClient(AsgiCache(app, served.rule))
        first = asyncio.ensure_future(client.get("/a"))
        await begun.wait()
        others = [asyncio.ensure_future(client.get("/a")) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        return list(await asyncio.gather(*others))

    answers = asyncio.run(scenario())
    assert [answer.status for answer in answers] == [200] * 3
    assert 1 <= served.calls <= 3


def test_a_stream_holds_nobody_up() -> None:
    """That it will not be stored is known with its first bytes, not with its last."""
    served = Served("asgi")

    async def scenario() -> int:
        both, arrived = asyncio.Event(), [0]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            arrived[0] += 1
            if arrived[0] == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 10)
            await send({"type": "http.response.body", "body": b"b"})

        client = AsgiClient(AsgiCache(app, served.rule))
        answers = await asyncio.gather(client.get("/a"), client.get("/a"))
        assert [answer.body for answer in answers] == [b"ab", b"ab"]
        return arrived[0]

    assert asyncio.run(scenario()) == 2


def test_a_store_that_raises_leaves_everybody_alone(served: Served) -> None:
    """Nobody waits, and the application answers."""
    real = served.cache

    class Strict:
        """Gives tokens; fails with anything else."""

        aio: Any

        def __init__(self, cache: Any, fail: Any) -> None:
            self.cache, self.get, self.set, self.invalidate = cache, cache.get, cache.set, fail
            self.fail = fail

        def get_or_load(self, key: str, loader: Any, **options: Any) -> Any:
            ours = key.endswith(":turn")
            return self.fail() if ours else self.cache.get_or_load(key, loader, **options)

    def fail() -> None:
        raise StoreUnavailable("down")

    async def fail_async() -> None:
        raise StoreUnavailable("down")

    store = Strict(real, fail)
    store.aio = Strict(real.aio, fail_async)
    served.use(store=store)
    assert [served.ask().status, served.ask().status, served.calls] == [200, 200, 1]


def test_a_turn_begins_with_another_look(served: Served) -> None:
    """Who looked before the page was there, and asks for its turn after it was stored, calls nobody."""
    served.ask()
    served.wait(1)
    first = [True]

    class Late:
        """Has nothing at the first look."""

        aio: Any = None

        def __init__(self, cache: Any) -> None:
            self.cache, self.set, self.get_or_load = cache, cache.set, cache.get_or_load

        def get(self, key: str, default: None = None) -> Any:
            return None if first and first.pop() else self.cache.get(key)

    class LateAio(Late):
        """The same, awaited."""

        async def get(self, key: str, default: None = None) -> Any:
            return None if first and first.pop() else await self.cache.get(key)

    late = Late(served.cache)
    late.aio = LateAio(served.cache.aio)
    served.use(store=late)
    assert served.ask().header("age") == "1"
    assert (served.calls, first) == (1, [])
