"""The client side: a remote error response, back as the error that was raised there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.errors import (
    AppError,
    Conflict,
    Errors,
    InvalidArgument,
    Locked,
    MissingExtra,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
    from_response,
    raise_for_error,
)
from backendkit.errors.client import MOST_BYTES


class RowFull(Conflict):
    """For these tests; parameters in its message."""

    code = "TEST_ROW_FULL"
    message = "Row {row} of {hall} is full"


class Picky(Conflict):
    """For these tests; takes what it needs by position."""

    code = "TEST_PICKY"
    message = "No {thing}"

    def __init__(self, thing: str) -> None:
        super().__init__(f"picky about {thing}", thing=thing)
        self.thing = thing


class Refusing(Conflict):
    """For these tests; cannot be made."""

    code = "TEST_REFUSING"
    message = "{a}"

    def __init__(self) -> None:
        raise RuntimeError("never")


class Elsewhere(Conflict):
    """For these tests; making one gives something else."""

    code = "TEST_ELSEWHERE"

    def __new__(cls, *_: Any, **__: Any) -> Any:  # noqa: D102 - see above
        return NotFound()


JSON = {"Content-Type": "application/json"}
ERRORS = Errors(RowFull, Picky, Refusing, Elsewhere, clock=ManualClock())
TYPED = Errors(RowFull, Picky, clock=ManualClock(), params=True)


def answer(status: int, code: str = "NOT_FOUND", **more: Any) -> tuple[int, dict[str, str], bytes]:
    """Return a response with an envelope."""
    return status, JSON, json.dumps({"error": {"code": code, "message": "m", **more}}).encode()


def made(response: Any, **options: Any) -> AppError:
    """Return the error of a response, which has one."""
    error = from_response(response, ERRORS, **options)
    assert error is not None
    return error


def through(error: AppError, server: Errors, accept: str | None = None) -> AppError:
    """Send an error over and read it back."""
    back = from_response(server.render(error, accept, "req-1"), ERRORS)
    assert back is not None
    return back


FORMATS = ("application/json", "application/problem+json")


@pytest.mark.parametrize("accept", FORMATS)
def test_an_error_comes_back_as_it_was(accept: str) -> None:
    """Class, parameters, lines and the time to wait."""
    details = [{"field": "row", "issue": "Full", "code": "FULL", "pointer": "/row", "in": "body"}]
    error = RowFull(row="7", hall="B", details=details, retry_after=9)
    back = through(error, ERRORS, accept)
    assert type(back) is RowFull
    assert back.params == {"row": "7", "hall": "B"}
    assert back.details == details
    assert back.retry_after == 9
    assert back.text == "Row 7 of B is full"
    assert str(back) == "remote answered 409 TEST_ROW_FULL, request req-1"


@pytest.mark.parametrize("accept", FORMATS)
def test_parameters_keep_their_types_if_they_are_sent(accept: str) -> None:
    """`Errors(params=True)` is for services whose clients compute with them."""
    back = through(RowFull(row=7, hall=None), TYPED, accept)
    assert back.params == {"row": 7, "hall": None}
    assert back.text == "Row 7 of None is full"


def test_parameters_that_no_message_names_never_travel() -> None:
    """They are for the logs of the service."""
    rendered = TYPED.render(RowFull(row=7, hall="B", secret="s3"))
    assert b"s3" not in rendered.body
    assert b'"params":{"row":7,"hall":"B"}' in rendered.body


def test_the_default_body_has_no_such_member() -> None:
    """Its shape was promised."""
    body = json.loads(ERRORS.render(RowFull(row=7, hall="B")).body)
    assert set(body["error"]) == {"code", "message", "details", "requestId", "timestamp"}


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**90), 10**90),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=50),
)


@given(
    st.fixed_dictionaries({}, optional={"row": scalars, "hall": scalars}), st.sampled_from(FORMATS)
)
def test_any_typed_parameters_make_the_round_trip(params: dict[str, Any], accept: str) -> None:
    """Same class, same parameters, same words."""
    error = RowFull(**params)
    back = through(error, TYPED, accept)
    assert type(back) is RowFull
    assert back.params == params
    assert {n: type(v) for n, v in back.params.items()} == {n: type(v) for n, v in params.items()}
    assert back.text == error.text


words = st.text(st.characters(codec="utf-8"), max_size=20)


@given(words, words, st.sampled_from(FORMATS))
def test_texts_make_the_round_trip_in_the_message_alone(row: str, hall: str, accept: str) -> None:
    """Or, where the message can be read in two ways, are left out; the words are the same in any case."""
    error = RowFull(row=row, hall=hall)
    back = through(error, ERRORS, accept)
    assert type(back) is RowFull
    assert back.text == error.text
    assert back.params in ({"row": row, "hall": hall}, {})
    if " of " not in f"{row} of {hall}".replace(" of ", "", 1) and " of " not in row + hall:
        assert back.params or "of" in row + hall


@given(st.lists(st.dictionaries(st.sampled_from(["field", "issue", "code"]), words, min_size=1)))
def test_lines_make_the_round_trip(details: list[dict[str, str]]) -> None:
    """A form shows them beside its fields."""
    assert through(ValidationFailed(details=details), ERRORS).details == details


@pytest.mark.parametrize(
    "kind", [kind for kind in ERRORS.kinds.values() if kind.__module__.startswith("backendkit")]
)
def test_every_class_of_the_tree_comes_back(kind: type[AppError]) -> None:
    """Save those that are told as an internal error."""
    error = kind.__new__(kind)
    AppError.__init__(error, "reason")
    expected = AppError if issubclass(kind, (InvalidArgument, MissingExtra)) else kind
    assert type(through(error, ERRORS)) is expected


def test_a_message_in_another_language_is_kept() -> None:
    """The class's words in the error would contradict what the service said."""
    server = Errors(
        params=True, messages={"de": {"errors": {"TEST_ROW_FULL": "Reihe {row} {{voll}}"}}}
    )
    rendered = server.render(RowFull(row=7, hall="B"), accept_language="de")
    back = made(rendered)
    assert back.text == "Reihe 7 {voll}"
    assert back.params == {"row": 7, "hall": "B"}
    plain = Errors(messages={"de": {"errors": {"TEST_ROW_FULL": "Reihe {row} {{voll}}"}}})
    back = made(plain.render(RowFull(row=7, hall="B"), accept_language="de"))
    assert back.text == "Reihe 7 {voll}"
    assert back.params == {}


