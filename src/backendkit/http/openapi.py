"""Errors in an OpenAPI 3.1 document: schemas, headers, and responses by code. Knows no framework.

    described = ErrorSchemas(kit.errors)
    document["components"] = described.components()
    operation["responses"] |= described.responses(SeatTaken, NotFound)

What errors look like is not written down a second time here: the registry is asked for a sample in each of its formats,
so that a shape of the application's own is described as well. All is computed once, when it is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from backendkit.core.errors import AppError
from backendkit.errors import (
    Errors,
    MalformedBody,
    UnsupportedMediaType,
    ValidationFailed,
)
from backendkit.http.ids import HEADER

Json: TypeAlias = dict[str, Any]

MARK = "x-backendkit-errors"
"""Stands in a response that `raises` made, until an adapter puts the real one in its place."""

AUTOMATIC: tuple[type[AppError], ...] = (MalformedBody, UnsupportedMediaType, ValidationFailed)
"""What an operation with a body may answer without any code of its own."""


def raises(*kinds: type[AppError]) -> dict[int | str, Json]:
    """Return what FastAPI takes as `responses=`, on a route, a router or the application, for errors that are raised there.

        @app.put("/seats/{seat}", responses=raises(SeatTaken, SeatUnknown))

    FastAPI lets a route's responses replace those of its router where they have the same status: name them again there.

    Args:
        kinds: error classes; several may share a status.
    """
    found: dict[int | str, Json] = {}
    for kind in kinds:
        place = found.setdefault(kind.status, {"description": "", MARK: []})
        place[MARK].append(entry(kind))
    for place in found.values():
        place["description"] = ", ".join(one["code"] for one in place[MARK])
    return found


def entry(kind: type[AppError]) -> Json:
    """Return what is to be said of an error class, as JSON has it."""
    return {"code": kind.code, "message": kind.message, "retryable": kind.retryable is True}


class ErrorSchemas:
    """One registry's errors as parts of an OpenAPI document.

    Args:
        errors: the registry; its formats decide what is described.
        header: the header that carries the request id.
    """

    __slots__ = ("_formats", "_headers", "_named", "_names", "_schemas")

    def __init__(self, errors: Errors, *, header: str = HEADER) -> None:
        self._formats = _formats(errors)
        self._names = {"RequestId": header, **_HEADER_NAMES}
        self._headers = _HEADERS
        self._schemas = _schemas(self._formats)
        self._named: dict[str, Json] = {"Error": self._response(None, ())}
        by_status: dict[int, list[Json]] = {}
        for one in errors.catalogue().entries:
            said = {"code": one.code, "message": one.message, "retryable": one.retryable}
            by_status.setdefault(one.status, []).append(said)
        for status, entries in by_status.items():
            self._named[f"Status{status}"] = self._response(status, entries)

    def components(self) -> Json:
        """Return `schemas`, `headers` and `responses`: `Error` for any error, `Status404` and so on for those of a status.

        The responses of a status enumerate the codes that the registry knows now, the library's own among them.
        """
        return deepcopy(
            {"schemas": self._schemas, "headers": self._headers, "responses": self._named}
        )

    def responses(self, *kinds: type[AppError]) -> dict[str, Json]:
        """Return an operation's responses for these errors, and `default` for all others."""
        found = {
            str(status): self.response(int(status), place[MARK])
            for status, place in raises(*kinds).items()
        }
        return {**found, "default": {"$ref": "#/components/responses/Error"}}

    def response(self, status: int, entries: Sequence[Json]) -> Json:
        """Return the response for some errors of one status, each as `entry` has it."""
        return deepcopy(self._response(status, entries))

    def _response(self, status: int | None, entries: Sequence[Json]) -> Json:
        said = "; ".join(f"`{one['code']}`: {one['message']}" for one in entries)
        content = {
            media: self._body(name, sample, entries)
            for media, (name, sample) in self._formats.items()
        }
        names = ["RequestId", *_headers_of(status, entries)]
        return {
            "description": said or "Any other error, in the same shape.",
            "headers": {self._names[at]: {"$ref": f"#/components/headers/{at}"} for at in names},
            "content": content,
        }

    @staticmethod
    def _body(name: str, sample: Json, entries: Sequence[Json]) -> Json:
        reference = {"$ref": f"#/components/schemas/{name}"}
        codes: Json = {"properties": {"code": {"enum": [one["code"] for one in entries]}}}
        if not entries or name == _OWN:
            return {"schema": reference}
        if name == _ENVELOPE:
            codes = {"properties": {"error": codes}}
        examples = {one["code"]: {"value": _example(sample, one)} for one in entries}
        return {"schema": {"allOf": [reference, codes]}, "examples": examples}


