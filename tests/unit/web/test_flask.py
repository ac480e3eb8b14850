"""What only Flask and Werkzeug have: blueprints, signals, hooks, testing mode, WSGI middleware."""

import json
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, abort, got_request_exception
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException, MethodNotAllowed, TooManyRequests, Unauthorized

import backendkit.flask
from backendkit.core import context
from backendkit.errors import Conflict, NotFound
from tests.unit.web.apps import ID, new_kit
from tests.unit.web.drivers import Wsgi, caught_reports


@pytest.fixture
def app() -> Flask:
    """Return an application with the kit installed and one view that fails."""
    app = Flask("test")
    backendkit.flask.install(app, new_kit())

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError("hunter2")

    @app.get("/conflict")
    def conflict() -> Any:
        raise Conflict

    return app


def test_an_unknown_error_is_signalled_once(app: Flask) -> None:
    """Watchers that listen to Flask see it, as without us."""
    seen: list[Any] = []

    def listen(_: Any, exception: Exception, **__: Any) -> None:
        seen.append(exception)

    with got_request_exception.connected_to(listen, app), caught_reports() as reports:
        Wsgi(app).get("/boom")
        Wsgi(app).get("/conflict")
        Wsgi(app).get("/nowhere")
    assert [str(exc) for exc in seen] == ["hunter2"]
    assert len(reports) == 1


@pytest.mark.parametrize("flag", ["TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS"])
def test_where_flask_propagates_we_do(app: Flask, flag: str) -> None:
    """Unknown errors reach the test or the debugger; known ones are answered."""
    app.config[flag] = True
    with caught_reports() as reports, pytest.raises(ValueError, match="hunter2"):
        Wsgi(app).get("/boom")
    assert reports == []
    assert Wsgi(app).get("/conflict").error["code"] == "CONFLICT"
    assert Wsgi(app).get("/nowhere").error["code"] == "NOT_FOUND"
    assert context.current() is None


@pytest.mark.parametrize(("reraise", "raises"), [(True, True), (False, False)])
def test_reraise_decides_for_flask_too(reraise: bool, raises: bool) -> None:
    """Also against TESTING."""
    app = Flask("test")
    app.testing = not raises
    backendkit.flask.install(app, new_kit(), reraise=reraise)

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError("x")

    if raises:
        with pytest.raises(ValueError, match="x"):
            Wsgi(app).get("/boom")
    else:
        assert Wsgi(app).get("/boom").error["code"] == "INTERNAL_ERROR"


def test_handlers_of_the_application_and_of_blueprints_stay_in_force() -> None:
    """By class and by code, registered before or after."""
    app, blueprint = Flask("test"), Blueprint("b", "b", url_prefix="/b")

    @app.errorhandler(HTTPException)
    def http(exc: HTTPException) -> Any:
        return {"mine": exc.code}, exc.code

    backendkit.flask.install(app, new_kit())

    @app.errorhandler(Conflict)
    def conflict(_: Conflict) -> Any:
        return {"mine": "conflict"}, 409

    @blueprint.errorhandler(Conflict)
    def inside(_: Conflict) -> Any:
        return {"mine": "blueprint"}, 409

    def view() -> Any:
        raise Conflict

    app.add_url_rule("/x", view_func=view)
    blueprint.add_url_rule("/x", view_func=view)
    app.register_blueprint(blueprint)
    driver = Wsgi(app)
    assert json.loads(driver.get("/nowhere").body) == {"mine": 404}
    assert json.loads(driver.get("/x").body) == {"mine": "conflict"}
    assert json.loads(driver.get("/b/x").body) == {"mine": "blueprint"}
    assert driver.get("/b/nowhere").all("x-request-id") != []


