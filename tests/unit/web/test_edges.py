"""Applications that keep to the protocols just barely, or not at all: still one answer, one id, one record."""

import asyncio
import io
import json
import logging
import logging.config
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import flask
import pytest
from fastapi import APIRouter, FastAPI, WebSocket, WebSocketDisconnect
from starlette.responses import Response

import backendkit.fastapi
import backendkit.flask
from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.errors import Errors
from backendkit.http import AsgiFrame, Layers, WsgiFrame
from backendkit.http.messages import Aftermath
from backendkit.logging import configure_logging
from tests.unit.web.apps import ID, new_kit
from tests.unit.web.drivers import Asgi, Wsgi, caught_reports
from tests.unit.web.test_fastapi import socket_messages
from tests.unit.web.test_layers import Lines

PHRASE = [(b"content-type", b"text/plain"), (b"content-length", b"9")]


@pytest.mark.parametrize("start", [None, 404])
def test_an_application_that_returns_without_an_answer_is_a_500_with_a_record(
    start: int | None,
) -> None:
    """Also where it has begun one that was held back; servers would answer in plain text, without an id."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if start is not None:
            await send({"type": "http.response.start", "status": start, "headers": PHRASE})

    lines = Lines()
    with caught_reports() as reports:
        answer = Asgi(AsgiFrame(silent, Errors(), layers=Layers(access=lines))).get("/x", ID)
    assert (answer.error["code"], answer.one("x-request-id")) == ("INTERNAL_ERROR", "same-1")
    assert [type(report.exc).__name__ for report in reports] == ["NoResponse"]
    assert [line["status"] for line in lines.lines] == [500]


def test_a_client_that_has_left_needs_no_answer() -> None:
    """An application that sees it may return without one."""

    async def leaves(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pytest.fail(f"sent {message}")

    lines = Lines()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with caught_reports() as reports:
        frame = AsgiFrame(leaves, Errors(), layers=Layers(access=lines))
        asyncio.run(frame(scope, receive, send))
    assert reports == []
    assert [line["status"] for line in lines.lines] == [499]


class Server:
    """A server's side of one request: what it has to say, and then nothing more."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = [*messages]
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        """Return the next message, or wait for ever."""
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        """Take a message."""
        self.sent.append(message)


EMPTY = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("method", "reads", "says", "status"),
    [
        ("GET", 0, [EMPTY, GONE], 499),
        ("GET", 1, [EMPTY, GONE], 499),
        ("GET", 0, [GONE], 499),
        ("GET", 0, [EMPTY], 200),
        ("GET", 1, [EMPTY], 200),
        ("POST", 0, [EMPTY, GONE], 200),  # to ask would be to read the body
        ("POST", 1, [EMPTY, GONE], 499),
        ("POST", 1, [EMPTY], 200),
    ],
)
@pytest.mark.parametrize("slow", [True, False])
def test_the_client_of_a_slow_answer_may_have_left(
    method: str, reads: int, says: list[Any], status: int, slow: bool
) -> None:
    """The server is asked, without waiting, and what it says is still there for the application."""
    clock, heard = ManualClock(), list[Any]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive() for _ in range(reads)])
        clock.advance(200_000 if slow else 0)
        await Response("ok")(scope, receive, send)
        heard.extend([await receive() for _ in range(len(says) - reads)])

    lines, server = Lines(), Server(*says)
    frame = AsgiFrame(app, Errors(), layers=Layers(access=lines, clock=clock))
    scope = {"type": "http", "method": method, "path": "/", "headers": []}
    asyncio.run(frame(scope, server.receive, server.send))
    assert [line["status"] for line in lines.lines] == [status if slow else 200]
    assert heard == says


def test_a_server_for_which_the_application_waits_is_not_asked() -> None:
    """It would be asked twice at once; the application is told, and knows."""
    clock, server = ManualClock(), Server(EMPTY)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        server.messages.append(GONE)
        clock.advance(200_000)
        await Response("ok")(scope, receive, send)
        assert server.messages == [GONE]
        waiting.cancel()

    frame = AsgiFrame(app, Errors(), layers=Layers(access=Lines(), clock=clock))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(frame(scope, server.receive, server.send))


def test_what_others_have_put_around_the_server_is_not_asked() -> None:
    """A span, say, that would end with an error when it is left waiting."""
    clock, server, lines = ManualClock(), Server(EMPTY, GONE), Lines()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        clock.advance(200_000)
        await Response("ok")(scope, receive, send)

    async def receive() -> Any:
        pytest.fail("asked")

    frame = AsgiFrame(app, Errors(), layers=Layers(access=lines, clock=clock))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(frame(scope, receive, server.send))
    assert [line["status"] for line in lines.lines] == [200]


