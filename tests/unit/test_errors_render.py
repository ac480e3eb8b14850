"""`Errors`: what exists, what means what, and a `render` that nothing can break."""

import copy
import enum
import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
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
    InvalidArgument,
    MissingExtra,
    NotFound,
    RateLimited,
    Rendered,
    StoreFull,
    TokenExpired,
    Unauthorized,
    Unprocessable,
    UpstreamTimeout,
    ValidationFailed,
    from_status,
)

START = datetime(2025, 11, 19, 2, 48, tzinfo=UTC)


class SeatTaken(Conflict):
    """An application's error, in three lines."""

    code = "SEAT_TAKEN"
    message = "Seat {seat} is taken"


@pytest.fixture
def errors() -> Errors:
    """Return a registry whose clock stands still."""
    return Errors(clock=ManualClock(int(START.timestamp()) * 1_000_000 + 999_999))


def body(rendered: Rendered) -> Any:
    """Return the body, checked as far as any body can be."""
    headers = dict(rendered.headers)
    assert headers["Content-Length"] == str(len(rendered.body))
    assert 400 <= rendered.status <= 599
    return json.loads(rendered.body.decode("utf-8"), parse_constant=pytest.fail)


def test_the_envelope_is_exactly_the_promised_one(errors: Errors) -> None:
    """Keys, order, and a timestamp of whole seconds in UTC."""
    detail = {"field": "email", "issue": "Must be valid email address"}
    rendered = errors.render(ValidationFailed(details=[detail]), request_id="abc123")
    assert rendered.body.decode() == (
        '{"error":{"code":"VALIDATION_ERROR","message":"The request is not valid",'
        '"details":[{"field":"email","issue":"Must be valid email address"}],'
        '"requestId":"abc123","timestamp":"2025-11-19T02:48:00Z"}}'
    )
    assert rendered.status == 422


def test_details_are_an_empty_list_when_there_are_none(errors: Errors) -> None:
    """Clients rely on the key."""
    assert body(errors.render(NotFound()))["error"]["details"] == []


def test_a_timestamp_moves_with_the_clock() -> None:
    """The text kept for a second is not kept for the next, nor for one before."""
    clock = ManualClock(int(START.timestamp()) * 1_000_000)
    errors = Errors(clock=clock)

    def told() -> str:
        text: str = body(errors.render(NotFound()))["error"]["timestamp"]
        return text

    assert told() == "2025-11-19T02:48:00Z"
    clock.advance(1_000_000)
    assert told() == "2025-11-19T02:48:01Z"
    clock.step_wall(-2_000_000)
    assert told() == "2025-11-19T02:47:59Z"


def test_a_problem_has_the_members_of_rfc_9457(errors: Errors) -> None:
    """Type, title, status, detail, instance; code and errors as extensions."""
    rid = "01234567-89ab-cdef-0123-456789abcdef"
    rendered = errors.render(SeatTaken(seat="12A"), "application/problem+json", rid)
    assert dict(rendered.headers)["Content-Type"] == "application/problem+json"
    assert body(rendered) == {
        "type": "urn:error:SEAT_TAKEN",
        "title": "Seat taken",
        "status": 409,
        "detail": "Seat 12A is taken",
        "instance": "urn:uuid:01234567-89ab-cdef-0123-456789abcdef",
        "code": "SEAT_TAKEN",
        "errors": [],
    }


def test_a_problem_takes_its_type_from_the_documentation_url() -> None:
    """And an id that is no UUID stands as it is."""
    errors = Errors(format="problem", docs_url="https://x.dev/errors/{code}")
    problem = body(errors.render(NotFound(), request_id="a.b-c"))
    assert problem["type"] == "https://x.dev/errors/NOT_FOUND"
    assert problem["instance"] == "a.b-c"


@pytest.mark.parametrize(
    ("form", "accept", "media", "vary"),
    [
        ("auto", None, "application/json", True),
        ("auto", "application/problem+json", "application/problem+json", True),
        ("auto", "application/problem+json;q=0.1, */*", "application/json", True),
        ("envelope", "application/problem+json", "application/json", False),
        ("problem", "application/json", "application/problem+json", False),
    ],
)
def test_the_format_is_the_clients_choice_only_if_it_is_left_to_it(
    form: Any, accept: str | None, media: str, vary: bool
) -> None:
    """`Vary` says so to caches."""
    headers = dict(Errors(format=form).render(NotFound(), accept).headers)
    assert headers["Content-Type"] == media
    assert ("Vary" in headers) is vary