def test_what_after_request_raises_is_answered(app: Flask) -> None:
    """A known one by its status, unrecorded; an unknown one as any other."""
    wanted: list[Exception] = [NotFound()]

    @app.after_request
    def fail(response: Any) -> Any:
        if flask.request.path == "/fail":
            raise wanted[0]
        return response

    @app.get("/fail")
    def view() -> Any:
        return {}

    with caught_reports() as reports:
        assert Wsgi(app).get("/fail").error["code"] == "NOT_FOUND"
    # Flask itself records that the second run of the hook failed; nobody records the first as unhandled.
    assert [r for r in reports if r.text.startswith("unhandled")] == []
    wanted[0] = ValueError("hunter2")
    with caught_reports() as reports:
        assert Wsgi(app).get("/fail").error["code"] == "INTERNAL_ERROR"
    assert len([r for r in reports if r.text.startswith("unhandled")]) == 1


def test_what_teardown_raises_does_not_leave_the_client_without_an_answer(app: Flask) -> None:
    """Flask drops the finished response; the frame says that something failed."""

    @app.teardown_request
    def fail(_: BaseException | None) -> None:
        raise ValueError("teardown")

    @app.get("/x")
    def view() -> Any:
        return {}

    with caught_reports() as reports:
        assert Wsgi(app).get("/x", ID).error["code"] == "INTERNAL_ERROR"
    assert len(reports) == 1


def test_what_wsgi_middleware_raises_is_answered() -> None:
    """Flask never sees it."""
    app = Flask("test")
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/mw":
            raise NotFound
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    backendkit.flask.install(app, new_kit())
    assert Wsgi(app).get("/mw", ID).error["code"] == "NOT_FOUND"


def test_headers_of_werkzeugs_errors_are_kept(app: Flask) -> None:
    """Save those that belong to its HTML."""
    exceptions = {
        "retry": TooManyRequests(retry_after=7),
        "method": MethodNotAllowed(valid_methods=["POST", "GET"]),
        "auth": Unauthorized(www_authenticate=[_basic("a"), _basic("b")]),
    }

    @app.get("/raise/<name>")
    def view(name: str) -> Any:
        raise exceptions[name]

    driver = Wsgi(app)
    assert driver.get("/raise/retry").one("retry-after") == "7"
    assert driver.get("/raise/method").one("allow") == "GET, POST"
    assert driver.get("/raise/auth").one("www-authenticate") == "Basic realm=a, Basic realm=b"
    assert driver.get("/raise/auth").error["code"] == "UNAUTHORIZED"


def _basic(realm: str) -> Any:
    from werkzeug.datastructures import WWWAuthenticate

    return WWWAuthenticate("basic", {"realm": realm})


def test_a_response_passed_to_abort_goes_out_as_it_is(app: Flask) -> None:
    """And so does a redirect that routing makes."""

    @app.get("/abort")
    def view() -> Any:
        abort(flask.Response("mine", 418))

    @app.get("/slash/")
    def slash() -> Any:
        return {}

    assert Wsgi(app).get("/abort").body == b"mine"
    assert Wsgi(app).get("/slash").status == 308


def test_abort_500_is_recorded(app: Flask) -> None:
    """Flask does not."""

    @app.get("/abort")
    def view() -> Any:
        abort(500, "hunter2")

    with caught_reports() as reports:
        answer = Wsgi(app).get("/abort")
    assert answer.error["code"] == "INTERNAL_ERROR"
    assert b"hunter2" not in answer.body
    assert len(reports) == 1


