"""The demo's client finds what is wrong, and only that."""

import io
import json
import re
from collections.abc import Callable

import httpx
import pytest

from examples.client.front import Answer, Front, Request
from examples.client.match import ANY, broken_promises, difference, mismatches
from examples.client.play import perform
from examples.client.scene import Exchange, Expect, Race, Section
from examples.client.transcript import Transcript, summary, tally

GET = Request(method="GET", path="/users")


def answer(
    status: int = 200, body: object = None, request_id: str = "r-1", **headers: str
) -> Answer:
    """An answer as a front would give it."""
    content = b"" if body is None else json.dumps(body).encode()
    return Answer(status, {"x-request-id": request_id, **headers}, content)


def envelope(request_id: str = "r-1", **changes: object) -> object:
    """An error's body as the library gives it."""
    error = {
        "code": "NOT_FOUND",
        "message": "Not found",
        "details": [],
        "requestId": request_id,
        "timestamp": "2026-03-01T12:00:00Z",
    }
    return {"error": error | changes}


def front(name: str, handler: Callable[[httpx.Request], httpx.Response]) -> Front:
    """A front that answers as `handler` says."""
    transport = httpx.MockTransport(handler)
    return Front(name, httpx.Client(transport=transport, base_url="http://front"))


def saying(body: object, request_id: str = "r-1") -> Callable[[httpx.Request], httpx.Response]:
    """A handler that always says the same."""
    return lambda _: httpx.Response(200, json=body, headers={"X-Request-ID": request_id})


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ([{"a": 1}, {}], [{"a": 1, "b": 2}, {"c": 3}]),
        (ANY, "x"),
        (ANY, None),
        (re.compile(r"\d+"), 12),
        (None, None),
    ],
)
def test_what_is_as_expected_is_not_complained_about(expected: object, actual: object) -> None:
    """A mapping allows more keys than it names; everything else is exact."""
    assert list(mismatches(expected, actual, "body")) == []


@pytest.mark.parametrize(
    ("expected", "actual", "complaint"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "body.a.b: expected 1, got 2"),
        ({"a": 1}, {}, "body.a: expected, but it is not there"),
        ({"a": 1}, [1], "body: expected an object, got [1]"),
        ([1, 2], [1], "body: expected [1, 2], got [1]"),
        ([{"a": 1}], [{"a": 2}], "body[0].a: expected 1, got 2"),
        (re.compile("a+"), "ab", "body: expected a match of 'a+', got 'ab'"),
    ],
)
def test_a_complaint_says_where_and_what(expected: object, actual: object, complaint: str) -> None:
    """One line is enough to see what is wrong."""
    assert list(mismatches(expected, actual, "body")) == [complaint]


@pytest.mark.parametrize(
    "broken",
    [
        answer(request_id=""),
        answer(404, envelope(request_id="r-2")),
        answer(404, envelope(code="not found")),
        answer(404, envelope(timestamp="yesterday")),
        answer(404, {"detail": "Not Found"}),
        Answer(500, {"x-request-id": "r-1"}, b"Internal Server Error"),
    ],
)
def test_an_answer_outside_the_promises_is_noticed_unasked(broken: Answer) -> None:
    """No scene has to spell the promises out."""
    assert list(broken_promises(broken))


@pytest.mark.parametrize("sound", [answer(), answer(404, envelope()), answer(404)])
def test_an_answer_within_the_promises_passes(sound: Answer) -> None:
    """An answer to HEAD has no body, and so no envelope."""
    assert list(broken_promises(sound)) == []


def test_ids_moments_and_the_servers_headers_may_differ() -> None:
    """They belong to the request and to the server, not to the application."""
    one = answer(404, envelope(), server="uvicorn")
    two = answer(404, envelope("r-2", timestamp="2026-03-01T12:00:09Z"), "r-2", server="gunicorn")

    assert difference("one", [one], "two", [two]) == []


@pytest.mark.parametrize(
    "other",
    [
        answer(404, envelope(message="not found")),
        answer(410, envelope()),
        answer(404, envelope(), allow="GET"),
    ],
)
def test_any_other_difference_shows_in_a_diff(other: Answer) -> None:
    """Status, headers and every byte of the body count."""
    diff = difference("one", [answer(404, envelope())], "two", [other])

    assert diff[:2] == ["--- one", "+++ two"]