def test_a_class_with_a_constructor_of_its_own_is_made_by_its_parameters() -> None:
    """So that its attributes are there."""
    back = through(Picky("cake"), TYPED)
    assert isinstance(back, Picky)
    assert (back.thing, back.params, back.text) == ("cake", {"thing": "cake"}, "No cake")
    assert back.reason.startswith("remote answered 409")


def test_a_class_that_cannot_be_made_is_made_without_its_constructor() -> None:
    """The caller waits for this class, and for no RuntimeError."""
    back = made(answer(409, "TEST_REFUSING", message="x"))
    assert type(back) is Refusing
    assert back.params == {"a": "x"}


def test_a_class_that_makes_something_else_is_given_up() -> None:
    """Then the status speaks."""
    assert type(made(answer(409, "TEST_ELSEWHERE"))) is Conflict


def test_an_unknown_code_is_kept_on_the_class_of_the_status() -> None:
    """Callers can branch on it without having the class."""
    back = made(answer(409, "NEVER_HEARD", message="Try {this}"))
    assert type(back) is Conflict
    assert (back.code, back.text) == ("NEVER_HEARD", "Try {this}")
    assert made(answer(418, "TEAPOT")).status == 418


def test_a_code_does_not_choose_a_class_of_another_status() -> None:
    """A hostile service must not make a 503 look like a missing record."""
    back = made(answer(503, "NOT_FOUND"))
    assert type(back) is ServiceUnavailable
    assert back.status == 503


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "MISSING_EXTRA", "CROSS_SLOT"])
def test_a_remote_service_cannot_raise_what_means_our_own_fault(code: str) -> None:
    """They are a ValueError or an ImportError as well, which callers catch for other reasons."""
    back = made(answer(500, code))
    assert type(back) is AppError
    assert back.code == code


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, AppError), (401, Unauthorized), (404, NotFound), (500, AppError), (502, UpstreamError),
     (503, ServiceUnavailable), (504, UpstreamTimeout), (429, RateLimited), (423, Locked), (599, AppError)],
)  # fmt: skip
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html><h1>502 Bad Gateway</h1></html>"),
        ("application/json", b'{"detail": "Not found"}'),
        ("application/json", b'{"error": "boom"}'),
        ("application/json", b'{"error": {"code": "lower", "message": "m"}}'),
        ("application/json", b'{"error": {"code": 5}}'),
        ("application/json", b"[]"),
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b'{"error": {"code": "GONE", "message": NaN}}'),
        ("application/json", b'{"error": {"code": "GONE", "x": ' + b"9" * 5000 + b"}}"),
        ("application/json", b'{"error": {"code": "GONE", "x": 1e999}}'),
        ("application/json", b'{"error": {"code": "GONE", "x": ' + b"9" * 200 + b"}}"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":' * 100_000),
        ("application/json", b"\xff\xfe{}"),
        ("text/plain", b'{"error": {"code": "NOT_FOUND", "message": "m"}}'),
        (
            "application/json",
            b'{"error": {"code": "GONE", "message": "' + b"x" * MOST_BYTES + b'"}}',
        ),
    ],
)
def test_a_foreign_body_is_told_by_its_status(
    status: int, kind: type[AppError], content_type: str, body: bytes
) -> None:
    """A proxy's page, another framework's JSON, or rubbish."""
    with pytest.raises(AppError) as caught:
        raise_for_error((status, {"content-type": content_type}, body), ERRORS)
    assert isinstance(caught.value, kind)
    assert caught.value.status == status
    assert caught.value.reason == f"remote answered {status}"


