"""The frames by themselves, around bare ASGI and WSGI applications."""

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.errors import InvalidArgument
from backendkit.errors import ClientDisconnected, Errors, MalformedBody, NotFound, UpstreamError
from backendkit.http import AsgiFrame, Layers, RequestIds, WsgiFrame
from backendkit.http.body import is_json, parse
from tests.unit.web.drivers import Asgi, Wsgi, caught_reports


@given(st.text(st.characters(codec=None)))
def test_an_id_is_taken_if_it_is_sound_and_made_if_not(offered: str) -> None:
    """And whatever happens it is sound."""
    chosen = RequestIds().choose(offered)
    assert 1 <= len(chosen) <= 128
    assert set(chosen) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    first = offered.partition(",")[0].strip()
    if (
        first
        and first.isascii()
        and first.replace(".", "a").replace("_", "a").replace("-", "a").isalnum()
    ):
        assert chosen == first or len(first) > 128


def test_of_several_ids_the_first_counts() -> None:
    """Joined as servers join them; one that is unsound is not made up for by the next."""
    ids = RequestIds()
    assert ids.choose("one, two") == "one"
    assert ids.choose("o ne, two") not in {"o ne", "two"}
    assert ids.choose("") != ""
    assert ids.choose("a\n") == "a"


def test_an_id_that_is_not_trusted_is_not_taken() -> None:
    """Every request gets a new one."""
    assert RequestIds(trusted=False).choose("mine") != "mine"


def test_a_header_name_is_checked() -> None:
    """It becomes part of every response."""
    with pytest.raises(InvalidArgument, match="header"):
        RequestIds("X-Request-ID\r\nX")


def test_ids_are_all_different() -> None:
    """Also when many threads take from one stock."""
    ids, taken = RequestIds(), []

    def take() -> None:
        taken.extend([ids.make() for _ in range(2_000)])

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == len(taken) == 16_000
    assert {len(one) for one in taken} == {36}
    assert {UUID(one).version for one in taken[:200]} == {4}


def test_a_forked_child_makes_other_ids() -> None:
    """The stock that it inherits belongs to the parent."""
    ids = RequestIds()
    ids.make()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(ids.make() for _ in range(150)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    theirs = {text[at : at + 36] for at in range(0, len(text), 36)}
    assert len(theirs) == 150
    assert not theirs & {ids.make() for _ in range(150)}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"NaN",
        b"[-Infinity]",
        b'"\\ud800"',
        b'{"\\uDFFF": 1}',
        b"\xff",
        b"[" * 100_000,
        b"9" * 5_000,
        b'"\xed\xa0\x80"',
        b"01",
    ],
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    """Whatever Python's parser would make of it."""
    with pytest.raises(MalformedBody) as caught:
        parse(raw)
    assert caught.value.details[0]["code"] == "INVALID_JSON"


@pytest.mark.parametrize("raw", [b'"\\ud83d\\ude00"', b'"NaN"', b'"\\\\ud800"', b'{"a": [1.5]}'])
def test_what_only_looks_wrong_is_json(raw: bytes) -> None:
    """A whole pair, and words in a text."""
    parse(raw)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("application/jsonx", False),
        ("text/json", False),
        (None, False),
    ],
)
def test_json_is_known_by_its_type(content_type: str | None, expected: bool) -> None:
    """With any suffix and any parameters."""
    assert is_json(content_type) is expected


App = Callable[..., Any]


def asgi(steps: Callable[..., Awaitable[None]], **options: Any) -> Asgi:
    """Return a driver of an ASGI application inside a frame."""
    return Asgi(AsgiFrame(steps, Errors(), **options))


