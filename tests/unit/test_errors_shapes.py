"""Rendering: total, whatever is raised, in whatever shape and language; and the shapes themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.clock import ManualClock
from backendkit.errors import (
    AppError,
    Conflict,
    Errors,
    HttpError,
    InvalidArgument,
    NotFound,
    RateLimited,
    Rendered,
    Shape,
    Told,
    Unauthorized,
    ValidationFailed,
    failure,
    success,
)

CLOCK = ManualClock(wall_us=1_763_520_480_000_000)


def flat(told: Told) -> Mapping[str, object]:
    """The first shape that applications have promised."""
    return {"status_code": told.status, "message": told.message, "data": None}


def listed(told: Told) -> Mapping[str, object]:
    """The second."""
    first = {
        "code": told.code,
        "title": told.message,
        "params": told.params,
        "retry": told.retryable,
    }
    return {"errors": [first, *told.details]}


def local(name: str, base: type[AppError], **body: Any) -> type[AppError]:
    """Return a class that belongs to nobody else."""
    return type(name, (base,), {"__qualname__": f"<locals>.{name}", **body})


def test_the_envelope_is_exact() -> None:
    """To the byte: clients were promised it."""
    error = ValidationFailed(details=[{"field": "email", "issue": "Must be valid email address"}])
    error.message = "Invalid email format"
    assert Errors(clock=CLOCK).render(error, None, "abc123") == Rendered(
        422,
        (("Content-Type", "application/json"), ("Content-Length", "194"), ("Vary", "Accept")),
        b'{"error":{"code":"VALIDATION_ERROR","message":"Invalid email format","details":[{"field":"email",'
        b'"issue":"Must be valid email address"}],"requestId":"abc123","timestamp":"2025-11-19T02:48:00Z"}}',
    )


def test_the_problem_is_exact() -> None:
    """RFC 9457, with `code` and `errors` beside it."""
    errors = Errors(format="problem", docs_url="https://x.dev/errors#{code}", clock=CLOCK)
    rendered = errors.render(NotFound(), None, "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert dict(rendered.headers)["Content-Type"] == "application/problem+json"
    assert json.loads(rendered.body) == {
        "type": "https://x.dev/errors#NOT_FOUND",
        "title": "Not found",
        "status": 404,
        "detail": "Not found",
        "instance": "urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e",
        "code": "NOT_FOUND",
        "errors": [],
    }
    plain = json.loads(Errors(format="problem").render(NotFound(), None, "abc").body)
    assert (plain["type"], plain["instance"]) == ("urn:error:NOT_FOUND", "abc")


def test_accept_chooses_the_format() -> None:
    """And is remembered, within bounds."""
    errors = Errors()
    for accept in ("application/problem+json", "application/problem+json, */*;q=0.1"):
        for _ in range(2):
            assert (
                dict(errors.render(NotFound(), accept).headers)["Content-Type"]
                == accept.split(",")[0]
            )
    for number in range(600):
        errors.render(NotFound(), f"a/b;q=0.{number}")
    errors.render(NotFound(), "a/b," * 80)
    assert len(errors._accepted) <= 256


def test_the_request_id_is_that_of_the_request_at_hand() -> None:
    """Unless it is given."""
    request = context.Request("r-1")
    token = context.enter(request)
    try:
        assert json.loads(Errors().render(NotFound()).body)["error"]["requestId"] == "r-1"
        assert Errors().tell(NotFound(), "r-2").request_id == "r-2"
    finally:
        context.leave(request, token)
    assert Errors().tell(NotFound()).request_id == ""


def test_headers_are_those_that_can_be_sent() -> None:
    """No line can be broken, no body mislabelled."""
    error = RateLimited(
        retry_after=1.2,
        headers={
            "X-A": " b ",
            "Content-Length": "5",
            "Retry-After": "9",
            "B\n": "c",
            "X-C": "d\r\ne: f",
        },
    )
    assert Errors(format="envelope").render(error).headers[2:] == (
        ("Retry-After", "2"),
        ("X-A", "b"),
    )
    assert Errors(format="envelope").render(RateLimited(retry_after=float("nan"))).headers[2:] == ()
    assert dict(Errors().render(Unauthorized()).headers)["WWW-Authenticate"] == "Bearer"


def test_foreign_exceptions_go_by_their_nearest_base() -> None:
    """A rule for LookupError is one for KeyError, until that has its own."""
    errors = Errors()
    errors.map(LookupError, NotFound)
    errors.map(LookupError, Conflict, replace=False)
    resolved = errors.resolve(KeyError("k"))
    assert type(resolved) is NotFound
    assert resolved.reason == "'k'"
    errors.map(KeyError, lambda exc: Conflict(str(exc)))
    assert type(errors.resolve(KeyError("k"))) is Conflict
    assert type(errors.resolve(IndexError())) is NotFound
    errors.map(KeyError, lambda _: None)
    unknown = errors.resolve(KeyError("secret"))
    assert type(unknown) is AppError
    assert isinstance(unknown.__cause__, KeyError)


def test_a_rule_that_fails_is_told_as_unknown() -> None:
    """With both exceptions for the log."""
    errors = Errors()
    errors.map(KeyError, lambda _: 1 / 0)  # type: ignore[arg-type,return-value]  # foreign code, wrong in every way
    error = errors.resolve(KeyError("k"))
    assert type(error) is AppError
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert isinstance(error.__cause__.__cause__, KeyError)


def test_classes_made_at_run_time_do_not_fill_memory() -> None:
    """Some libraries make an exception class per call."""
    errors = Errors()
    for number in range(1100):
        errors.resolve(type(f"Made{number}", (Exception,), {})())
    assert len(errors._rules) <= 1024


@pytest.mark.parametrize(
    "body",
    [
        {"code": "lower"},
        {"code": ""},
        {"code": 5},
        {"code": "A" * 65},
        {"code": "TEST_A", "status": 99},
        {"code": "TEST_A", "status": 600},
        {"code": "TEST_A", "status": "x"},
        {"code": "NOT_FOUND"},
        {"code": "INTERNAL_ERROR"},
        {"code": property(lambda _: "x")},
    ],
)
def test_a_class_that_is_wrong_is_refused(body: dict[str, Any]) -> None:
    """When the registry is built, with the name of the class."""
    with pytest.raises(InvalidArgument, match="Wrong"):
        Errors(local("Wrong", AppError, **body))


def test_the_same_class_again_replaces_the_first() -> None:
    """As a reload makes it; the registry hands out the new one."""
    one, two = (local("Again", AppError, code="TEST_AGAIN") for _ in range(2))
    errors = Errors(one, two)
    assert errors.kinds["TEST_AGAIN"] is two
    assert errors.codes["TEST_AGAIN"].endswith(".Again")
    errors.adopt(local("Heir", one))
    assert errors.kinds["TEST_AGAIN"] is two


@pytest.mark.parametrize("form", ["", "json", None])
def test_an_unknown_format_is_refused(form: Any) -> None:
    """By its name."""
    with pytest.raises(InvalidArgument, match="format must be"):
        Errors(format=form)


def test_a_shape_of_ones_own_keeps_everything_else() -> None:
    """Negotiation, headers, ids, validation."""
    errors = Errors(shape=flat, clock=CLOCK)
    rendered = errors.render(RateLimited(retry_after=3), "application/json", "r")
    assert rendered.body == b'{"status_code":429,"message":"Too many requests","data":null}'
    assert dict(rendered.headers) == {
        "Content-Type": "application/json",
        "Content-Length": str(len(rendered.body)),
        "Vary": "Accept",
        "Retry-After": "3",
    }
    problem = errors.render(NotFound(), "application/problem+json")
    assert json.loads(problem.body)["type"] == "urn:error:NOT_FOUND"


def test_a_shape_with_a_list_of_errors() -> None:
    """Parameters that the message names are at hand; others are not."""

    class Full(Conflict):
        code = "TEST_FULL"
        message = "{what} is full"
        retryable = True

    details = [{"field": "a", "issue": "b"}]
    body = Errors(Full, shape=listed).render(Full(what=b"x", secret=1, details=details)).body
    assert json.loads(body) == {
        "errors": [
            {
                "code": "TEST_FULL",
                "title": "b'x' is full",
                "params": {"what": "b'x'"},
                "retry": True,
            },
            {"field": "a", "issue": "b"},
        ]
    }


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (True, True),
        (None, None),
        (7, 7),
        (1.5, 1.5),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (10**99, 10**99),
        (10**400, "1" + "0" * 400),
        (10**5000, "int"),  # Python refuses to write it
        ([1], "[1]"),
        ("\ud800", "\ufffd"),
    ],
    ids=list("abcdefghijk"),
)
def test_a_parameter_is_sent_as_json_has_it(value: object, sent: object) -> None:
    """What JSON, or a reader of it, may not have becomes text, and the body stays what it is."""

    class Valued(Conflict):
        code = "TEST_VALUED"
        message = "{value}"

    body = json.loads(Errors(Valued, params=True).render(Valued(value=value)).body)
    assert body["error"]["params"] == {"value": sent}
    assert set(body["error"]) == {"code", "message", "details", "requestId", "timestamp", "params"}


def test_a_shape_may_have_a_type_of_its_own() -> None:
    """JSON:API has one; a problem of one's own replaces ours."""
    errors = Errors(shape=Shape(listed, "application/vnd.api+json"))
    assert (
        dict(errors.render(NotFound(), "application/vnd.api+json").headers)["Content-Type"]
        == "application/vnd.api+json"
    )
    own = Errors(shape=Shape(flat, "application/problem+json"))
    rendered = own.render(NotFound(), "application/json")
    assert rendered.body.startswith(b'{"status_code":404')
    assert "Vary" not in dict(rendered.headers)


