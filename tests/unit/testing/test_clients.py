"""Applications called in process: what goes in, what comes out, and what no server would accept."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from backendkit.errors import Conflict, Errors
from backendkit.http import AsgiFrame
from backendkit.testing import AsgiClient, BrokenProtocol, SocketClosed, WsgiClient

Send = Callable[[Any], Any]


def asgi(*messages: dict[str, Any]) -> AsgiClient:
    """A client of an application that sends these messages."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        for message in messages:
            await send(message)

    return AsgiClient(app)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """A response's start."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    """A piece of a body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


async def echo(scope: Any, receive: Any, send: Send) -> None:
    """Answer with what came, as JSON."""
    body, pieces, more = b"", 0, True
    while more:
        message = await receive()
        body, pieces, more = body + message["body"], pieces + 1, message["more_body"]
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "raw": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": {k.decode(): v.decode("latin-1") for k, v in scope["headers"]},
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "body": body.decode(),
        "pieces": pieces,
    }
    await send(start(200, (b"content-type", b"application/json")))
    await send(piece(json.dumps(said).encode()))


def wsgi_echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answer with what came, as JSON."""
    said = {k: v for k, v in environ.items() if isinstance(v, str)}
    said["body"] = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


def test_an_asgi_request_arrives_whole() -> None:
    """Path decoded, query not, body in two pieces, headers in lower case."""
    client = AsgiClient(echo, client="10.0.0.1", scheme="https").sync
    said = client.post("/a%20b?c=%20d", json={"x": "é"}, headers={"X-Up": "1"}).json()
    assert said["path"] == "/a b"
    assert said["raw"] == "/a%20b"
    assert said["query"] == "c=%20d"
    assert said["client"] == "10.0.0.1"
    assert said["scheme"] == "https"
    assert json.loads(said["body"]) == {"x": "é"}
    assert said["pieces"] == 2
    assert said["headers"] == {
        "host": "testserver", "x-up": "1", "content-type": "application/json", "content-length": "11",
    }  # fmt: skip


def test_a_wsgi_request_arrives_whole() -> None:
    """As PEP 3333 has it."""
    client = WsgiClient(wsgi_echo, client="10.0.0.1", scheme="https")
    said = client.post("/a%C3%A9?c=%20d", json={"x": 1}, headers={"X-Up": "1"}).json()
    assert said["PATH_INFO"].encode("latin-1").decode() == "/aé"
    assert said["QUERY_STRING"] == "c=%20d"
    assert said["REMOTE_ADDR"] == "10.0.0.1"
    assert said["SERVER_PORT"] == "443"
    assert said["HTTP_X_UP"] == "1"
    assert said["CONTENT_TYPE"] == "application/json"
    assert said["CONTENT_LENGTH"] == "8"
    assert said["body"] == '{"x": 1}'
    assert "HTTP_CONTENT_TYPE" not in said


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([piece()], "a body before its start"),
        ([start(), start(500)], "a second start"),
        (
            [start(200, (b"content-length", b"3")), piece(b"four")],
            "Content-Length is 3, the body has 4",
        ),
        ([start(200, (b"X-Up", b"1")), piece()], "lower case"),
        ([start(200, (b"x", b"a\r\nb")), piece()], "line break"),
    ],
)
def test_what_no_server_would_send_fails_the_test(messages: Any, said: str) -> None:
    """Frameworks' own clients let most of this pass."""
    with pytest.raises(BrokenProtocol, match=said):
        asgi(*messages).sync.get("/")


def test_a_header_sent_twice_is_no_single_value() -> None:
    """It is a fault that otherwise hides."""
    answer = asgi(start(200, (b"x", b"1"), (b"x", b"2")), piece()).sync.get("/")
    assert answer.header_all("X") == ["1", "2"]
    assert answer.header("y") is None
    with pytest.raises(BrokenProtocol, match="x is sent 2 times"):
        answer.header("x")


def test_a_body_that_never_ends_is_not_complete() -> None:
    """The application returned before it said so."""
    answer = asgi(start(), piece(b"half", more=True)).sync.get("/")
    assert answer.body == b"half"
    assert answer.text == "half"
    assert not answer.complete


def test_what_an_application_raises_is_raised() -> None:
    """To its server, which the client is here."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(start())
        raise LookupError("x")

    with pytest.raises(LookupError):
        AsgiClient(app).sync.get("/")


def test_an_application_that_hangs_fails_in_time() -> None:
    """Not after the suite's patience."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        AsgiClient(app, timeout=0.01).sync.get("/")


def test_an_error_comes_back_as_its_class() -> None:
    """With the parameters of its message."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        raise Conflict

    answer = AsgiClient(AsgiFrame(app, Errors())).sync.get("/")
    assert isinstance(answer.error(), Conflict)
    assert isinstance(answer.error(Errors()), Conflict)
    assert asgi(start(), piece()).sync.get("/").error() is None


def test_a_stream_is_walked_and_left_early() -> None:
    """The application sees that the client is gone, and what it still says goes nowhere."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await receive()
        await send(start())
        await send(piece(b"one", more=True))
        seen.append((await receive())["type"])
        await send(piece(b"two"))

    async def use() -> None:
        async with AsgiClient(app).stream("GET", "/") as stream:
            assert (await stream.begin()).status == 200
            assert await anext(stream) == b"one"
            stream.disconnect()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert not stream.answer.complete

    asyncio.run(use())
    assert seen == ["http.disconnect"]