async def start(send: Any, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Begin a response."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def finish(send: Any, body: bytes = b"", *, more: bool = False) -> None:
    """Send a piece of the body."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


def test_asgi_the_id_reaches_application_and_client_and_is_never_twice() -> None:
    """One that the application sets gives way."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, (b"x-request-id", b"other"))
        await finish(send, (context.request_id() or "").encode())

    answer = asgi(app).get("/", {"X-Request-ID": "abc"})
    assert answer.all("x-request-id") == ["abc"]
    assert answer.body == b"abc"


def test_asgi_the_context_ends_with_the_request() -> None:
    """Its fields are frozen, and it is nobody's current one."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        context.bind(user_id=7)
        seen.append(context.current())
        await start(send)
        await finish(send)

    asgi(app).get("/")
    assert context.current() is None
    assert seen[0].ended
    assert seen[0].fields == {"user_id": 7}


def test_asgi_concurrent_requests_keep_their_ids() -> None:
    """Fifty at once, each with steps between."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        mine = context.request_id()
        await asyncio.sleep(0)
        await start(send)
        await asyncio.sleep(0)
        assert context.request_id() == mine
        await finish(send, (mine or "").encode())

    answers = asgi(app).many([("/", {"X-Request-ID": f"r{n}"}) for n in range(50)])
    assert [a.body.decode() for a in answers] == [f"r{n}" for n in range(50)]
    assert [a.one("x-request-id") for a in answers] == [f"r{n}" for n in range(50)]


@pytest.mark.parametrize(
    ("status", "phrase", "code"),
    [
        (404, b"Not Found", "NOT_FOUND"),
        (405, b"Method Not Allowed", "METHOD_NOT_ALLOWED"),
        (413, b"Content Too Large", "PAYLOAD_TOO_LARGE"),
        (500, b"Internal Server Error", "INTERNAL_ERROR"),
    ],
)
def test_asgi_a_bare_phrase_becomes_an_envelope(status: int, phrase: bytes, code: str) -> None:
    """With the headers that mean something."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(len(phrase)).encode()
        kind = (b"content-type", b"text/plain; charset=utf-8")
        await start(send, status, kind, (b"content-length", length), (b"allow", b"GET"))
        await finish(send, phrase)

    answer = asgi(app).get("/")
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.one("allow") == "GET"


@pytest.mark.parametrize(
    ("status", "kind", "pieces"),
    [
        (404, b"text/plain", [b"no such user"]),
        (404, b"text/html", [b"Not Found"]),
        (404, b"text/plain", [b"Not ", b"Found"]),
        (200, b"text/plain", [b"Not Found"]),
    ],
)
def test_asgi_a_text_that_somebody_wrote_stays(
    status: int, kind: bytes, pieces: list[bytes]
) -> None:
    """Only a framework's own words are replaced."""
    whole = b"".join(pieces)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = str(len(whole)).encode()
        await start(send, status, (b"content-type", kind), (b"content-length", length))
        for piece in pieces:
            await finish(send, piece, more=True)
        await finish(send)

    answer = asgi(app).get("/")
    assert (answer.status, answer.body) == (status, whole)
    assert len(answer.all("x-request-id")) == 1


def test_asgi_an_error_in_mid_stream_is_reported_and_the_end_is_missing() -> None:
    """So that the server cuts the connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await finish(send, b"half", more=True)
        raise ValueError("secret")

    with caught_reports() as reports:
        answer = asgi(app).get("/")
    assert (answer.status, answer.body, answer.complete) == (200, b"half", False)
    assert [type(r.exc) for r in reports] == [ValueError]


def test_asgi_starlettes_disguise_of_a_late_error_is_taken_off() -> None:
    """The record names the error, not "response already started"."""
    disguise = "Caught handled exception, but response already started."

    def fail() -> None:
        raise ValueError("background")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await finish(send)
        try:
            try:
                fail()
            except ValueError as error:
                raise RuntimeError(disguise) from error
        except RuntimeError as again:
            raise RuntimeError(disguise) from again

    with caught_reports() as reports:
        answer = asgi(app).get("/")
    assert answer.complete
    assert [type(r.exc) for r in reports] == [ValueError]


def test_asgi_cancellation_passes() -> None:
    """It is not an error of the request's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    with caught_reports() as reports, pytest.raises(asyncio.CancelledError):
        asgi(app).get("/")
    assert reports == []
    assert context.current() is None


def test_asgi_left_alone_an_unknown_error_goes_by_unanswered() -> None:
    """A known one is answered all the same."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotFound if scope["path"] == "/known" else ValueError

    driver = asgi(app, unhandled="leave")
    assert driver.get("/known").status == 404
    with caught_reports() as reports, pytest.raises(ValueError):  # noqa: PT011 - it has no text
        driver.get("/")
    assert reports == []


def test_asgi_reraise_answers_first_and_leaves_the_report_to_others() -> None:
    """Exactly one record, theirs."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("x")

    driver = asgi(app, unhandled="reraise")
    with caught_reports() as reports, pytest.raises(ValueError, match="x"):
        driver.get("/")
    assert driver.last.status == 500
    assert reports == []


def test_asgi_nested_frames_name_the_request_once() -> None:
    """And the inner registry tells what happens inside."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("x")

    inner = Errors()
    inner.map(KeyError, NotFound)
    nested = AsgiFrame(app, inner, layers=Layers(ids=RequestIds(trusted=False)))
    answer = asgi(nested).get("/", {"X-Request-ID": "outer"})
    assert answer.status == 404
    assert answer.all("x-request-id") == ["outer"]
    assert answer.error["requestId"] == "outer"


def test_asgi_a_hook_that_fails_does_not_fail_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sentry and OpenTelemetry are asked after the log, and may raise."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "sentry_sdk", Broken())
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Broken())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("x")

    with caught_reports() as reports:
        assert asgi(app).get("/").status == 500
    assert next(r.text for r in reports) == "unhandled error where=\"GET '/'\""
    assert len([r for r in reports if isinstance(r.exc, ValueError)]) == 1


def test_asgi_a_server_error_with_a_name_is_noted_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its reason, without a traceback."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise UpstreamError("billing said 500")

    assert asgi(app).get("/x").status == 502
    (record,) = caplog.records
    assert record.exc_info is None
    assert record.getMessage() == "UPSTREAM_ERROR 502 in GET '/x': billing said 500"


def wsgi(app: App, **options: Any) -> Wsgi:
    """Return a driver of a WSGI application inside a frame."""
    return Wsgi(WsgiFrame(app, Errors(), **options))


def test_wsgi_the_id_reaches_application_and_client_and_is_never_twice() -> None:
    """One that the application sets gives way."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("x-request-id", "other")])
        return [(context.request_id() or "").encode()]

    answer = wsgi(app).get("/", {"X-Request-ID": "abc"})
    assert answer.all("x-request-id") == ["abc"]
    assert answer.body == b"abc"


def test_wsgi_a_stream_works_for_its_request_and_for_no_other() -> None:
    """Each piece is made with the request current; between pieces there is none."""
    outside: list[str | None] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(3):
            yield (context.request_id() or "none").encode()

    driver = wsgi(app)
    one = driver.open("/", {"X-Request-ID": "one"})
    two = driver.open("/", {"X-Request-ID": "two"})
    seen = []
    for _ in range(3):
        seen += [next(one), next(two)]
        outside.append(context.request_id())
    for body in (one, two):
        assert list(body) == []
        body.close()
    assert seen == [b"one", b"two"] * 3
    assert outside == [None] * 3


def test_wsgi_closing_ends_the_request_once_and_closes_the_application() -> None:
    """As PEP 3333 wants it, with the request current; a failure there is reported."""
    closed: list[str | None] = []
    held: list[Any] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            held.append(context.current())
            return iter([b"a", b"b"])

        def close(self) -> None:
            closed.append(context.request_id())
            raise ValueError("teardown")

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [("Content-Length", "2")])
        return Body()

    with caught_reports() as reports:
        answer = wsgi(app).get("/", {"X-Request-ID": "abc"})
    assert answer.body == b"ab"
    assert closed == ["abc"]
    assert held[0].ended
    assert [type(r.exc) for r in reports] == [ValueError]