def test_work_after_the_answer_that_fails_is_recorded_and_the_rest_is_done() -> None:
    """The context is left, and the access line written, all the same."""
    done: list[str] = []

    async def fails() -> None:
        raise ValueError

    async def works() -> None:
        done.append(context.request_id() or "")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = context.current()
        assert request is not None
        request.aftermath = Aftermath()
        request.aftermath.on_end = [fails, works]
        await Response("ok")(scope, receive, send)

    lines = Lines()
    with caught_reports() as reports:
        answer = Asgi(AsgiFrame(app, Errors(), layers=Layers(access=lines))).get("/x", ID)
    assert answer.status == 200
    assert done == ["same-1"]
    assert [type(report.exc) for report in reports] == [ValueError]
    assert [line["status"] for line in lines.lines] == [200]
    assert context.current() is None


def behind(app: Any, prefix: str) -> Any:
    """Return `app` as a server told of a prefix serves it: the path has it, too."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "root_path": prefix, "path": prefix + scope["path"]}
        await app(scope, receive, send)

    return served


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_probes_and_documentation_are_found_under_a_prefix(prefix: str) -> None:
    """As `uvicorn --root-path` has it. A path that only begins alike is another one."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())
    driver = Asgi(behind(app, prefix) if prefix else app)
    assert driver.get("/healthz").body == b'{"status":"ok"}'
    assert "script-src" in (driver.get("/docs").one("content-security-policy") or "")
    assert driver.get("/healthzz").status == 404
    if prefix:
        other = {"root_path": "/healthz", "path": "/healthz"}

        async def at_the_root(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, **other}, receive, send)

        assert Asgi(at_the_root).get("/").status == 200


def nested_app() -> FastAPI:
    """Return an application with a router, and an application, mounted under parameters."""
    app, router, sub = FastAPI(), APIRouter(), FastAPI()
    for at in (router, sub):
        at.add_api_route("/seats/{n}", lambda n: {"n": n}, methods=["GET"])
        at.add_api_route("/seats/{n}", lambda: 1, methods=["POST"])
    app.mount("/shops/{shop}", router)
    router.mount("/deep", sub)
    app.mount("/sub", sub)
    return app