def test_the_order_in_which_a_race_ends_does_not_matter() -> None:
    """Who wins is chance."""
    won, lost = answer(201, {"id": 1}), answer(409, envelope())

    assert difference("one", [won, lost], "two", [lost, won]) == []


def test_a_later_request_can_use_what_an_earlier_answer_said() -> None:
    """That is how a token gets from the login to the next request."""
    paths: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path.decode())
        return saying({"next": "/users?after=2"})(request)

    first = Exchange(what="", send=GET, expect=Expect(status=200), keep={"more": "next"})
    second = Exchange(what="", send=Request(method="GET", path="{more}"), expect=Expect(status=200))
    subject = front("one", handler)

    faults = [fault for scene in (first, second) for fault in scene.play(subject).faults]

    assert (faults, paths) == ([], ["/users", "/users?after=2"])


def test_a_value_to_keep_that_is_missing_is_a_fault() -> None:
    """Better here than as a puzzle three scenes later."""
    scene = Exchange(what="", send=GET, expect=Expect(status=200), keep={"more": "next"})

    assert scene.play(front("one", saying([]))).faults == [
        "body.next: expected, to keep it as 'more', but it is not there"
    ]


def test_a_race_counts_the_answers() -> None:
    """So many of each status, whoever gets which."""
    scene = Race(what="", send=GET, times=4, expect={200: 3, 409: 1})

    assert scene.play(front("one", saying({}))).faults == [
        "statuses.200: expected 3, got 4",
        "statuses.409: expected, but it is not there",
    ]


def test_a_race_notices_a_status_that_nobody_expected() -> None:
    """One 500 among the answers must not get lost."""
    statuses = iter([200, 500])

    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(next(statuses), headers={"X-Request-ID": "r-1"})

    scene = Race(what="", send=GET, times=2, expect={200: 1})

    assert scene.play(front("one", handler)).faults == ["statuses.500: expected 0, got 1"]


def test_fronts_that_differ_make_a_performance_fail() -> None:
    """Both may be as expected and still not be alike."""
    out = io.StringIO()
    section = Section("S", [Exchange(what="list", send=GET, expect=Expect(status=200))])
    fronts = [front("one", saying({"a": 1})), front("two", saying({"a": 2}))]

    wrong = perform([section], fronts, Transcript(out))

    assert wrong == 1
    assert '-{"a":1}' in out.getvalue()
    assert '+{"a":2}' in out.getvalue()


def test_fronts_that_answer_alike_make_a_performance_succeed() -> None:
    """The transcript names both ids, and prints no colour where nobody would see it."""
    out = io.StringIO()
    section = Section("S", [Exchange(what="list", send=GET, expect=Expect(status=200))])
    fronts = [front("one", saying({"a": 1}, "id-1")), front("two", saying({"a": 1}, "id-2"))]

    wrong = perform([section], fronts, Transcript(out))

    assert wrong == 0
    assert "the same bytes" in out.getvalue()
    assert {"id-1", "id-2"} < set(out.getvalue().split())
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As no-color.org says."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    Transcript(coloured).section("Users")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Transcript(plain).section("Users")

    assert "\x1b[1m" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


def test_an_envelope_is_told_by_its_code_its_message_and_its_issues() -> None:
    """What a reader looks for, in one line."""
    details = [{"field": "email", "issue": "is missing"}, {"issue": "is odd"}]

    assert summary(answer(422, envelope(details=details))) == (
        "NOT_FOUND: Not found  email: is missing  -: is odd"
    )


def test_several_answers_are_told_by_their_number() -> None:
    """A race of eight fits into one line."""
    assert tally([answer(409), answer(201), answer(409)]) == "1x201 2x409"


def test_a_front_that_does_not_answer_is_a_fault_and_not_a_crash() -> None:
    """The transcript goes on and tells it."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    out = io.StringIO()
    section = Section("S", [Exchange(what="list", send=GET, expect=Expect(status=200))])

    wrong = perform([section], [front("one", handler)], Transcript(out))

    assert wrong == 1
    assert "no answer: ConnectError: refused" in out.getvalue()


def test_a_value_that_nobody_kept_stays_visible_in_the_path() -> None:
    """Its scene has already been told to be wrong; this one shows what came of it."""
    sent = front("one", saying({})).send(Request(method="GET", path="/users/{ada}"))

    assert sent.path == "/users/{ada}"