_ENVELOPE = "ErrorEnvelope"
_PROBLEM = "Problem"
_OWN = "ErrorBody"
_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def _formats(errors: Errors) -> dict[str, tuple[str, Json]]:
    """Return, by media type, the name of the schema and a sample of the body, as the registry tells an error."""
    found: dict[str, tuple[str, Json]] = {}
    sample = ValidationFailed(
        details=[{"field": "email", "issue": "Is required", "code": "REQUIRED", "pointer": "/email", "in": "body"}]
    )  # fmt: skip
    for accept in ("application/json", "application/problem+json"):
        rendered = errors.render(sample, accept, _ID)
        media = dict(rendered.headers)["Content-Type"]
        body: Any = json.loads(rendered.body)
        found.setdefault(media, (_name(media, body), body))
    return found


def _name(media: str, body: Any) -> str:
    if media == "application/problem+json" and isinstance(body, dict) and "instance" in body:
        return _PROBLEM
    error: Any = cast("Json", body).get("error") if isinstance(body, dict) else None
    ours = isinstance(error, dict) and len(cast("Json", body)) == 1 and "requestId" in error
    return _ENVELOPE if ours else _OWN


def _example(sample: Json, one: Json) -> Json:
    """Return the sample with what one error would say; details belong to validation alone."""
    body = deepcopy(sample)
    place: Json = body.get("error", body)
    place["code"] = one["code"]
    for key in ("message", "detail"):
        if key in place:
            place[key] = one["message"]
    if "type" in place:
        place["type"] = place["type"].replace(ValidationFailed.code, one["code"])
        place["title"] = one["code"].replace("_", " ").capitalize()
    if one["code"] != ValidationFailed.code:
        place.update({key: [] for key in ("details", "errors") if key in place})
    place.pop("status", None)  # it follows from the response, and is not the sample's
    return body


def _schemas(formats: Mapping[str, tuple[str, Json]]) -> Json:
    schemas: Json = {"ErrorDetail": _DETAIL}
    for name, sample in formats.values():
        if name == _OWN:
            schemas[name] = _inferred(sample)
            continue
        schemas[name] = deepcopy(_PROBLEM_SCHEMA if name == _PROBLEM else _ENVELOPE_SCHEMA)
        members = schemas[name] if name == _PROBLEM else schemas[name]["properties"]["error"]
        if "params" in sample.get("error", sample):
            members["properties"]["params"] = {
                "type": "object",
                "description": "The parameters of the message, with their types.",
            }
    return schemas


def _inferred(sample: Any) -> Json:
    """Return a schema that the sample fits: an application's own shape is known by what it writes."""
    if isinstance(sample, dict):
        members = cast("Json", sample)
        return {
            "type": "object",
            "properties": {name: _inferred(value) for name, value in members.items()},
            "required": list(members),
        }
    if isinstance(sample, list):
        items = cast("Sequence[Any]", sample)
        return {"type": "array", "items": _inferred(items[0]) if items else {}}
    if sample is None:
        return {}
    types = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": types[type(sample)]}


def _headers_of(status: int | None, entries: Iterable[Json]) -> Iterable[str]:
    if status in {429, 503} or any(one["retryable"] for one in entries):
        yield "RetryAfter"
    if status == 401:
        yield "WwwAuthenticate"
    if status == 405:
        yield "Allow"


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