def test_an_unknown_format_is_refused() -> None:
    """At once, by name."""
    with pytest.raises(InvalidArgument, match="format must be 'auto', 'envelope' or 'problem'"):
        Errors(format="xml")  # type: ignore[arg-type]  # that is the point


def test_without_an_id_the_current_requests_counts(errors: Errors) -> None:
    """And outside of one, none."""
    request = context.Request("now-1")
    token = context.enter(request)
    inside = errors.render(NotFound())
    context.leave(request, token)
    assert body(inside)["error"]["requestId"] == "now-1"
    assert body(errors.render(NotFound()))["error"]["requestId"] == ""


def test_what_nobody_knows_says_nothing(errors: Errors) -> None:
    """No word of the exception reaches the client."""
    rendered = errors.render(ValueError("dsn=postgres://u:hunter2@db"))
    assert rendered.status == 500
    assert body(rendered)["error"]["code"] == "INTERNAL_ERROR"
    assert b"hunter2" not in rendered.body
    assert b"ValueError" not in rendered.body


def test_the_reason_of_an_error_is_for_logs(errors: Errors) -> None:
    """`str(error)` never leaves."""
    rendered = errors.render(NotFound("no row 7 in table users on db3"))
    assert b"db3" not in rendered.body


@pytest.mark.parametrize(
    "error", [InvalidArgument("ttl", "must be positive", -1), MissingExtra("x", "y", "z")]
)
def test_a_mistake_of_the_calling_code_is_not_told_to_clients(
    errors: Errors, error: AppError
) -> None:
    """They cannot mend it, and `INVALID_ARGUMENT` would read as if they could."""
    assert body(errors.render(error))["error"]["code"] == "INTERNAL_ERROR"


def test_a_foreign_exception_goes_by_its_nearest_base(errors: Errors) -> None:
    """Also once the answer for a class has been kept."""
    errors.map(LookupError, NotFound)
    assert errors.render(KeyError("x")).status == 404
    errors.map(KeyError, Conflict)
    assert errors.render(KeyError("x")).status == 409
    assert errors.render(IndexError("x")).status == 404


def test_a_function_decides_by_the_exception(errors: Errors) -> None:
    """And may leave it unknown."""

    def by_number(exc: OSError) -> AppError | None:
        return UpstreamTimeout() if exc.errno == 110 else None

    errors.map(OSError, by_number)
    assert errors.render(OSError(110, "x")).status == 504
    assert errors.render(OSError(5, "x")).status == 500


def test_a_rule_that_fails_leaves_the_exception_unknown(errors: Errors) -> None:
    """And the chain shows both."""
    original = KeyError("x")

    def broken(_: KeyError) -> AppError:
        raise RuntimeError("broken rule")

    errors.map(KeyError, broken)
    error = errors.resolve(original)
    assert errors.render(original).status == 500
    assert isinstance(error.__cause__, RuntimeError)
    assert error.__cause__.__cause__ is original


def test_a_mapped_error_keeps_its_cause_and_its_text_for_logs(errors: Errors) -> None:
    """The reason is the foreign text; the cause is the exception."""
    errors.map(LookupError, NotFound)
    exc = LookupError("row 7")
    error = errors.resolve(exc)
    assert (error.reason, error.__cause__) == ("row 7", exc)


def test_an_adapters_rule_does_not_replace_an_applications(errors: Errors) -> None:
    """In whichever order they come."""
    errors.map(KeyError, Conflict)
    errors.map(KeyError, NotFound, replace=False)
    assert errors.render(KeyError()).status == 409


def test_codes_are_unique(errors: Errors) -> None:
    """A second class with a code is refused, by both names."""

    class Twin(NotFound):
        code = "SEAT_TAKEN"

    errors.adopt(SeatTaken)
    with pytest.raises(InvalidArgument, match=r"Twin must be unique.*SeatTaken has it"):
        errors.adopt(Twin)
    with pytest.raises(InvalidArgument, match="Twin"):
        Errors(SeatTaken, Twin)
    Errors(Twin)