def test_a_test_that_fails_within_a_stream_ends_the_application() -> None:
    """And is seen itself, not a timeout."""
    ended: list[bool] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def use() -> None:
        async with AsgiClient(app).stream("GET", "/"):
            await asyncio.sleep(0)
            raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        asyncio.run(use())
    assert ended == [True]


def test_requests_run_at_once() -> None:
    """Each waits for the other."""
    barrier = asyncio.Barrier(2)

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await barrier.wait()
        await send(start())
        await send(piece(scope["path"].encode()))

    answers = asyncio.run(AsgiClient(app).together("/a", "/b"))
    assert [answer.body for answer in answers] == [b"/a", b"/b"]


async def sockets(scope: Any, receive: Any, send: Send) -> None:
    """Accept, echo, close; or refuse, by the path."""
    await receive()
    if scope["path"] == "/bare":
        await send({"type": "websocket.close", "code": 4001, "reason": "no"})
        return
    if scope["path"] == "/denied":
        begun = {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x", b"1")]}
        await send(begun)
        await send({"type": "websocket.http.response.body", "body": b"no"})
        return
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            reason = "é" * 62 if scope["path"] == "/long" else "bye"
            await send({"type": "websocket.close", "code": 4000, "reason": reason})
            return
        if message.get("text") == "return":
            return
        await send({**message, "type": "websocket.send"})


def test_a_websocket_talks_both_ways() -> None:
    """Texts, bytes, JSON; then the application closes."""

    async def use() -> None:
        client = AsgiClient(sockets)
        async with client.websocket("/", subprotocols=["v1"]) as socket:
            assert socket.accepted
            assert socket.subprotocol == "v1"
            await socket.send("a")
            await socket.send(b"b")
            await socket.send_json({"c": 1})
            assert [await socket.receive(), await socket.receive()] == ["a", b"b"]
            assert await socket.receive_json() == {"c": 1}
            await socket.send("close")
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert (closed.value.code, closed.value.reason) == (4000, "bye")
            with pytest.raises(SocketClosed):
                await socket.receive()
        async with client.websocket("/") as socket:
            await socket.send("return")
            with pytest.raises(SocketClosed, match="1006"):
                await socket.receive()

    asyncio.run(use())


def test_a_websocket_can_be_refused() -> None:
    """By a response, or barely; a reason has at most 123 bytes."""

    async def use() -> None:
        client = AsgiClient(sockets)
        async with client.websocket("/denied") as socket:
            assert not socket.accepted
            assert socket.denial is not None
            assert (socket.denial.status, socket.denial.body) == (403, b"no")
        async with client.websocket("/bare", denial=False) as socket:
            assert socket.closed is not None
            assert socket.closed.code == 4001
        async with client.websocket("/long") as socket:
            await socket.send("close")
            with pytest.raises(BrokenProtocol, match="124 bytes"):
                await socket.receive()

    asyncio.run(use())


def test_a_lifespan_brackets_the_requests() -> None:
    """And hands its state on."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "http":
            await send(start())
            await send(piece(scope["state"]["db"]))
            return
        scope["state"]["db"] = b"open"
        for step in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{step}"
            seen.append(step)
            await send({"type": f"lifespan.{step}.complete"})

    async def use() -> None:
        client = AsgiClient(app)
        async with client.lifespan():
            assert (await client.get("/")).body == b"open"
            assert seen == ["startup"]

    asyncio.run(use())
    assert seen == ["startup", "shutdown"]


def test_a_start_that_fails_is_told() -> None:
    """With its message."""
    client = asgi({"type": "lifespan.startup.failed", "message": "no database"})

    async def use() -> None:
        async with client.lifespan():
            raise AssertionError("not reached")

    with pytest.raises(BrokenProtocol, match="no database"):
        asyncio.run(use())


def test_a_wsgi_stream_is_walked_and_closed_once() -> None:
    """Also where the client leaves early."""
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Any:
            yield b"one"
            yield b"two"

        def close(self) -> None:
            closed.append(True)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Body()

    with WsgiClient(app).stream("GET", "/") as stream:
        assert next(stream) == b"one"
    stream.close()
    assert closed == [True]
    assert not stream.answer.complete


def test_wsgi_rules_are_kept() -> None:
    """No start at all, two starts, a start after the body; `write`; a second start with what went wrong."""

    def none(environ: Any, start_response: Any) -> Any:
        return [] if environ["PATH_INFO"] == "/" else [b"x"]

    def twice(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("201 Created", [])
        return []

    def writes(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "3")])(b"one")
        return []

    def late(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"one")
        start_response("500 Oh", [], (LookupError, LookupError("late"), None))
        return []

    def mends(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("500 Oh", [("X", "1")], (LookupError, LookupError(), None))
        return [b"told"]

    for path in ("/", "/x"):
        with pytest.raises(BrokenProtocol, match=r"begun|before its start"):
            WsgiClient(none).get(path)
    with pytest.raises(BrokenProtocol, match="a second start"):
        WsgiClient(twice).get("/")
    assert WsgiClient(writes).get("/").body == b"one"
    with pytest.raises(LookupError, match="late"):
        WsgiClient(late).get("/")
    assert WsgiClient(mends).get("/").status == 500