_HEADER_NAMES = MappingProxyType(
    {"RetryAfter": "Retry-After", "WwwAuthenticate": "WWW-Authenticate", "Allow": "Allow"}
)
_HEADERS: Json = {
    "RequestId": {
        "description": "The id of this request, as every log record of it has it.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which trying again makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WwwAuthenticate": {"description": "How to authenticate.", "schema": {"type": "string"}},
    "Allow": {
        "description": "The methods that there are at this path.",
        "schema": {"type": "string"},
    },
}

_DETAIL: Json = {
    "type": "object",
    "title": "ErrorDetail",
    "properties": {
        "field": _text("Path of the field, like `items.0.email`."),
        "issue": _text("What is wrong with it, for people."),
        "code": _text("What is wrong with it, for programs.", examples=["REQUIRED"]),
        "pointer": _text("JSON pointer to the field (RFC 6901).", examples=["/items/0/email"]),
        "in": _text("Where it stands.", enum=["body", "query", "path", "header", "cookie"]),
    },
    "required": ["issue"],
    "additionalProperties": {"type": "string"},
}

_CODE_SCHEMA: Json = _text("For programs; never changes.", pattern="^[A-Z][A-Z0-9_]{0,63}$")
_LINES: Json = {"type": "array", "items": {"$ref": "#/components/schemas/ErrorDetail"}}

_ENVELOPE_SCHEMA: Json = {
    "type": "object",
    "title": _ENVELOPE,
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": _CODE_SCHEMA,
                "message": _text("For people."),
                "details": _LINES,
                "requestId": _text("As in the header."),
                "timestamp": _text("When it was told, in UTC.", format="date-time"),
            },
            "required": ["code", "message", "details", "requestId", "timestamp"],
        }
    },
    "required": ["error"],
}

_PROBLEM_SCHEMA: Json = {
    "type": "object",
    "title": _PROBLEM,
    "description": "RFC 9457.",
    "properties": {
        "type": _text("What kind of problem it is.", format="uri-reference"),
        "title": _text("The kind in words; the same for each occurrence."),
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _text("For people."),
        "instance": _text("The request, `urn:uuid:` and its id.", format="uri-reference"),
        "code": _CODE_SCHEMA,
        "errors": _LINES,
    },
    "required": ["type", "title", "status", "detail", "instance", "code", "errors"],
}


def describe(document: Json, schemas: ErrorSchemas) -> None:
    """Put errors into a document of FastAPI's, in place: what `raises` marked, and what follows from a body or parameters.

    An operation gets the errors that were named, 400 and 415 where it has a body, 422 where it has a body or parameters,
    and `default`. Responses that the application described itself stay as they are.
    """
    for operation in _operations(document):
        _describe(operation, schemas)
    components: Json = document.setdefault("components", {})
    ours = schemas.components()
    for part in ("schemas", "headers"):
        components[part] = {**components.get(part, {}), **ours[part]}
    components.setdefault("responses", {})["Error"] = ours["responses"]["Error"]
    text = json.dumps(document)
    for name in ("HTTPValidationError", "ValidationError"):
        if f'"#/components/schemas/{name}"' not in text:
            components["schemas"].pop(name, None)
            text = json.dumps(document)


_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


def _operations(document: Json) -> Iterable[Json]:
    for paths in (document.get("paths", {}), document.get("webhooks", {})):
        for item in paths.values():
            yield from _of_item(item)


def _of_item(item: Json) -> Iterable[Json]:
    for method, operation in item.items():
        if method in _METHODS:
            yield operation
            for callback in operation.get("callbacks", {}).values():
                for inner in callback.values():
                    yield from _of_item(inner)


def _describe(operation: Json, schemas: ErrorSchemas) -> None:
    responses: Json = operation.setdefault("responses", {})
    marked: dict[str, list[Json]] = {
        status: list(response[MARK]) for status, response in responses.items() if MARK in response
    }
    if "HTTPValidationError" in json.dumps(responses.get("422", "")):
        del responses["422"]
    body, parameters = "requestBody" in operation, bool(operation.get("parameters"))
    for kind in AUTOMATIC:
        if body or (parameters and kind is ValidationFailed):
            status = str(kind.status)
            known = (
                marked.setdefault(status, [])
                if status not in responses or status in marked
                else None
            )
            if known is not None and entry(kind) not in known:
                known.append(entry(kind))
    for status, entries in marked.items():
        responses[status] = schemas.response(int(status), entries)
    responses.setdefault("default", {"$ref": "#/components/responses/Error"})