BAD_BODIES = {
    "broken": b"{",
    "NaN": b'{"a": NaN}',
    "surrogate": b'{"a": "\\ud800"}',
    "deep": b"[" * 100_000,
    "digits": b"9" * 5_000,
    "encoding": b'"\xff"',
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_get_json_takes_json_and_nothing_else(app: Flask, body: bytes, debug: bool) -> None:
    """Debug mode changes nothing; `silent=True` stays silent."""
    app.debug = debug

    @app.post("/loud")
    def loud() -> Any:
        return {"got": flask.request.get_json()}

    @app.post("/silent")
    def silent() -> Any:
        return {"got": flask.request.get_json(silent=True)}

    answer = Wsgi(app).post("/loud", body)
    assert answer.status == 400
    assert answer.error["code"] in {"MALFORMED_BODY", "BAD_REQUEST"}
    assert json.loads(Wsgi(app).post("/silent", body).body) == {"got": None}
    assert json.loads(Wsgi(app).post("/loud", b"[1]").body) == {"got": [1]}
    assert Wsgi(app).post("/loud", b"[1]", "text/plain").error["code"] == "UNSUPPORTED_MEDIA_TYPE"


def test_the_applications_json_provider_and_request_class_are_kept() -> None:
    """We look over their shoulder."""
    from flask.json.provider import DefaultJSONProvider

    class Provider(DefaultJSONProvider):
        def loads(self, s: str | bytes, **kwargs: Any) -> Any:
            return ["mine", super().loads(s, **kwargs)]

    class Request(flask.Request):
        mine = 7

    app = Flask("test")
    app.request_class = Request
    app.json = Provider(app)
    backendkit.flask.install(app, new_kit())

    @app.post("/x")
    def view() -> Any:
        assert isinstance(flask.request, Request)
        return {"got": flask.request.get_json(), "mine": flask.request.mine}

    assert json.loads(Wsgi(app).post("/x", b"1").body) == {"got": ["mine", 1], "mine": 7}
    assert Wsgi(app).post("/x", b"NaN").status == 400


def test_a_model_that_a_view_builds_itself_is_the_servers_fault(app: Flask) -> None:
    """Only `body`, `query` and `path` know that a client is to blame; an internal one is a 500, as on FastAPI."""

    class Model(BaseModel):
        age: int

    @app.get("/x")
    def view() -> Any:
        return Model.model_validate({"age": "hunter2"}).model_dump()

    with caught_reports() as reports:
        answer = Wsgi(app).get("/x")
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL_ERROR")
    assert b"hunter2" not in answer.body
    assert len(reports) == 1


def test_the_variable_parts_of_a_path_are_validated(app: Flask) -> None:
    """And told as FastAPI tells its own."""

    class Where(BaseModel):
        number: int

    @app.get("/x/<number>")
    def view(number: str) -> Any:
        return backendkit.flask.path(Where).model_dump()

    assert json.loads(Wsgi(app).get("/x/7").body) == {"number": 7}
    answer = Wsgi(app).get("/x/seven")
    assert answer.status == 422
    assert answer.error["details"] == [
        {"field": "number", "issue": "Must be an integer", "code": "INVALID_TYPE", "in": "path"}
    ]


def test_a_repeated_query_parameter_is_a_list(app: Flask) -> None:
    """Where the field is one; where it is not, the last one counts, as on FastAPI."""

    class Filters(BaseModel):
        tag: list[str] = []
        page: int = 1

    @app.get("/x")
    def view() -> Any:
        return backendkit.flask.query(Filters).model_dump()

    answer = Wsgi(app).get("/x?tag=a&tag=b&page=1&page=2")
    assert json.loads(answer.body) == {"tag": ["a", "b"], "page": 2}
    assert json.loads(Wsgi(app).get("/x?tag=a").body) == {"tag": ["a"], "page": 1}


def test_a_stream_knows_its_request(app: Flask) -> None:
    """Flask's own context is gone by then; ours is not."""

    @app.get("/x")
    def view() -> Any:
        def pieces() -> Iterator[str]:
            for _ in range(3):
                yield context.request_id() or "none"

        return flask.Response(pieces())

    assert Wsgi(app).get("/x", ID).body == b"same-1" * 3


def test_no_class_is_patched() -> None:
    """Another application is as it was."""
    before = (Flask.wsgi_app, Flask.log_exception, Flask.request_class)
    backendkit.flask.install(Flask("one"), new_kit())
    assert (Flask.wsgi_app, Flask.log_exception, Flask.request_class) == before
    assert b"<!doctype html>" in Wsgi(Flask("two")).get("/nowhere").body
