"""What every adapter answers, as data: requests, and what must come back.

The application under test has six routes, each a line or two in any framework:

| route | does |
|---|---|
| `GET /ok` | answers 200 and JSON `{"requestId": context.request_id()}` |
| `GET /raise/{name}` | calls `raise_named(name)` |
| `POST /orders` | reads its JSON body into `Order`, by `read_order` or by the framework's own means; answers 200 `{"sku": order.sku}` |
| `GET /framework/{status}` | raises the framework's own error of that status, without a text |
| `GET /text` | answers 404, `text/plain`, `my own words` |
| `GET /stream` | answers 200, `text/plain`: first `one`, then the iterator raises `ValueError("late")` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from backendkit.errors import (
    Conflict,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    UpstreamTimeout,
    validation_error,
)
from backendkit.http.body import parse_typed
from backendkit.testing.answers import Answer

SECRET = "hunter2"  # noqa: S105 - what must never come back
"""Stands in exceptions, and in bodies that are refused; in no answer."""

REQUEST_ID = "conformance-1"
"""What the client names its requests."""


class SeatOccupied(Conflict):
    """An application's own error. Carries `seat`."""

    code = "CONFORMANCE_SEAT_OCCUPIED"
    message = "Seat {seat} is occupied"


class Order(BaseModel):
    """What is posted."""

    sku: str = Field(min_length=2)
    count: int = Field(default=1, ge=1, le=9)


def raise_named(name: str) -> None:
    """Raise what `name` stands for."""
    raise {
        "own": SeatOccupied(seat="12A"),
        "limited": RateLimited(retry_after=3),
        "unavailable": ServiceUnavailable(f"db://user:{SECRET}@host"),
        "timeout": UpstreamTimeout("billing"),
        "group": ExceptionGroup("both", [SeatOccupied(seat="1")]),
        "mixed": ExceptionGroup("both", [SeatOccupied(seat="1"), KeyError(SECRET)]),
        "surrogate": NotFound(details=[{"field": "\ud800", "issue": "x"}]),
    }.get(name, ValueError(f"password={SECRET}"))


