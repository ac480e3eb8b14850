"""Errors in OpenAPI documents: what FastAPI says of an application, and what Flask's users put into theirs."""

import json
import re
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from fastapi import APIRouter, FastAPI, Query
from openapi_spec_validator import validate
from pydantic import BaseModel

import backendkit.fastapi
import backendkit.flask
from backendkit.core.clock import ManualClock
from backendkit.errors import Conflict, Errors, Gone, NotFound, Unauthorized
from backendkit.flask.openapi import components, responses
from backendkit.http.openapi import ErrorSchemas, raises
from backendkit.kit import Kit
from backendkit.settings import HttpSettings, Settings
from backendkit.testing import AsgiClient


class TableTaken(Conflict):
    """A conflict with a parameter."""

    code = "TEST_TABLE_TAKEN"
    message = "Table {table} is taken"


class TableClosed(Conflict):
    """Another of the same status."""

    code = "TEST_TABLE_CLOSED"
    message = "Table {table} is closed"


class Booking(BaseModel):
    """What is posted."""

    guests: int


def new_kit(**http: Any) -> Kit:
    """A kit whose clock stands still."""
    return Kit(Settings(http=HttpSettings(**http)), clock=ManualClock())


def application(kit: Kit) -> FastAPI:
    """Some routes, some of them in routers within routers."""
    app = FastAPI()
    backendkit.fastapi.install(app, kit)
    inner, outer = APIRouter(), APIRouter(prefix="/tables", responses=raises(Unauthorized))

    @inner.put("/{table}", responses=raises(TableTaken, TableClosed))
    async def book(table: str, booking: Booking) -> None:
        raise TableTaken(table=table)

    @inner.get("/{table}", responses={404: {"description": "mine"}})
    async def show(table: str, verbose: int = Query(0)) -> None:
        raise NotFound

    @app.get("/plain")
    async def plain() -> None:
        return None

    outer.include_router(inner)
    app.include_router(outer)
    return app


@pytest.fixture
def document() -> dict[str, Any]:
    """The document of the application."""
    return application(new_kit()).openapi()


def references(node: Any) -> Iterator[str]:
    """Walk all `$ref`s."""
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def codes(response: dict[str, Any], media: str = "application/json") -> list[str]:
    """The codes that a response enumerates."""
    _, more = response["content"][media]["schema"]["allOf"]
    members = more["properties"]
    found: list[str] = members.get("error", more)["properties"]["code"]["enum"]
    return found


def test_the_document_is_valid_and_complete(document: dict[str, Any]) -> None:
    """By the validator of the specification; and every reference leads somewhere."""
    validate(document)
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_nothing_of_fastapis_own_error_is_left(document: dict[str, Any]) -> None:
    """Neither in components nor anywhere else."""
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert "ValidationError" not in document["components"]["schemas"]
    assert "x-backendkit" not in text


def test_every_error_status_names_the_envelope_and_the_problem(document: dict[str, Any]) -> None:
    """With the request id among its headers."""
    seen = 0
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
            for status, response in operation["responses"].items():
                if status[0] in "45" and response["description"] != "mine":
                    seen += 1
                    text = json.dumps(response["content"])
                    assert "#/components/schemas/ErrorEnvelope" in text
                    assert "#/components/schemas/Problem" in text
                    assert "X-Request-ID" in response["headers"]
    assert seen >= 6


def test_codes_are_enumerated_by_status(document: dict[str, Any]) -> None:
    """Those that the route names, and those that follow from its body."""
    put = document["paths"]["/tables/{table}"]["put"]["responses"]
    assert codes(put["409"]) == ["TEST_TABLE_TAKEN", "TEST_TABLE_CLOSED"]
    assert put["409"]["content"]["application/problem+json"]["schema"]["allOf"][1] == {
        "properties": {"code": {"enum": ["TEST_TABLE_TAKEN", "TEST_TABLE_CLOSED"]}}
    }
    assert codes(put["400"]) == ["MALFORMED_BODY"]
    assert codes(put["415"]) == ["UNSUPPORTED_MEDIA_TYPE"]
    assert codes(put["422"]) == ["VALIDATION_ERROR"]
    assert codes(put["401"]) == ["UNAUTHORIZED"]
    assert "WWW-Authenticate" in put["401"]["headers"]


def test_parameters_alone_can_only_be_invalid(document: dict[str, Any]) -> None:
    """There is no body that could be malformed; and none of it on a route without either."""
    get = document["paths"]["/tables/{table}"]["get"]["responses"]
    assert {"400", "415"}.isdisjoint(get)
    assert codes(get["422"]) == ["VALIDATION_ERROR"]
    assert set(document["paths"]["/plain"]["get"]["responses"]) == {"200", "default"}


def test_what_the_application_described_itself_stays(document: dict[str, Any]) -> None:
    """It may know better."""
    assert document["paths"]["/tables/{table}"]["get"]["responses"]["404"] == {
        "description": "mine"
    }


def test_the_document_is_completed_once() -> None:
    """And again when the application makes it anew."""
    app = application(new_kit())
    first = app.openapi()
    text = json.dumps(first)
    assert app.openapi() is first
    assert json.dumps(app.openapi()) == text
    app.openapi_schema = None
    assert json.dumps(app.openapi()) == text