@pytest.mark.parametrize(
    "body",
    [
        lambda _: 1 / 0,
        lambda _: {"a": float("nan")},
        lambda _: {("a",): 1},
        lambda told: told.no_such_thing,
    ],
)
def test_a_shape_that_fails_is_refused_at_once(body: Any) -> None:
    """Not when the first error has to be told."""
    with pytest.raises(InvalidArgument, match="shape must return what JSON can say"):
        Errors(shape=body)


@pytest.mark.parametrize(
    "media_type", ["", "json", "Application/JSON", "a/b; c=d", "a/b\n", "text/html "]
)
def test_a_shape_has_a_plain_type(media_type: str) -> None:
    """It is compared with what clients accept, and goes into a header."""
    with pytest.raises(InvalidArgument, match="media_type"):
        Shape(flat, media_type)


def test_a_shape_that_fails_later_gives_way_to_the_envelope() -> None:
    """An error is told in some shape."""

    def brittle(told: Told) -> object:
        if told.code == "NOT_FOUND":
            raise RuntimeError
        return {"code": told.code}

    rendered = Errors(shape=Shape(brittle, "application/x+json")).render(NotFound(), None, "r")
    assert json.loads(rendered.body)["error"]["code"] == "NOT_FOUND"
    assert dict(rendered.headers)["Content-Type"] == "application/json"