def test_hostile_members_are_dropped() -> None:
    """What is no text is no line; a surrogate that cannot be encoded becomes a mark."""
    body = (
        b'{"error": {"code": "VALIDATION_ERROR", "message": "\\ud800x", "requestId": "a\\nb",'
        b' "details": [5, null, {"field": "\\udfff", "issue": 7, "code": ["x"]}, {"issue": "ok"}],'
        b' "params": {"a": [1], "b": 1}}}'
    )
    back = made((422, JSON, body))
    assert type(back) is ValidationFailed
    assert back.text == "\ufffdx"
    assert back.details == [{"field": "\ufffd"}, {"issue": "ok"}]
    assert back.reason == "remote answered 422 VALIDATION_ERROR"


def test_a_service_cannot_add_parameters() -> None:
    """A class's constructor is called with them; only those that its message names are its own."""
    sent = {
        "row": 7,
        "hall": "B",
        "reason": "x",
        "headers": {"a": "b"},
        "retry_after": 5,
        "evil": 1,
    }
    back = made(answer(409, "TEST_ROW_FULL", params=sent))
    assert type(back) is RowFull
    assert back.params == {"row": 7, "hall": "B"}
    assert (back.headers, back.retry_after) == ({}, None)


def test_a_message_that_is_no_text_leaves_the_classs_own() -> None:
    """And lines that are no list are none."""
    back = made(answer(404, message=5, details={"a": 1}, params=[1]))
    assert (type(back), back.text, back.details, back.params) == (NotFound, "Not found", [], {})