def test_a_clash_of_codes_that_shows_late_is_warned_of_once_and_fails_nothing(
    errors: Errors, caplog: pytest.LogCaptureFixture
) -> None:
    """Two applications in one process may use one code; each registry knows what it has told."""

    class Other(NotFound):
        code = "SEAT_TAKEN"

    for _ in range(2):
        assert errors.render(SeatTaken(seat="1")).status == 409
        assert errors.render(Other()).status == 404
    assert [r.getMessage() for r in caplog.records if "Other must be unique" in r.getMessage()]
    assert len(caplog.records) == 1
    beside = Errors()
    assert beside.render(Other()).status == 404
    assert errors.kinds["SEAT_TAKEN"] is SeatTaken
    assert beside.kinds["SEAT_TAKEN"] is Other


def test_a_class_without_a_code_shares_its_parents() -> None:
    """That is inheritance, not a duplicate."""

    class Sold(SeatTaken):
        message = "Seat {seat} is sold"

    assert body(Errors(Sold).render(Sold(seat=1)))["error"]["code"] == "SEAT_TAKEN"


def test_a_reloaded_class_replaces_itself() -> None:
    """Same module, same qualified name."""
    again = type("SeatTaken", (Conflict,), {"code": "SEAT_TAKEN", "__module__": __name__})
    assert Errors(again).codes["SEAT_TAKEN"].endswith("SeatTaken")


@pytest.mark.parametrize(
    "attributes",
    [{"code": "lower"}, {"code": "A" * 65}, {"code": 7}, {"code": "X_1", "status": 200}],
)
def test_a_bad_class_is_refused_when_the_registry_is_built(attributes: dict[str, Any]) -> None:
    """Codes are UPPER_SNAKE, statuses 400..599."""
    bad = type("Bad", (AppError,), {**attributes, "__qualname__": "<locals>.Bad"})
    with pytest.raises(InvalidArgument, match="Bad"):
        Errors(bad)


def test_retry_after_is_told_in_whole_seconds(errors: Errors) -> None:
    """Rounded up: half a second too early would be refused again."""
    assert dict(errors.render(RateLimited(retry_after=0.2)).headers)["Retry-After"] == "1"
    assert dict(errors.render(RateLimited(retry_after=7)).headers)["Retry-After"] == "7"
    assert "Retry-After" not in dict(errors.render(RateLimited()).headers)
    assert "Retry-After" not in dict(errors.render(RateLimited(retry_after=float("inf"))).headers)


def test_a_401_says_how_to_prove_who_you_are(errors: Errors) -> None:
    """Ours by default, the application's where it gave one, in any case of letters."""
    assert dict(errors.render(Unauthorized()).headers)["WWW-Authenticate"] == "Bearer"
    own = errors.render(Unauthorized(headers={"www-authenticate": "Basic"}))
    assert [v for k, v in own.headers if k.lower() == "www-authenticate"] == ["Basic"]
    assert "expired" in dict(errors.render(TokenExpired()).headers)["WWW-Authenticate"]


def test_headers_that_would_break_the_response_are_left_out(errors: Errors) -> None:
    """No line can be smuggled in, no body mislabelled."""
    headers = {
        "X-Good": "yes",
        "X-Bad": "a\r\nSet-Cookie: b",
        "Bad Name": "x",
        "Content-Length": "1",
        "content-type": "text/html",
        "Content-Encoding": "gzip",
        "Content-Language": "de",
        "Transfer-Encoding": "chunked",
        "X-Wide": "\u20ac",
    }
    told = dict(errors.render(NotFound(headers=headers)).headers)
    assert told["X-Good"] == "yes"
    assert not {"X-Bad", "Bad Name", "content-type", "X-Wide"} & told.keys()
    assert not {"Content-Encoding", "Content-Language", "Transfer-Encoding"} & told.keys()