def test_success_has_the_same_members_as_failure() -> None:
    """So that a client reads one shape."""
    assert success([1], pagination={"limit": 10, "next": None}) == {
        "data": [1],
        "error": None,
        "meta": {},
        "pagination": {"limit": 10, "next": None},
    }
    assert success(1, meta={"a": 1})["meta"] == {"a": 1}
    body = json.loads(Errors(shape=failure, clock=CLOCK).render(NotFound(), None, "r").body)
    assert body.keys() == success(None).keys()
    assert body["error"] == {
        "code": "NOT_FOUND",
        "message": "Not found",
        "details": [],
        "requestId": "r",
        "timestamp": "2025-11-19T02:48:00Z",
    }


class Evil:
    """Raises at every touch."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Evil
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError


class EvilStr(str):
    """A text whose text is something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return EvilStr("x")

    def __getitem__(self, _: Any) -> Any:
        return 5


class EvilInt(int):
    """A number that cannot be compared."""

    def __ge__(self, _: object) -> bool:
        raise RuntimeError

    def __le__(self, _: object) -> bool:
        raise RuntimeError


class EvilDict(dict[str, str]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        """Not these."""
        raise RuntimeError


class EvilList(list[Any]):
    """A list that cannot be read."""

    def __getitem__(self, _: Any) -> Any:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError


CYCLE: list[Any] = []
CYCLE.append(CYCLE)

anything = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=5),
    st.builds(Evil),
    st.builds(EvilStr, st.text(max_size=5)),
    st.builds(EvilInt, st.integers(400, 600)),
    st.just(EvilDict(a="b")),
    st.just(EvilList([1])),
    st.just([EvilDict(a="b"), EvilList([1]), 5, {"a": EvilStr("b"), 5: CYCLE}]),
    st.just({"a": {"b": CYCLE}}),
    st.just(CYCLE),
    st.just("\ud800"),
    st.just("x\r\ny"),
)
ATTRIBUTES = (
    "code",
    "status",
    "message",
    "details",
    "params",
    "headers",
    "retry_after",
    "retryable",
    "reason",
)

