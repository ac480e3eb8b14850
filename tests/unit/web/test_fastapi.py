"""What only FastAPI and Starlette have: middleware, mounts, body limits, background tasks, sockets, lifespans."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

import backendkit.fastapi
from backendkit.core import context
from backendkit.errors import Conflict, Forbidden, NotFound, Unauthorized
from backendkit.kit import Kit
from backendkit.stores import MemoryStore
from tests.unit.web.apps import ID, fastapi_pair, new_kit
from tests.unit.web.drivers import Asgi, caught_reports

ORIGIN = {**ID, "Origin": "https://a.example"}


def raising(exc: Exception) -> Any:
    """Return a middleware of the usual kind that raises on `/mw`."""

    class Raising(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            if request.url.path.endswith("/mw"):
                raise exc
            return await call_next(request)

    return Raising


@pytest.mark.parametrize("order", ["install first", "install last"])
@pytest.mark.parametrize("debug", [False, True])
def test_an_unknown_error_passes_middleware_as_a_response(order: str, debug: bool) -> None:
    """CORS and the like treat it as any other; debug mode shows no traceback to clients."""
    app, kit = FastAPI(debug=debug), new_kit()
    if order == "install first":
        backendkit.fastapi.install(app, kit)
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])
    app.add_middleware(raising(ValueError("hunter2")))

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("hunter2")

    if order == "install last":
        backendkit.fastapi.install(app, kit)
    for path in ("/boom", "/mw", "/nowhere"):
        with caught_reports() as reports:
            answer = Asgi(app).get(path, ORIGIN)
        assert b"hunter2" not in answer.body
        assert answer.one("x-request-id") == "same-1"
        assert answer.error["code"] == ("NOT_FOUND" if path == "/nowhere" else "INTERNAL_ERROR")
        assert len(reports) == (path != "/nowhere")
        if path != "/mw":
            assert answer.one("access-control-allow-origin") == "https://a.example"


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (Unauthorized(), 401),
        (HTTPException(401, "x", {"WWW-Authenticate": "Basic"}), 401),
        (Conflict(), 409),
    ],
)
def test_what_middleware_raises_is_told_like_what_views_raise(exc: Exception, status: int) -> None:
    """Rate limits and authentication live there."""
    app = FastAPI()
    app.add_middleware(raising(exc))
    backendkit.fastapi.install(app, new_kit())
    answer = Asgi(app).get("/mw", ID)
    assert (answer.status, answer.error["requestId"]) == (status, "same-1")
    assert bool(answer.one("www-authenticate")) is (status == 401)


def test_bound_fields_and_ids_survive_base_http_middleware_and_threads() -> None:
    """The variable is copied into other tasks and threads, the request it points to is not."""
    seen: dict[str, Any] = {}

    class Watching(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            seen.update(context.fields())
            return response

    app = FastAPI()
    app.add_middleware(Watching)
    backendkit.fastapi.install(app, new_kit())

    @app.get("/sync")
    def sync() -> None:
        context.bind(user_id=7)

    Asgi(app).get("/sync", ID)
    assert seen == {"request_id": "same-1", "user_id": 7}


def mounted_app() -> FastAPI:
    """Return an application to be mounted."""
    sub = FastAPI()
    sub.add_middleware(raising(Forbidden()))

    @sub.get("/app")
    async def app_error() -> None:
        raise Conflict

    @sub.get("/boom")
    async def boom() -> None:
        raise ValueError("hunter2")

    return sub


@pytest.mark.parametrize("order", ["mount first", "mount last"])
def test_mounted_applications_get_the_same(order: str) -> None:
    """Their own stack has our handlers, too, and the error is recorded once."""
    app, kit = FastAPI(), new_kit()
    if order == "mount first":
        app.mount("/sub", mounted_app())
        backendkit.fastapi.install(app, kit)
    else:
        backendkit.fastapi.install(app, kit)
        app.mount("/sub", mounted_app())
    expected = {"/sub/app": "CONFLICT", "/sub/nowhere": "NOT_FOUND", "/sub/mw": "FORBIDDEN"}
    for path, code in expected.items():
        answer = Asgi(app).get(path, ID)
        assert (path, answer.error["code"]) == (path, code)
    with caught_reports() as reports:
        assert Asgi(app).get("/sub/boom", ID).error["code"] == "INTERNAL_ERROR"
    assert len(reports) == 1


def test_a_mounted_application_with_a_kit_of_its_own_keeps_it() -> None:
    """The outer one names the request."""
    app, sub = FastAPI(), mounted_app()
    backendkit.fastapi.install(app, new_kit())
    backendkit.fastapi.install(sub, new_kit(http={"error_format": "problem"}))
    app.mount("/sub", sub)
    answer = Asgi(app).get("/sub/app", ID)
    assert answer.one("content-type") == "application/problem+json"
    assert answer.all("x-request-id") == ["same-1"]
    assert Asgi(app).get("/nowhere", ID).one("content-type") == "application/json"


def test_a_foreign_application_that_is_mounted_is_put_into_words() -> None:
    """Its bare phrases become envelopes; its exceptions are answered."""

    async def foreign(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("/boom"):
            raise ValueError("hunter2")
        await PlainTextResponse("Not Found", 404)(scope, receive, send)

    app = FastAPI()
    app.mount("/foreign", foreign)
    backendkit.fastapi.install(app, new_kit())
    assert Asgi(app).get("/foreign/x", ID).error["code"] == "NOT_FOUND"
    assert Asgi(app).get("/foreign/boom", ID).error["code"] == "INTERNAL_ERROR"


@pytest.mark.parametrize("reads", [True, False])
def test_a_body_over_the_limit_is_a_413(reads: bool) -> None:
    """Starlette answers it outside of all middleware, in plain text; nothing is recorded."""
    app = FastAPI(max_body_size=10)
    backendkit.fastapi.install(app, new_kit())

    @app.post("/x")
    async def view(request: Request) -> Any:
        return len(await request.body()) if reads else {}

    with caught_reports() as reports:
        answer = Asgi(app).request("POST", "/x", ID, b"x" * 100)
    assert answer.status == 413
    assert answer.error["code"] == "PAYLOAD_TOO_LARGE"
    assert answer.error["message"] == "The request body is too large"
    assert reports == []


def test_a_failing_background_task_is_recorded_once_by_its_own_name() -> None:
    """The client has its answer."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    def task() -> None:
        raise ValueError("in the background")

    @app.get("/x")
    async def view(tasks: BackgroundTasks) -> Any:
        tasks.add_task(task)
        return {}

    with caught_reports() as reports:
        answer = Asgi(app).get("/x", ID)
    assert (answer.status, answer.complete) == (200, True)
    assert [type(r.exc) for r in reports] == [ValueError]
    assert reports[0].has_traceback


