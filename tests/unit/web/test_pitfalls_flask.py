"""What goes wrong on a bare Flask, and what happens with a kit installed; `docs/explanation/pitfalls.md` has all of it."""

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask

import backendkit.flask
from backendkit.errors import Conflict, NotFound
from tests.unit.web.apps import ID, new_kit
from tests.unit.web.drivers import Wsgi, caught_reports


@pytest.fixture
def app() -> Flask:
    """An application with a kit."""
    app = Flask("pitfalls")
    backendkit.flask.install(app, new_kit())
    return app


def test_unknown_addresses_under_a_blueprint_are_envelopes(app: Flask) -> None:
    """Flask asks a blueprint's handlers only about what its views raise."""
    app.register_blueprint(Blueprint("api", __name__, url_prefix="/api"))
    assert Wsgi(app).get("/api/nowhere").error["code"] == "NOT_FOUND"


def test_a_blueprints_own_handler_of_a_class_stays_in_force(app: Flask) -> None:
    """The nearer one wins, as Flask has it."""
    part = Blueprint("part", __name__)

    @part.errorhandler(Conflict)
    def own(_: Conflict) -> Any:
        return "mine", 409

    @part.get("/x")
    def x() -> Any:
        raise Conflict

    app.register_blueprint(part)
    assert Wsgi(app).get("/x").body == b"mine"


@pytest.mark.parametrize("flag", ["TESTING", "DEBUG"])
def test_errors_with_a_name_are_envelopes_under_testing_and_debug(app: Flask, flag: str) -> None:
    """Tests see what clients see; what nobody has named is raised to the test."""
    app.config[flag] = True

    @app.get("/named")
    def named() -> Any:
        raise NotFound

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError("hunter2")

    assert Wsgi(app).get("/named").error["code"] == "NOT_FOUND"
    with pytest.raises(ValueError, match="hunter2"):
        Wsgi(app).get("/boom")


def test_a_500_is_recorded_once(app: Flask) -> None:
    """Flask's own record is ours."""

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError

    with caught_reports() as reports:
        Wsgi(app).get("/boom")
    assert len(reports) == 1


def test_middleware_that_is_wrapped_after_install_is_inside_the_frame(app: Flask) -> None:
    """From the first request on the frame is outermost; that first one is served by the inner frame."""
    inner = app.wsgi_app

    def fails(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/mw":
            raise Conflict
        return inner(environ, start_response)

    app.wsgi_app = fails  # type: ignore[method-assign]
    assert Wsgi(app).get("/nowhere").status == 404
    answer = Wsgi(app).get("/mw", ID)
    assert (answer.error["code"], answer.all("x-request-id")) == ("CONFLICT", ["same-1"])
    assert Wsgi(app).get("/nowhere", ID).all("x-request-id") == ["same-1"]


def test_debug_does_not_tell_which_form_key_was_read(app: Flask) -> None:
    """The body is the same in either mode."""

    @app.post("/form")
    def form() -> Any:
        return flask.request.form["password_of_admin"]

    plain = Wsgi(app).post("/form", b"", "application/x-www-form-urlencoded")
    app.config.update(DEBUG=True, TRAP_BAD_REQUEST_ERRORS=False)
    debug = Wsgi(app).post("/form", b"", "application/x-www-form-urlencoded")
    assert plain.status == debug.status == 400
    assert b"password_of_admin" not in plain.body


def test_a_body_over_the_limit_that_nobody_reads_is_not_refused(app: Flask) -> None:
    """Werkzeug looks when the body is read; `body` reads it."""
    app.config["MAX_CONTENT_LENGTH"] = 10

    @app.post("/unread")
    def unread() -> Any:
        return {}

    @app.post("/read")
    def read() -> Any:
        return {"n": len(flask.request.get_data())}

    assert Wsgi(app).post("/unread", b"x" * 99).status == 200
    assert Wsgi(app).post("/read", b"x" * 99).error["code"] == "PAYLOAD_TOO_LARGE"


def test_a_stream_that_fails_is_recorded_once_with_its_id(app: Flask) -> None:
    """Outside of Flask's request context, inside ours."""

    @app.get("/stream")
    def stream() -> Any:
        def pieces() -> Iterator[bytes]:
            yield b"a"
            raise ValueError

        return flask.Response(pieces())

    with caught_reports() as reports, pytest.raises(BrokenPipeError):
        Wsgi(app).get("/stream", ID)
    assert len(reports) == 1
