"""What goes wrong on a bare FastAPI, and what happens with a kit installed; `docs/explanation/pitfalls.md` has all of it."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, WebSocket
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request

import backendkit.fastapi
from backendkit.core import context
from backendkit.errors import Conflict
from tests.unit.web.apps import ID, new_kit
from tests.unit.web.drivers import Asgi, caught_reports
from tests.unit.web.test_fastapi import socket_messages
from tests.unit.web.test_layers import Lines


@pytest.fixture
def app() -> FastAPI:
    """An application with a kit."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())
    return app


def test_an_unhandled_error_does_not_reach_the_server(app: FastAPI) -> None:
    """It would log it a second time."""

    @app.get("/x")
    async def x() -> None:
        raise ValueError

    with caught_reports() as reports:
        assert Asgi(app).get("/x").status == 500
    assert len(reports) == 1


def test_handlers_run_on_the_loop(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread for an error: that costs three times as much, and loses the context."""
    import anyio.to_thread

    @app.get("/x")
    async def x() -> None:
        raise Conflict

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a thread")

    monkeypatch.setattr(anyio.to_thread, "run_sync", refuse)
    assert Asgi(app).get("/x").status == 409


@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException])
@pytest.mark.parametrize("status", [404, 418, 500, 503, 599])
def test_both_http_exceptions_are_told_and_a_5xx_keeps_its_detail(
    app: FastAPI, kind: type[Exception], status: int
) -> None:
    """Which is as often an exception's text."""

    @app.get("/x")
    async def x() -> None:
        raise kind(status, "dsn=hunter2")

    answer = Asgi(app).get("/x")
    assert answer.status == status
    assert (b"hunter2" in answer.body) == (status < 500)
    assert answer.error["code"]


def test_head_and_options_are_answered_and_allow_is_the_union(app: FastAPI) -> None:
    """As on Flask."""
    app.add_api_route("/x/{n}", lambda n: {"n": n}, methods=["GET"])
    app.add_api_route("/x/{n}", lambda: 1, methods=["POST"])
    driver = Asgi(app)
    get, head = driver.get("/x/7"), driver.request("HEAD", "/x/7")
    assert (head.status, head.body, head.one("content-length")) == (
        200,
        b"",
        get.one("content-length"),
    )
    options = driver.request("OPTIONS", "/x/7")
    assert (options.status, options.one("allow")) == (200, "GET, HEAD, OPTIONS, POST")
    wrong = driver.request("DELETE", "/x/7")
    assert (wrong.status, wrong.one("allow")) == (405, "GET, HEAD, OPTIONS, POST")
    assert driver.request("HEAD", "/nowhere").status == 404
    app.add_api_route("/post", lambda: 1, methods=["POST"])
    assert driver.request("HEAD", "/post").status == 405


def test_an_error_under_head_is_told_without_a_body(app: FastAPI) -> None:
    """The route runs as for a GET."""

    @app.get("/x")
    async def x() -> None:
        raise Conflict

    answer = Asgi(app).request("HEAD", "/x")
    assert (answer.status, answer.body) == (409, b"")


def test_a_background_task_that_fails_is_recorded_by_its_name_and_the_client_is_content(
    app: FastAPI,
) -> None:
    """Also where the error has a handler."""

    async def fails() -> None:
        raise Conflict("later")

    @app.get("/x")
    async def x(tasks: BackgroundTasks) -> dict[str, int]:
        tasks.add_task(fails)
        return {}

    with caught_reports() as reports:
        answer = Asgi(app).get("/x")
    assert (answer.status, answer.complete) == (200, True)
    assert [type(report.exc) for report in reports] == [Conflict]


def test_a_dependency_that_swallows_is_a_500_with_a_record(app: FastAPI) -> None:
    """FastAPI finds that there is no response."""

    async def swallows() -> Any:
        with suppress(Conflict):
            yield

    @app.get("/x", dependencies=[Depends(swallows)])
    async def x() -> None:
        raise Conflict

    with caught_reports() as reports:
        answer = Asgi(app).get("/x")
    assert answer.error["code"] == "INTERNAL_ERROR"
    assert len(reports) == 1


class Wanted(BaseModel):
    """What a socket asks for."""

    n: int


@pytest.fixture
def sockets(app: FastAPI) -> FastAPI:
    """An application with sockets that fail."""

    @app.websocket("/query")
    async def query(socket: WebSocket, n: Annotated[int, Query()]) -> None:
        pytest.fail("unreached")

    @app.websocket("/late")
    async def late(socket: WebSocket) -> None:
        await socket.accept()
        Wanted.model_validate({"n": "hunter2"})

    @app.websocket("/long")
    async def long(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(4000, "é" * 100)

    @app.websocket("/early")
    async def early(socket: WebSocket) -> None:
        raise ValueError("hunter2")

    @app.websocket("/http")
    async def http(socket: WebSocket) -> None:
        await socket.accept()
        raise HTTPException(403, "no")

    return app


@pytest.mark.parametrize("denial", [True, False])
def test_a_wrong_parameter_denies_a_socket(sockets: FastAPI, denial: bool) -> None:
    """With an envelope where the server can send one."""
    messages = socket_messages(sockets, "/query", denial=denial)
    if denial:
        assert messages[0]["status"] == 422
        headers = dict(messages[0]["headers"])
        assert headers[b"x-request-id"]
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert b"VALIDATION_ERROR" in messages[1]["body"]
    else:
        (close,) = messages
        assert (close["type"], close["code"]) == ("websocket.close", 1008)
        assert close["reason"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("path", "code", "reason", "records"),
    [
        ("/late", 1011, "INTERNAL_ERROR", 1),
        ("/http", 1008, "FORBIDDEN", 0),
        ("/long", 4000, "é" * 61, 0),
    ],
)
def test_an_open_socket_is_closed_with_a_code_and_a_reason_that_fits(
    sockets: FastAPI, path: str, code: int, reason: str, records: int
) -> None:
    """And an unhandled error is recorded once."""
    with caught_reports() as reports:
        messages = socket_messages(sockets, path)
    assert [message["type"] for message in messages] == ["websocket.accept", "websocket.close"]
    assert (messages[1]["code"], messages[1]["reason"]) == (code, reason)
    assert len(reason.encode()) <= 123
    assert len(reports) == records


def test_an_unhandled_error_before_accept_denies_and_is_recorded_once(sockets: FastAPI) -> None:
    """Nothing of it goes out."""
    with caught_reports() as reports:
        messages = socket_messages(sockets, "/early")
    assert messages[0]["status"] == 500
    assert b"hunter2" not in messages[1]["body"]
    assert len(reports) == 1


def test_each_socket_has_an_access_line() -> None:
    """101 where it was opened, else what it was denied with."""
    app, kit, lines = FastAPI(), new_kit(), Lines()
    kit.access = lines  # type: ignore[assignment]
    backendkit.fastapi.install(app, kit)

    @app.websocket("/open/{n}")
    async def opened(socket: WebSocket, n: int) -> None:
        await socket.accept()
        await socket.close()

    socket_messages(app, "/open/1")
    socket_messages(app, "/open/x")
    assert [(line["status"], line["method"]) for line in lines.lines] == [
        (101, "WEBSOCKET"),
        (422, "WEBSOCKET"),
    ]
    assert lines.lines[0]["route"] == "/open/{n}"


def test_a_task_groups_one_error_is_that_error(app: FastAPI) -> None:
    """Not a 500."""

    @app.get("/x")
    async def x() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fails())

    async def fails() -> None:
        raise Conflict

    assert Asgi(app).get("/x").status == 409


def test_a_response_that_does_not_fit_is_recorded_without_its_content(app: FastAPI) -> None:
    """FastAPI's error has the whole response in its text."""

    class Out(BaseModel):
        n: int

    @app.get("/x", response_model=Out)
    async def x() -> Any:
        return {"n": "hunter2"}

    with caught_reports() as reports:
        answer = Asgi(app).get("/x")
    assert answer.error["code"] == "INTERNAL_ERROR"
    (report,) = reports
    assert "hunter2" not in str(report.exc)
    assert "response.n: int_parsing" in str(report.exc)
    assert report.has_traceback


@pytest.mark.parametrize("reads", ["json", "model"])
def test_a_client_that_leaves_while_it_sends_is_nobodys_error(reads: str) -> None:
    """No record, no 500, and 499 in the access line."""
    app, kit, lines = FastAPI(), new_kit(), Lines()
    kit.access = lines  # type: ignore[assignment]
    backendkit.fastapi.install(app, kit)

    @app.post("/json")
    async def json_(request: Request) -> Any:
        return await request.json()

    @app.post("/model")
    async def model(wanted: Wanted) -> Any:
        return wanted

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody reads it."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/{reads}",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"9")],
    }
    with caught_reports() as reports:
        asyncio.run(app(scope, receive, send))
    assert reports == []
    assert [line["status"] for line in lines.lines] == [499]