def test_wsgi_an_error_before_the_first_piece_is_an_envelope() -> None:
    """Also after `start_response`, also in a generator: nothing has gone out."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        if environ["PATH_INFO"] == "/raise":
            raise NotFound
        yield b"abc"

    driver = wsgi(app)
    assert driver.get("/raise").status == 404
    assert driver.get("/raise").error["code"] == "NOT_FOUND"
    assert driver.get("/").body == b"abc"


def test_wsgi_an_error_in_mid_stream_is_reported_and_cuts_the_connection() -> None:
    """By an error that servers take for a client that left."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise ValueError("secret")

    with caught_reports() as reports:
        body = wsgi(app).open("/")
        assert next(body) == b"half"
        with pytest.raises(BrokenPipeError):
            next(body)
        body.close()
    assert [type(r.exc) for r in reports] == [ValueError]
    assert context.current() is None


def test_wsgi_propagation_raises_unanswered_and_unreported() -> None:
    """For a debugger or a test; the request has ended all the same."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        raise NotFound if environ["PATH_INFO"] == "/known" else ValueError("x")

    driver = wsgi(app, propagate=lambda: True)
    assert driver.get("/known").status == 404
    with caught_reports() as reports, pytest.raises(ValueError, match="x"):
        driver.get("/")
    assert reports == []
    assert context.current() is None


def test_wsgi_a_file_goes_to_the_server_as_it_is() -> None:
    """Which may then use sendfile."""

    class Wrapper:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"file"])

    def app(environ: Any, start_response: Any) -> Wrapper:
        start_response("200 OK", [])
        return Wrapper()

    frame = WsgiFrame(app, Errors())
    body = frame({"REQUEST_METHOD": "GET", "wsgi.file_wrapper": Wrapper}, lambda *_: bytes)
    assert isinstance(body, Wrapper)


def test_wsgi_nested_frames_name_the_request_once() -> None:
    """The outer one."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [(context.request_id() or "").encode()]

    nested = WsgiFrame(app, Errors(), layers=Layers(ids=RequestIds(trusted=False)))
    answer = wsgi(nested).get("/", {"X-Request-ID": "outer"})
    assert answer.all("x-request-id") == ["outer"]
    assert answer.body == b"outer"