def test_a_dependency_that_fails_after_the_answer_is_recorded_once() -> None:
    """By its own name, not as Starlette's RuntimeError."""
    from fastapi import Depends

    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    async def session() -> Any:
        yield 1
        raise ValueError("commit failed")

    @app.get("/x")
    async def view(_: int = Depends(session)) -> Any:
        return {}

    with caught_reports() as reports:
        Asgi(app).get("/x", ID)
    assert [type(r.exc) for r in reports] == [ValueError]


def test_a_client_that_left_is_nobodys_error() -> None:
    """No record of an unhandled one."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.get("/x")
    async def view() -> None:
        raise ClientDisconnect

    with caught_reports() as reports:
        assert Asgi(app).get("/x").status == 499
    assert reports == []


def test_the_applications_own_handlers_stay_in_force() -> None:
    """By class, by status, and by subclass of ours."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.exception_handler(404)
    async def by_status(_: Request, __: Exception) -> Any:
        return JSONResponse({"mine": 404}, 404)

    @app.exception_handler(Conflict)
    async def by_class(_: Request, __: Exception) -> Any:
        return JSONResponse({"mine": 409}, 409)

    @app.get("/conflict")
    async def conflict() -> None:
        raise Conflict

    @app.get("/found")
    async def found() -> None:
        raise NotFound

    assert Asgi(app).get("/nowhere").body == b'{"mine":404}'
    assert Asgi(app).get("/conflict").body == b'{"mine":409}'
    assert Asgi(app).get("/found").error["code"] == "NOT_FOUND"
    assert set(app.exception_handlers) >= {404, Conflict}
    assert len(app.user_middleware) == 0