def test_size_is_bounded() -> None:
    """In lines, and in each text."""
    back = made(
        answer(422, "VALIDATION_ERROR", message="x" * 50_000, details=[{"issue": "y"}] * 5000)
    )
    assert len(back.text) == 10_000
    assert len(back.details) == 100
    assert back.status == 422


@pytest.mark.parametrize("status", [100, 200, 204, 301, 304, 399])
def test_what_is_no_error_raises_nothing(status: int) -> None:
    """Whatever its body says."""
    raise_for_error((status, JSON, answer(404)[2]), ERRORS)
    assert from_response((status, JSON, answer(404)[2]), ERRORS) is None


@pytest.mark.parametrize(
    "response",
    [
        (99, {}, b""),
        (1000, {}, b""),
        (-404, {}, b""),
        ("404", {}, b""),
        (None, {}, b""),
        (float("nan"), {}, b""),
        (404, None, b""),
        (404, {}, None),
        (404, {}),
        (),
        object(),
        SimpleNamespace(status_code=404),
        SimpleNamespace(status_code="404", headers={}, content=b""),
    ],
)
def test_what_is_no_response_is_an_upstream_error(response: Any) -> None:
    """Never anything but an AppError, so that one `except` is enough."""
    with pytest.raises(UpstreamError):
        raise_for_error(response, ERRORS)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("7", None, 7),
        (" 7 ", None, 7),
        ("0", None, 0),
        ("9999999999", None, 366 * 24 * 3600),
        ("1.5", None, None),
        ("-1", None, None),
        ("99999999999", None, None),
        ("soon", None, None),
        ("", None, None),
        ("\u0667", None, None),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 10),
        ("Wednesday, 21-Oct-26 07:28:10 GMT", "Wed Oct 21 07:28:00 2026", 10),
        ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("Wed, 21 Oct 9999 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 366 * 24 * 3600),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "rubbish", 21),
        ("Wed, 21 Oct 2026 07:28:10 GMT", None, 21),
        ("Wed, 99 Foo 2026 07:28:10 GMT", None, None),
        ("Wed, 21 Oct 99999999999 07:28:10 GMT", None, None),
        ("Wed, 21 Oct 2026 07:28:10 GMT" + " " * 100 + "x", None, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(
    value: str, date: str | None, seconds: float | None
) -> None:
    """A date is reckoned from the response's own clock, if it shows one: ours may be wrong."""
    clock = ManualClock(wall_us=1_792_567_669_000_000)  # 2026-10-21 07:27:49
    headers = {"Retry-After": value, **({"Date": date} if date else {})}
    error = made((503, headers, b""), clock=clock)
    assert error.retry_after == seconds


def test_without_a_clock_the_machines_counts() -> None:
    """A date long past is no time to wait."""
    assert made((503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")).retry_after == 0


def test_headers_may_be_pairs_and_bytes() -> None:
    """As ASGI has them; the first of a name counts, and what is no text is left out."""
    pairs = [
        (b"Content-Type", b"application/json"),
        (5, 6),
        ("Retry-After", "3"),
        ("retry-after", "4"),
    ]
    error = made((404, pairs, answer(404)[2]))
    assert type(error) is NotFound
    assert error.retry_after == 3
    assert error.text == "m"


def test_no_header_of_the_remote_service_is_passed_on() -> None:
    """A cookie or a location of another service is no business of ours."""
    assert made((404, {"Set-Cookie": "a=b"}, b"")).headers == {}


def test_without_a_registry_all_classes_of_modules_count() -> None:
    """A script has no registry."""
    error = from_response(ERRORS.render(RowFull(row="7", hall="B")))
    assert type(error) is RowFull


def test_a_code_of_two_classes_means_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two applications in one process may both have it."""

    class Twin(Conflict):
        code = "TEST_ROW_FULL"

    Twin.__qualname__ = "Twin"
    error = from_response(answer(409, "TEST_ROW_FULL"))
    assert type(error) is Conflict
    assert error.code == "TEST_ROW_FULL"
    Twin.__qualname__ = "<locals>.Twin"


def test_httpx_is_read() -> None:
    """A response that has been read, as the client returns it."""
    status, headers, body = ERRORS.render(RowFull(row="7", hall="B"))
    with pytest.raises(RowFull) as caught:
        raise_for_error(httpx.Response(status, headers=list(headers), content=body), ERRORS)
    assert caught.value.params == {"row": "7", "hall": "B"}
    raise_for_error(httpx.Response(200, content=b"fine"), ERRORS)


def test_an_endless_httpx_stream_is_not_read_to_its_end() -> None:
    """A hostile service may send for ever."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 65536

    error = made(httpx.Response(502, headers=JSON, content=endless()))
    assert type(error) is UpstreamError
    assert sent <= MOST_BYTES / 65536 + 2


def test_an_asynchronous_stream_is_told_by_its_status() -> None:
    """It cannot be read here; `await response.aread()` first."""

    async def body() -> Any:
        yield b""

    assert type(made(httpx.Response(502, content=body()))) is UpstreamError


def test_requests_is_read() -> None:
    """Read or still streaming."""
    status, headers, body = ERRORS.render(RowFull(row="7", hall="B"))
    response = requests.Response()
    response.status_code = status
    response.headers.update(dict(headers))
    response.raw = io.BytesIO(body)
    assert type(made(response)) is RowFull


def test_a_body_as_an_attribute_is_read() -> None:
    """Of any library that has what both have."""
    response = SimpleNamespace(status_code=404, headers=JSON, content=answer(404)[2])
    assert type(made(response)) is NotFound


def test_neither_library_is_imported() -> None:
    """Whoever uses one has it; nobody needs both."""
    program = (
        "import sys\nfrom backendkit.errors import raise_for_error, NotFound\n"
        "try: raise_for_error((404, {}, b''))\nexcept NotFound: pass\n"
        "print({'httpx', 'requests', 'email', 'pydantic', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(
        ["NOT_FOUND", "TEST_ROW_FULL", "TEST_PICKY", "TEST_REFUSING", "INVALID_ARGUMENT", "\ud800", "{0}", "{row"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["error", "code", "message", "details", "params", "errors", "detail", "row", "thing", "field"]),
        inner, max_size=6,
    ),
    max_leaves=20,
)  # fmt: skip
envelopes = st.builds(
    lambda code, **more: {"error": {"code": code, **more}},
    st.sampled_from(["NOT_FOUND", "TEST_ROW_FULL", "TEST_PICKY", "TEST_REFUSING", "UNAUTHORIZED", "X"]),
    message=json_like, details=json_like, params=json_like, requestId=json_like,
)  # fmt: skip


@given(
    st.integers() | st.sampled_from([401, 404, 409, 500]) | json_like,
    st.dictionaries(
        st.sampled_from(["content-type", "Retry-After", "date", "x"]),
        st.text(max_size=30)
        | st.sampled_from(["application/json", "a/b", "Wed, 21 Oct 2026 07:28:10 GMT"]),
    )
    | st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=3)
    | json_like,
    st.binary(max_size=100) | (json_like | envelopes).map(lambda value: json.dumps(value).encode()),
)
def test_whatever_a_service_sends_is_an_app_error_or_nothing(
    status: Any, headers: Any, body: Any
) -> None:
    """And can be told to our own clients in turn."""
    error = from_response((status, headers, body), ERRORS, clock=ManualClock())
    if error is None:
        assert 100 <= status < 400
        return
    assert isinstance(error, AppError)
    assert 400 <= ERRORS.render(error).status <= 599
    json.loads(ERRORS.render(error).body)
    str(error).encode()
    assert isinstance(status, (int, float)) or isinstance(error, UpstreamError)