def read_order(raw: bytes, content_type: str | None) -> Order:
    """Return a request's body as an `Order`, for a framework without a way of its own.

    Raises:
        UnsupportedMediaType: it says that it is not JSON.
        MalformedBody: it is not JSON.
        ValidationFailed: it does not fit.
    """
    value = parse_typed(raw, content_type)
    try:
        return Order.model_validate(value)
    except ValidationError as error:
        raise validation_error(error.errors(include_url=False), place="body", body=value) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One request and what must come back.

    Attributes:
        name: what it shows.
        method: of the request.
        path: of the request.
        headers: of the request.
        body: of the request.
        status: of the answer.
        code: of the error; None: the answer is no error of ours.
        details: what each line has, in order; None: whatever.
        answers: headers of the answer and their values; None: there is no such header.
        problem: whether the error is told as a problem (RFC 9457), else as the envelope.
        needs: what an adapter must have for it: `framework` (errors of the framework's own), `body` (JSON bodies),
            `layers` (security headers and the pages for probes).
    """

    name: str
    method: str = "GET"
    path: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    status: int
    code: str | None = None
    details: tuple[Mapping[str, str], ...] | None = None
    answers: Mapping[str, str | None] = field(default_factory=dict[str, "str | None"])
    problem: bool = False
    needs: str = ""

    @property
    def sends(self) -> dict[str, str]:
        """The headers of the request, the request's id among them."""
        return {"X-Request-ID": REQUEST_ID, **self.headers}

    def faults(self, answer: Answer) -> Iterator[str]:
        """Say how an answer differs from what it must be."""
        if answer.status != self.status:
            yield f"status {answer.status}, not {self.status}: {answer.body[:200]!r}"
            return
        if SECRET.encode() in answer.body:
            yield f"the answer tells a secret: {answer.body[:200]!r}"
        wanted = {"x-request-id": REQUEST_ID, **self.answers}
        for name, value in wanted.items():
            if answer.header(name) != value:
                yield f"header {name} is {answer.header(name)!r}, not {value!r}"
        if self.code is not None:
            yield from self._of_error(answer)

    def _of_error(self, answer: Answer) -> Iterator[str]:
        kind = "application/problem+json" if self.problem else "application/json"
        if answer.header("content-type") != kind:
            yield f"Content-Type is {answer.header('content-type')!r}, not {kind!r}"
            return
        if self.method == "HEAD":
            return
        body: Any = answer.json()
        error: Any = body if self.problem else body.get("error", {})
        members = _PROBLEM if self.problem else _ENVELOPE
        if list(error) != members:
            yield f"the error has {list(error)}, not {members}"
            return
        if error["code"] != self.code:
            yield f"code {error['code']!r}, not {self.code!r}"
        if not self.problem and error["requestId"] != REQUEST_ID:
            yield f"requestId is {error['requestId']!r}"
        lines: Any = error["errors" if self.problem else "details"]
        if self.details is not None:
            yield from _of_details(lines, self.details)


_ENVELOPE = ["code", "message", "details", "requestId", "timestamp"]
_PROBLEM = ["type", "title", "status", "detail", "instance", "code", "errors"]
_JSON = MappingProxyType({"Content-Type": "application/json"})
_WANTS_PROBLEM = MappingProxyType({"Accept": "application/problem+json, */*;q=0.1"})


def _of_details(
    lines: list[Mapping[str, str]], wanted: tuple[Mapping[str, str], ...]
) -> Iterator[str]:
    if len(lines) != len(wanted):
        yield f"{len(lines)} details, not {len(wanted)}: {lines!r}"
        return
    for line, one in zip(lines, wanted, strict=True):
        wrong = {key: value for key, value in one.items() if line.get(key) != value}
        if wrong:
            yield f"a detail is {line!r}, and lacks {wrong!r}"


def _raises(what: str, name: str, status: int, code: str, **more: Any) -> Scenario:
    return Scenario(name=what, path=f"/raise/{name}", status=status, code=code, **more)


def _posts(what: str, body: bytes, status: int, code: str | None, **more: Any) -> Scenario:
    more = {"headers": _JSON, **more}
    return Scenario(
        name=what,
        method="POST",
        path="/orders",
        body=body,
        status=status,
        code=code,
        needs="body",
        **more,
    )


_SECURE = MappingProxyType[str, str | None](
    {
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
    }
)
_OWN = "CONFORMANCE_SEAT_OCCUPIED"
_NONE: tuple[Mapping[str, str], ...] = ()

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="a success carries the id", path="/ok", status=200),
    Scenario(
        name="an unsound id is replaced", path="/ok", status=200,
        headers={"X-Request-ID": REQUEST_ID + ", a b"},
    ),
    Scenario(
        name="security headers on a success", path="/ok", status=200, answers=_SECURE, needs="layers",
    ),
    _raises("security headers on an unknown error", "unknown", 500, "INTERNAL_ERROR", needs="layers",
            answers={**_SECURE, "cache-control": "no-store"}),
    Scenario(
        name="security headers over https only where they belong", path="/nowhere", status=404, needs="layers",
        answers={**_SECURE, "strict-transport-security": None},
    ),
    Scenario(name="liveness", path="/healthz", status=200, answers=_SECURE, needs="layers"),
    Scenario(
        name="readiness", path="/readyz", status=200, answers={"cache-control": "no-store"}, needs="layers",
    ),
    _raises("an error of the application", "own", 409, _OWN, details=_NONE, answers={"vary": "Accept"}),
    _raises("as a problem, if the client prefers that", "own", 409, _OWN, problem=True, headers=_WANTS_PROBLEM),
    _raises("Retry-After", "limited", 429, "RATE_LIMITED", answers={"retry-after": "3"}),
    _raises("something needed is down", "unavailable", 503, "SERVICE_UNAVAILABLE"),
    _raises("an upstream is slow", "timeout", 504, "UPSTREAM_TIMEOUT"),
    _raises("a group of one", "group", 409, _OWN),
    _raises("a group with an unknown error", "mixed", 500, "INTERNAL_ERROR", details=_NONE),
    _raises("an unknown error", "unknown", 500, "INTERNAL_ERROR", details=_NONE),
    _raises("an unknown error as a problem", "unknown", 500, "INTERNAL_ERROR", problem=True, headers=_WANTS_PROBLEM),
    _raises("text that UTF-8 cannot say", "surrogate", 404, "NOT_FOUND"),
    _raises("the headers of an error without its body", "own", 409, _OWN, method="HEAD"),
    Scenario(name="no such path", path="/nowhere", status=404, code="NOT_FOUND", details=_NONE, needs="framework"),
    Scenario(
        name="no such path, as a problem", path="/nowhere", status=404, code="NOT_FOUND", problem=True,
        headers=_WANTS_PROBLEM, needs="framework",
    ),
    Scenario(
        name="no such method", method="DELETE", path="/orders", status=405, code="METHOD_NOT_ALLOWED",
        needs="framework",
    ),
    Scenario(
        name="the framework's own error", path="/framework/403", status=403, code="FORBIDDEN", needs="framework",
    ),
    Scenario(name="an answer of the application's own", path="/text", status=404),
    _posts("a body that fits", b'{"sku": "ab"}', 200, None),
    _posts(
        "fields that are wrong", b'{"sku": "x", "count": 0}', 422, "VALIDATION_ERROR",
        details=(
            {"field": "sku", "code": "TOO_SHORT", "pointer": "/sku", "in": "body"},
            {"field": "count", "code": "TOO_SMALL", "pointer": "/count", "in": "body"},
        ),
    ),
    _posts("a field that is missing", b'{"password": "hunter2"}', 422, "VALIDATION_ERROR",
           details=({"field": "sku", "code": "REQUIRED"},)),
    _posts("broken JSON", b'{"sku": "hunter2', 400, "MALFORMED_BODY"),
    _posts("JSON that only Python takes", b'{"sku": "ab", "count": NaN}', 400, "MALFORMED_BODY"),
    _posts("text that is not UTF-8", b'{"sku": "\xff"}', 400, "MALFORMED_BODY"),
    _posts("a number of 5,000 digits", b'{"sku": ' + b"9" * 5_000 + b"}", 400, "MALFORMED_BODY"),
    _posts("nesting without end", b"[" * 100_000, 400, "MALFORMED_BODY"),
    _posts("another media type", b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", headers={"Content-Type": "text/plain"}),
)  # fmt: skip
"""What `check_adapter` asks. The order does not matter."""