REGISTRIES = {
    "envelope": Errors(params=True),
    "plain": Errors(),
    "flat": Errors(shape=flat),
    "listed": Errors(shape=listed),
    "failure": Errors(shape=failure),
    "german": Errors(
        params=True,
        messages={"de": {"errors": {"NOT_FOUND": "Weg"}, "issues": {"REQUIRED": "Fehlt"}}},
    ),
}


@given(
    st.dictionaries(st.sampled_from(ATTRIBUTES), anything),
    st.sampled_from([AppError, NotFound, ValidationFailed]),
    st.sampled_from(sorted(REGISTRIES)),
    st.sampled_from([None, "application/problem+json", "x"]),
    st.sampled_from([None, "de", "\ud800"]),
)
def test_whatever_an_error_is_made_of_it_can_be_told(
    attributes: dict[str, Any],
    kind: type[AppError],
    name: str,
    accept: str | None,
    language: str | None,
) -> None:
    """The last line of defence has nobody behind it."""
    error = kind()
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    rendered = REGISTRIES[name].render(error, accept, "r", accept_language=language)
    assert type(rendered.status) is int
    assert 400 <= rendered.status <= 599
    json.loads(rendered.body.decode())
    headers = dict(rendered.headers)
    assert headers["Content-Length"] == str(len(rendered.body))
    for header, value in rendered.headers:
        assert header.isascii()
        assert not set("\r\n\0") & set(header + value)


class Property(AppError):
    """For these tests; nothing of it can be read."""

    code = "TEST_PROPERTY"

    def __getattribute__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            raise RuntimeError(name)
        return super().__getattribute__(name)


def test_an_error_of_which_nothing_can_be_read_is_told() -> None:
    """As an internal error."""
    for registry in REGISTRIES.values():
        assert registry.render(Property.__new__(Property)).status == 500


@pytest.mark.parametrize(
    "exc", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), KeyError("dsn=secret")]
)
def test_what_nobody_has_foreseen_says_nothing(exc: BaseException) -> None:
    """Neither its text nor its class."""
    rendered = Errors().render(exc)
    assert rendered.status == 500
    assert b"secret" not in rendered.body
    assert type(exc).__name__.encode() not in rendered.body


@pytest.mark.parametrize("details", [EvilList([1]), [EvilDict(a="b")], 5, Evil()], ids=list("abcd"))
def test_details_that_cannot_be_read_are_left_out(details: Any) -> None:
    """The rest of the error is told."""
    error = NotFound(details=())
    error.details = details
    for name in ("envelope", "failure"):
        told = json.loads(REGISTRIES[name].render(error).body)["error"]
        assert (told["code"], told["details"]) == ("NOT_FOUND", [])


def test_an_http_error_keeps_what_it_was_given() -> None:
    """Statuses for which there is no class."""
    rendered = Errors().render(HttpError(418, "TEAPOT", "I am a {teapot}"))
    assert rendered.status == 418
    assert json.loads(rendered.body)["error"]["message"] == "I am a {teapot}"