@pytest.mark.parametrize("prefix", ["/shops/7", "/sub", "/shops/7/deep"])
def test_head_options_and_allow_are_right_below_a_mount(prefix: str) -> None:
    """The mount has moved the prefix on in the request's own scope."""
    app = nested_app()
    backendkit.fastapi.install(app, new_kit())
    driver, path = Asgi(app), f"{prefix}/seats/3"
    get, head = driver.get(path), driver.request("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.one("content-length") == get.one("content-length") == "9"
    for method, status in (("OPTIONS", 200), ("DELETE", 405)):
        answer = driver.request(method, path)
        assert (answer.status, answer.one("allow")) == (status, "GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/shops/7/seats/3", "/shops/{shop}/seats/{n}"),
        ("/sub/seats/3", "/sub/seats/{n}"),
        ("/shops/7/deep/seats/3", "/shops/{shop}/deep/seats/{n}"),
        ("/nowhere", None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_access_line_has_the_template_from_the_applications_root(
    path: str, route: str | None, prefix: str
) -> None:
    """Routes of different mounts are different routes."""
    app, kit, lines = nested_app(), new_kit(), Lines()
    kit.access = lines  # type: ignore[assignment]
    backendkit.fastapi.install(app, kit)
    Asgi(behind(app, prefix) if prefix else app).get(path)
    assert [line["route"] for line in lines.lines] == [route]


def test_a_mounted_applications_document_tells_errors_as_they_are_answered() -> None:
    """It makes one of its own."""
    app, sub = FastAPI(), FastAPI()
    sub.add_api_route("/seats/{n}", lambda n: n)
    app.mount("/sub", sub)
    backendkit.fastapi.install(app, new_kit())
    answer = Asgi(app).get("/sub/openapi.json")
    assert answer.status == 200
    assert b"HTTPValidationError" not in answer.body
    assert b"#/components/responses/Error" in answer.body


# Websockets


def socket_app() -> FastAPI:
    """Return an application with sockets that end in every way."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.websocket("/listens")
    async def listens(socket: WebSocket) -> None:
        await socket.accept(headers=[(b"X-Request-ID", b"forged")])
        await socket.receive_text()

    @app.websocket("/before")
    async def before(socket: WebSocket) -> None:
        await socket.receive()
        await socket.receive()

    @app.websocket("/silent")
    async def silent(socket: WebSocket) -> None:
        """Neither accept nor close."""

    @app.websocket("/closes")
    async def closes(socket: WebSocket) -> None:
        await socket.close(4001, "not you")

    @app.websocket("/late")
    async def late(socket: WebSocket) -> None:
        await socket.accept()
        with suppress(WebSocketDisconnect):
            await socket.receive_text()
        raise ValueError("after the client has left")

    return app


def test_a_client_that_leaves_an_open_socket_is_nobodys_error() -> None:
    """Every client does, in the end; what the server says of it goes no further, and nothing is sent."""
    with caught_reports() as reports:
        messages = socket_messages(socket_app(), "/listens")
        before = socket_messages(socket_app(), "/before")
    assert [message["type"] for message in messages] == ["websocket.accept"]
    assert messages[0]["headers"] == [(b"x-request-id", b"same-1")]
    assert before == []
    assert reports == []


def test_an_error_after_the_client_has_left_is_recorded_and_nothing_is_sent() -> None:
    """There is nobody to close the socket for."""
    with caught_reports() as reports:
        messages = socket_messages(socket_app(), "/late")
    assert [message["type"] for message in messages] == ["websocket.accept"]
    assert [type(report.exc) for report in reports] == [ValueError]


@pytest.mark.parametrize(
    ("path", "code", "status", "records"),
    [
        ("/silent", "INTERNAL_ERROR", 500, 1),
        ("/closes", "FORBIDDEN", 403, 0),
        ("/nowhere", "FORBIDDEN", 403, 0),
    ],
)
def test_a_socket_that_is_never_opened_is_denied_with_an_envelope(
    path: str, code: str, status: int, records: int
) -> None:
    """Where the server can send one, else closed; servers would deny in their own words, without an id."""
    with caught_reports() as reports:
        start, body = socket_messages(socket_app(), path)
        (close,) = socket_messages(socket_app(), path, denial=False)
    headers = dict(start["headers"])
    assert (start["status"], headers[b"x-request-id"]) == (status, b"same-1")
    assert json.loads(body["body"])["error"]["code"] == code
    assert close["type"] == "websocket.close"
    assert len(reports) == 2 * records


def test_a_server_that_says_there_is_nobody_to_send_to_is_believed() -> None:
    """ASGI 2.4: `send` raises an OSError once the client has left."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise BrokenPipeError

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    with caught_reports() as reports:
        scope = {"type": "websocket", "path": "/", "headers": []}
        asyncio.run(AsgiFrame(app, Errors())(scope, receive, send))
    assert reports == []


# Logging that others have reconfigured


@pytest.fixture
def migrated() -> Iterator[Callable[[], None]]:
    """Return what does to logging what a migration does to it; undone after the test."""
    known = [
        one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)
    ]
    before = [(one, one.disabled) for one in known]
    handlers, level = logging.root.handlers[:], logging.root.level
    yield lambda: logging.config.dictConfig({"version": 1, "root": {"handlers": []}})
    for one, disabled in before:
        one.disabled = disabled
    logging.root.handlers, logging.root.level = handlers, level


@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_a_migration_at_start_does_not_silence_what_follows(
    framework: str, migrated: Callable[[], None]
) -> None:
    """Neither access lines nor the application's records."""
    out = io.StringIO()
    app: Any = (
        FastAPI(lifespan=_migrating(migrated)) if framework == "fastapi" else flask.Flask("x")
    )
    install: Any = backendkit.fastapi if framework == "fastapi" else backendkit.flask

    def view() -> Any:
        logging.getLogger(f"shop.{framework}").info("taken")
        return {}

    app.get("/x")(view)
    with configure_logging(stream=out):
        install.install(app, new_kit())
        if framework == "fastapi":
            asyncio.run(_live(app))
        else:
            migrated()
        (Asgi(app) if framework == "fastapi" else Wsgi(app)).get("/x")
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events[-2:] == ["taken", "request"]


def _migrating(migrate: Callable[[], None]) -> Any:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        migrate()
        yield

    return lifespan


async def _live(app: FastAPI) -> None:
    async with app.router.lifespan_context(app):
        pass


# WSGI


def test_a_wsgi_application_that_starts_no_response_is_a_500_with_a_record() -> None:
    """Its iterable is closed."""
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"lost"])

        def close(self) -> None:
            closed.append(True)

    with caught_reports() as reports:
        answer = Wsgi(WsgiFrame(lambda *_: Body(), Errors())).get("/x", ID)
    assert answer.error["code"] == "INTERNAL_ERROR"
    assert b"lost" not in answer.body
    assert [type(report.exc).__name__ for report in reports] == ["NoResponse"]
    assert closed == [True]


@pytest.mark.parametrize("fails", [False, True])
def test_a_generator_is_walked_to_its_end(fails: bool) -> None:
    """What it does after its last piece is done, and recorded if it fails; then it is closed."""
    done: list[str] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        try:
            yield b"ok"
            done.append("after")
            if fails:
                raise ValueError
        finally:
            done.append("closed")

    with caught_reports() as reports:
        answer = Wsgi(WsgiFrame(app, Errors())).get("/x")
    assert (answer.status, answer.body) == (200, b"ok")
    assert done == ["after", "closed"]
    assert len(reports) == fails


def test_what_was_written_the_old_way_counts_and_cannot_be_taken_back() -> None:
    """PEP 3333's `write`: an error after it is recorded once, and the connection cut."""
    written: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"half")
        raise ValueError("late")

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert exc_info is None, "a second start"
        return written.append

    lines = Lines()
    frame = WsgiFrame(app, Errors(), layers=Layers(access=lines))
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x"}
    with caught_reports() as reports, pytest.raises(BrokenPipeError):
        frame(environ, start_response)
    assert written == [b"half"]
    assert [type(report.exc) for report in reports] == [ValueError]
    assert [(line["status"], line["size"]) for line in lines.lines] == [(200, 4)]