def test_asgi_an_answer_to_head_has_no_body() -> None:
    """Its Content-Length is that of the answer to a GET."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotFound

    head = asgi(app).request("HEAD", "/", {"X-Request-ID": "a"})
    get = asgi(app).request("GET", "/", {"X-Request-ID": "a"})
    assert (head.body, head.headers) == (b"", get.headers)


def test_asgi_a_late_error_passes_inner_frames_and_the_layers_between() -> None:
    """They may have to know; the outermost reports it."""
    passed: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await finish(send)
        raise ValueError("late")

    inner = AsgiFrame(app, Errors())

    async def between(scope: Any, receive: Any, send: Any) -> None:
        try:
            await inner(scope, receive, send)
        except ValueError as error:
            passed.append(error)
            raise

    with caught_reports() as reports:
        asgi(between).get("/")
    assert [r.exc for r in reports] == passed
    assert len(passed) == 1


def test_asgi_a_client_that_leaves_in_mid_stream_is_nobodys_error() -> None:
    """There is nobody to answer and nothing to mend."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await finish(send, b"half", more=True)
        raise ClientDisconnected

    with caught_reports() as reports:
        assert not asgi(app).get("/").complete
    assert reports == []


def test_wsgi_closing_twice_closes_the_application_once() -> None:
    """Some servers do."""
    closed: list[int] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(1)

    def app(environ: Any, start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body([b"a"])

    body = wsgi(app).open("/")
    body.close()
    body.close()
    assert closed == [1]