def test_a_cancellation_passes(app: FastAPI) -> None:
    """Servers and time limits need it; the context is clean after it."""

    @app.get("/x")
    async def x() -> None:
        raise asyncio.CancelledError

    async def scenario() -> None:
        with pytest.raises(asyncio.CancelledError):
            await Asgi(app)._request("GET", "/x", ID, b"")
        assert context.current() is None

    asyncio.run(scenario())


def test_a_handler_of_the_applications_own_that_raises_is_a_500_with_both_errors(
    app: FastAPI,
) -> None:
    """Told by the frame."""

    class Mine(Exception):
        pass

    async def handler(request: Request, exc: Exception) -> Any:
        raise KeyError("hunter2")

    app.add_exception_handler(Mine, handler)

    @app.get("/x")
    async def x() -> None:
        raise Mine

    with caught_reports() as reports:
        answer = Asgi(app).get("/x")
    assert answer.error["code"] == "INTERNAL_ERROR"
    assert b"hunter2" not in answer.body
    assert [type(report.exc) for report in reports] == [KeyError]
    assert isinstance(reports[0].exc.__context__, Mine)


def test_two_applications_may_use_one_code() -> None:
    """In one process; each kit knows its own."""
    twin = type("Twin", (Conflict,), {"code": "SEAT_GONE", "status": 410, "__module__": __name__})
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.get("/x")
    async def x() -> None:
        raise twin

    assert Asgi(app).get("/x").error["code"] == "SEAT_GONE"