@pytest.mark.parametrize("wait", [timedelta(seconds=3), "soon", float("nan"), float("inf")])
def test_a_wait_that_is_no_number_costs_no_other_header(errors: Errors, wait: Any) -> None:
    """A `timedelta` there took `WWW-Authenticate` with it."""
    mixed: Any = {"X-Good": "yes", "X-Number": 5, 7: "x"}
    told = dict(errors.render(Unauthorized(headers={"X-Good": "yes"}, retry_after=wait)).headers)
    assert told["X-Good"] == "yes"
    assert told["WWW-Authenticate"] == "Bearer"
    error = RateLimited(retry_after=2)
    error.headers = mixed
    told = dict(errors.render(error).headers)
    assert (told["X-Good"], told["Retry-After"]) == ("yes", "2")


def test_a_wait_is_no_longer_than_caches_can_hold(errors: Errors) -> None:
    """Three hundred digits are nothing that a client can read."""
    for wait in (1e300, 10**400):
        assert (
            dict(errors.render(RateLimited(retry_after=wait)).headers)["Retry-After"]
            == "2147483647"
        )


@dataclass(frozen=True)
class Frozen(NotFound):
    """An error that nothing can be set on."""

    code = "FROZEN_THING"
    thing: str = ""


class Uncaused(NotFound):
    """An error that does not say where it comes from."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override] # hostile on purpose
        raise RuntimeError


@pytest.mark.parametrize("made", [Frozen("x"), Uncaused()])
def test_a_rules_error_that_takes_no_cause_is_told(errors: Errors, made: AppError) -> None:
    """It made `render` raise."""
    errors.map(LookupError, lambda _: made)
    told = errors.render(LookupError())
    assert told.status == 404
    assert body(told)["error"]["message"] == "Not found"


def test_a_rule_that_raises_what_it_was_given_makes_no_circle(errors: Errors) -> None:
    """An exception is not its own cause."""

    def again(exc: LookupError) -> AppError:
        raise exc

    errors.map(LookupError, again)
    exc = LookupError()
    assert errors.render(exc).status == 500
    assert exc.__cause__ is None


def test_a_status_may_be_an_http_status(errors: Errors) -> None:
    """It is an int, and is told as one."""

    class Teapot(AppError):
        code = "TEAPOT"
        status = HTTPStatus.IM_A_TEAPOT

    assert type(errors.render(Teapot()).status) is int
    assert errors.render(Teapot()).status == 418


def group(*leaves: Exception) -> ExceptionGroup[Exception]:
    """Return a group inside a group."""
    return ExceptionGroup("outer", [ExceptionGroup("inner", leaves)])


def test_a_group_of_one_is_that_one(errors: Errors) -> None:
    """As a TaskGroup makes them."""
    assert errors.render(group(SeatTaken(seat=1))).status == 409


def test_a_group_of_validation_failures_is_one_with_all_details(errors: Errors) -> None:
    """In their order."""
    one, two = ({"field": name, "issue": "x"} for name in "ab")
    rendered = errors.render(
        group(ValidationFailed(details=[one]), ValidationFailed(details=[two]))
    )
    assert [line["field"] for line in body(rendered)["error"]["details"]] == ["a", "b"]


def test_in_a_group_the_most_severe_error_wins(errors: Errors) -> None:
    """And what nobody knows is more severe than anything."""
    assert errors.render(group(NotFound(), StoreFull(), SeatTaken(seat=1))).status == 503
    assert errors.render(group(StoreFull(), KeyError())).status == 500
    assert body(errors.render(group(StoreFull(), KeyError())))["error"]["code"] == "INTERNAL_ERROR"


def test_a_deeply_nested_group_is_told(errors: Errors) -> None:
    """Without recursion."""
    exc: Exception = NotFound()
    for _ in range(5_000):
        exc = ExceptionGroup("x", [exc])
    assert errors.render(exc).status == 404


def test_errors_survive_pickling_and_copying(errors: Errors) -> None:
    """With what they carry, whatever their constructor wants."""
    error = from_status(418, "I am a teapot", {"X-A": "b"})
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert errors.render(twin, request_id="x") == errors.render(error, request_id="x")


class Hostile:
    """A value that resists."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise RecursionError


class StrangeText(str):
    """A text that is not quite one."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


def strange_error() -> AppError:
    """Return an error whose attributes raise; its class is hidden from other tests' registries."""

    class StrangeError(AppError):
        code = "STRANGE"
        message = "Strange {value}"

        @property
        def status(self) -> int:  # type: ignore[override]  # that is the point
            raise RuntimeError("no")

    return StrangeError(value=Hostile())