def test_an_example_is_what_a_client_would_read(document: dict[str, Any]) -> None:
    """Of the code that it stands under."""
    content = document["paths"]["/tables/{table}"]["put"]["responses"]["409"]["content"]
    envelope = content["application/json"]["examples"]["TEST_TABLE_CLOSED"]["value"]["error"]
    assert envelope["code"] == "TEST_TABLE_CLOSED"
    assert envelope["message"] == "Table {table} is closed"
    assert envelope["details"] == []
    problem = content["application/problem+json"]["examples"]["TEST_TABLE_CLOSED"]["value"]
    assert problem["type"] == "urn:error:TEST_TABLE_CLOSED"
    assert problem["title"] == "Test table closed"


@pytest.mark.parametrize(
    ("http", "media"),
    [
        ({"error_format": "envelope"}, {"application/json"}),
        ({"error_format": "problem"}, {"application/problem+json"}),
    ],
)
def test_only_formats_in_use_are_described(http: Any, media: set[str]) -> None:
    """As the settings say; under the header that they name."""
    document = application(new_kit(**http, request_id_header="X-Trace")).openapi()
    validate(document)
    put = document["paths"]["/tables/{table}"]["put"]["responses"]
    assert set(put["409"]["content"]) == media
    assert "X-Trace" in put["409"]["headers"]
    assert "X-Request-ID" not in json.dumps(document)


def test_a_shape_of_the_applications_own_is_described() -> None:
    """By what it writes."""
    described = ErrorSchemas(
        Errors(
            shape=lambda told: {
                "status_code": told.status,
                "message": told.message,
                "data": None,
                "ok": False,
                "rest": [],
            }
        )
    )
    body = described.components()["schemas"]["ErrorBody"]
    assert body["properties"]["status_code"] == {"type": "integer"}
    assert body["properties"]["ok"] == {"type": "boolean"}
    assert body["properties"]["data"] == {}
    assert body["properties"]["rest"] == {"type": "array", "items": {}}
    (response, _) = described.responses(Gone).values()
    assert response["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorBody"
    }


def test_parameters_that_travel_are_described() -> None:
    """In both shapes."""
    schemas = ErrorSchemas(Errors(params=True)).components()["schemas"]
    assert "params" in schemas["ErrorEnvelope"]["properties"]["error"]["properties"]
    assert "params" in schemas["Problem"]["properties"]
    plain = ErrorSchemas(Errors()).components()["schemas"]
    assert "params" not in plain["Problem"]["properties"]


def test_what_is_returned_is_the_callers() -> None:
    """A change of it changes nothing here."""
    described = ErrorSchemas(Errors())
    described.components()["schemas"].clear()
    described.components()["schemas"]["ErrorEnvelope"]["properties"].clear()
    assert described.components()["schemas"]["ErrorEnvelope"]["properties"]


def test_flask_gets_components_and_responses() -> None:
    """That make a valid document."""
    app = flask.Flask("x")
    backendkit.flask.install(app, new_kit())
    operation = {
        "responses": {"200": {"description": "ok"}, **responses(app, TableTaken, NotFound)}
    }
    document: Any = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {"/x": {"get": operation}},
        "components": components(app),
    }
    validate(document)
    assert codes(operation["responses"]["409"]) == ["TEST_TABLE_TAKEN"]
    assert "TEST_TABLE_TAKEN" in codes(document["components"]["responses"]["Status409"])
    assert "STORE_UNAVAILABLE" in codes(document["components"]["responses"]["Status503"])
    assert "Retry-After" in document["components"]["responses"]["Status429"]["headers"]


def test_flask_without_a_kit_is_refused() -> None:
    """With a word on why."""
    with pytest.raises(ValueError, match="must have a kit installed"):
        components(flask.Flask("x"))


def test_a_starlette_application_has_no_document() -> None:
    """And needs none."""
    from starlette.applications import Starlette

    app = Starlette()
    backendkit.fastapi.install(app, new_kit())
    assert not hasattr(app, "openapi")


def test_webhooks_and_callbacks_are_described_as_well() -> None:
    """They are operations, too."""
    app, callbacks = FastAPI(), APIRouter()
    backendkit.fastapi.install(app, new_kit())

    @callbacks.post("{$request.body#/url}", responses=raises(TableTaken))
    def called(booking: Booking) -> None: ...

    @app.webhooks.post("booked", responses=raises(TableClosed))
    def booked(booking: Booking) -> None: ...

    @app.post("/x", callbacks=callbacks.routes)
    def x(booking: Booking) -> None: ...

    text = json.dumps(app.openapi())
    assert "HTTPValidationError" not in text
    assert "x-backendkit" not in text
    assert re.search(
        "TEST_TABLE_TAKEN.*TEST_TABLE_CLOSED|TEST_TABLE_CLOSED.*TEST_TABLE_TAKEN", text
    )


def test_a_client_gets_the_same_class_with_the_same_parameters() -> None:
    """What the document promises, both formats keep."""
    client = AsgiClient(application(new_kit())).sync
    for accept in ("application/json", "application/problem+json"):
        answer = client.request("PUT", "/tables/7", json={"guests": 2}, headers={"Accept": accept})
        error = answer.error()
        assert type(error) is TableTaken
        assert error.params == {"table": "7"}
        documented = client.get("/openapi.json").json()["paths"]["/tables/{table}"]["put"]
        assert error.code in codes(documented["responses"][str(answer.status)])