def test_the_applications_own_handler_of_all_exceptions_stays_in_force() -> None:
    """And Starlette raises again what it has answered, for the server to record."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.exception_handler(Exception)
    async def mine(_: Request, __: Exception) -> Any:
        return JSONResponse({"mine": 500}, 500)

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("x")

    driver = Asgi(app)
    with caught_reports() as reports, pytest.raises(ValueError, match="x"):
        driver.get("/boom")
    assert driver.last.body == b'{"mine":500}'
    assert reports == []


def test_a_framework_exception_below_400_is_no_error() -> None:
    """Some redirect that way."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.get("/old")
    async def old() -> None:
        raise HTTPException(307, headers={"Location": "/new"})

    answer = Asgi(app).get("/old")
    assert (answer.status, answer.one("location")) == (307, "/new")


def test_allow_is_the_union_of_all_routes_at_a_path() -> None:
    """The router names only the first."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())
    app.add_api_route("/x", lambda: 1, methods=["GET"])
    app.add_api_route("/x", lambda: 1, methods=["POST", "PATCH"])
    assert Asgi(app).request("DELETE", "/x").one("allow") == "GET, HEAD, OPTIONS, PATCH, POST"
    outer = FastAPI()
    outer.mount("/sub", app)
    backendkit.fastapi.install(outer, new_kit())
    assert Asgi(outer).request("DELETE", "/sub/x").one("allow") == "GET, HEAD, OPTIONS, PATCH, POST"


def test_starlette_without_fastapi_is_served_as_well() -> None:
    """The adapter needs nothing of FastAPI's."""

    async def boom(_: Request) -> Any:
        raise ValueError("x")

    inner = Starlette(routes=[Route("/boom", boom)])
    app = Starlette(routes=[Route("/boom", boom), Mount("/sub", app=inner)])
    backendkit.fastapi.install(app, new_kit())
    for path, code in {
        "/boom": "INTERNAL_ERROR",
        "/sub/boom": "INTERNAL_ERROR",
        "/no": "NOT_FOUND",
        "/sub/no": "NOT_FOUND",
    }.items():
        assert Asgi(app).get(path, ID).error["code"] == code


@pytest.mark.parametrize("when", ["before", "after"])
def test_instrumentation_that_wraps_the_stack_finds_the_frame_in_its_place(  # noqa: C901 - it has an application in it
    when: str,
) -> None:
    """As OpenTelemetry's does: an own outer layer, and another ServerErrorMiddleware around it."""
    from starlette.middleware.errors import ServerErrorMiddleware

    seen: list[tuple[str, int]] = []

    class Watching:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def watched(message: Any) -> None:
                if message["type"] == "http.response.start":
                    ids = dict(message["headers"])[b"x-request-id"].decode()
                    seen.append((ids, message["status"]))
                await send(message)

            await self.app(scope, receive, watched)

    def instrument(app: Any) -> None:
        build = app.build_middleware_stack
        app.build_middleware_stack = lambda: ServerErrorMiddleware(Watching(build()))

    pair_app = FastAPI()
    if when == "before":
        instrument(pair_app)
    backendkit.fastapi.install(pair_app, new_kit())
    if when == "after":
        instrument(pair_app)

    @pair_app.get("/boom")
    async def boom() -> None:
        raise ValueError("x")

    assert Asgi(pair_app).get("/boom", ID).error["code"] == "INTERNAL_ERROR"
    assert seen == [("same-1", 500)]