class Level(enum.IntEnum):
    """An int of a kind."""

    BAD = 422


PLAIN = Errors()
CYCLE: list[Any] = []
CYCLE.append({"issue": CYCLE})

hostile_values = st.one_of(
    st.text(st.characters(codec=None)),
    st.floats(),
    st.none(),
    st.booleans(),
    st.integers(),
    st.binary(),
    st.builds(Hostile),
    st.builds(StrangeText, st.text()),
    st.just(CYCLE),
    st.just(Level.BAD),
    st.just(object()),
)


@given(
    status=hostile_values | st.sampled_from([99, 600, 200, "x", 404]),
    code=hostile_values,
    message=hostile_values | st.just("{value} {value.x} {0} {"),
    details=st.lists(hostile_values | st.dictionaries(st.text() | st.integers(), hostile_values))
    | hostile_values,
    headers=st.dictionaries(st.text(), hostile_values) | hostile_values,
    retry_after=hostile_values,
    param=hostile_values,
    accept=st.none() | st.text() | st.just("application/problem+json"),
)
def test_render_is_total(  # noqa: PLR0917 - hypothesis fills them in
    status: Any,
    code: Any,
    message: Any,
    details: Any,
    headers: Any,
    retry_after: Any,
    param: Any,
    accept: str | None,
) -> None:
    """Whatever the attributes are: valid UTF-8 JSON, a status of an error, the right length."""
    error = AppError("x", value=param)
    error.__dict__.update(
        status=status, code=code, message=message, details=details, headers=headers
    )
    error.__dict__["retry_after"] = retry_after
    rendered = PLAIN.render(error, accept, "rid")
    assert body(rendered)
    for name, value in rendered.headers:
        assert "\n" not in name + value
        assert "\r" not in name + value


@pytest.mark.parametrize(
    "exc",
    [
        strange_error(),
        ValueError(Hostile()),
        type("Odd", (Exception,), {"__str__": lambda _: 1 / 0})(),
        KeyError("\ud800"),
        RecursionError(),
        StopIteration(3),
    ],
)
def test_render_tells_hostile_exceptions(exc: BaseException) -> None:
    """One at a time."""
    assert body(Errors().render(exc, request_id="\ud800\udfff\ud800"))


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    """UTF-8 has no way to say it."""
    error = NotFound()
    error.message = "a\ud800b \ud83d\ude00"
    assert body(Errors().render(error))["error"]["message"] == "a\ufffdb \U0001f600"


def test_statuses_without_a_class_keep_status_and_text() -> None:
    """A framework's 418 or 499 does not become a 500."""
    assert from_status(418).code == "IM_A_TEAPOT"
    assert from_status(460).code == "HTTP_460"
    assert from_status(460).status == 460
    assert from_status(99).status == 500


def test_a_frameworks_own_words_give_way_to_ours() -> None:
    """An application's stay; on a 5xx they are for logs."""
    assert from_status(404, "Not Found").text == NotFound.message
    assert from_status(404, "No such user").text == "No such user"
    assert from_status(404, "{braces} stay").text == "{braces} stay"
    assert from_status(413, "Content Too Large").text == from_status(413).text
    hidden = from_status(503, "db3 is down")
    assert (hidden.text, hidden.reason) == (from_status(503).text, "db3 is down")


def test_a_structured_detail_becomes_details() -> None:
    """Nothing that an application told its clients is lost."""
    assert from_status(400, {"seat": "taken"}).details == [{"field": "seat", "issue": "taken"}]
    assert from_status(400, ["a", 1]).details == [{"issue": "a"}, {"issue": "1"}]
    assert from_status(400, 7).details == [{"issue": "7"}]
    assert len(from_status(400, list(range(1000))).details) == 100


def test_every_class_of_the_tree_can_be_raised_and_told(errors: Errors) -> None:
    """The codes in the registry are those of the tree."""
    assert errors.codes["VALIDATION_ERROR"] == "backendkit.errors.tree.ValidationFailed"
    assert issubclass(ValidationFailed, Unprocessable)
    assert len(errors.codes) >= 35