@pytest.mark.parametrize(
    ("reraise", "environment", "raises"),
    [
        (None, "production", False),
        (None, "testing", True),
        (True, "production", True),
        (False, "testing", False),
    ],
)
def test_an_unknown_error_is_raised_again_where_that_is_wanted(
    reraise: bool | None, environment: str, raises: bool
) -> None:
    """After it was answered; whoever catches it records it."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit(environment=environment), reraise=reraise)

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("x")

    driver = Asgi(app)
    with caught_reports() as reports:
        if raises:
            with pytest.raises(ValueError, match="x") as caught:
                driver.get("/boom")
            assert caught.traceback[-1].name == "boom"
        else:
            driver.get("/boom")
    assert driver.last.error["code"] == "INTERNAL_ERROR"
    assert len(reports) == (not raises)


def test_the_lifespan_closes_the_kit_after_the_applications_own() -> None:
    """Which may still use it; its state is passed on."""
    order: list[str] = []

    @asynccontextmanager
    async def own(_: Any) -> Any:
        yield {"mine": 1}
        order.append("own")

    kit = Kit()
    app = FastAPI(lifespan=own)
    backendkit.fastapi.install(app, kit)
    _ = kit.store

    async def scenario() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state == {"mine": 1}

    with patch.object(MemoryStore, "close", lambda _: order.append("kit")):
        asyncio.run(scenario())
    assert order[0] == "own"
    assert "kit" in order


def socket_messages(app: Any, path: str, *, denial: bool = True) -> list[Any]:
    """Return what an application sends to a websocket that connects and says nothing."""
    sent: list[Any] = []

    async def scenario() -> None:
        incoming = [{"type": "websocket.connect"}]

        async def receive() -> Any:
            return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "ws",
            "headers": [(b"x-request-id", b"same-1")],
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        await app(scope, receive, send)

    asyncio.run(scenario())
    return sent


def socket_app() -> FastAPI:
    """Return an application with sockets that fail early, late and not at all."""
    app = FastAPI()
    backendkit.fastapi.install(app, new_kit())

    @app.websocket("/ok")
    async def ok(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(context.request_id() or "")
        await socket.close()

    @app.websocket("/early")
    async def early(_: WebSocket) -> None:
        raise Forbidden

    @app.websocket("/late")
    async def late(socket: WebSocket) -> None:
        await socket.accept()
        raise Conflict

    @app.websocket("/http")
    async def http(socket: WebSocket) -> None:
        await socket.accept()
        raise HTTPException(403)

    return app


def test_sockets_work_and_know_their_request() -> None:
    """The frame lets them through."""
    types = [message.get("text") for message in socket_messages(socket_app(), "/ok")]
    assert types == [None, "same-1", None]


@pytest.mark.parametrize(
    ("path", "denial", "last", "code"),
    [
        ("/early", True, "websocket.http.response.body", None),
        ("/early", False, "websocket.close", 1008),
        ("/late", True, "websocket.close", 1008),
        ("/http", True, "websocket.close", 1008),
    ],
)
def test_a_socket_is_denied_or_closed_and_never_answered_as_http(
    path: str, denial: bool, last: str, code: int | None
) -> None:
    """Before it is open like a request, with the envelope; after, by a close code."""
    message = socket_messages(socket_app(), path, denial=denial)[-1]
    assert message["type"] == last
    assert message.get("code") == code
    if denial and path == "/early":
        assert b"FORBIDDEN" in message["body"]


def test_no_class_is_patched_and_one_attribute_is_ours() -> None:
    """Another application is as it was."""
    before: dict[Any, Callable[..., Any]] = {
        k: k.build_middleware_stack for k in (FastAPI, Starlette)
    }
    pair = fastapi_pair()
    pair.driver.get("/ok")
    assert {k: k.build_middleware_stack for k in (FastAPI, Starlette)} == before
    assert Asgi(FastAPI()).get("/nowhere").body == b'{"detail":"Not Found"}'
