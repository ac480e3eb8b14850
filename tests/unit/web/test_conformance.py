"""Both adapters answer the same requests with the same status, headers and bytes."""

from collections.abc import Callable
from typing import Any

import pytest

from backendkit.core import context
from tests.unit.web.apps import ID, PAIRS, Pair, new_kit
from tests.unit.web.drivers import Answer, caught_reports

JSON = {**ID, "Content-Type": "application/json"}
PROBLEM = {**ID, "Accept": "application/problem+json, */*;q=0.1"}

# method, path, headers, body, status, code (None: not an error of ours)
Case = tuple[str, str, dict[str, str], bytes, int, str | None]

CASES: dict[str, Case] = {
    "an application's error": ("GET", "/raise/app", ID, b"", 409, "SEAT_GONE"),
    "the same from a synchronous view": ("GET", "/sync/app", ID, b"", 409, "SEAT_GONE"),
    "with Retry-After": ("GET", "/raise/limited", ID, b"", 429, "RATE_LIMITED"),
    "of a store": ("GET", "/raise/store", ID, b"", 503, "STORE_UNAVAILABLE"),
    "of an upstream": ("GET", "/raise/timeout", ID, b"", 504, "UPSTREAM_TIMEOUT"),
    "a mapped foreign one": ("GET", "/raise/foreign", ID, b"", 404, "NOT_FOUND"),
    "a group of one": ("GET", "/raise/group", ID, b"", 409, "SEAT_GONE"),
    "a group with an unknown one": ("GET", "/raise/badgroup", ID, b"", 500, "INTERNAL_ERROR"),
    "unknown": ("GET", "/raise/unknown", ID, b"", 500, "INTERNAL_ERROR"),
    "unknown, synchronous": ("GET", "/sync/unknown", ID, b"", 500, "INTERNAL_ERROR"),
    "half a surrogate pair": ("GET", "/raise/surrogate", ID, b"", 404, "NOT_FOUND"),
    "no such path": ("GET", "/nowhere", ID, b"", 404, "NOT_FOUND"),
    "no such path, by HEAD": ("HEAD", "/nowhere", ID, b"", 404, None),
    "as a problem": ("GET", "/raise/app", PROBLEM, b"", 409, None),
    "not found as a problem": ("GET", "/nowhere", PROBLEM, b"", 404, None),
    "a framework's error": ("GET", "/http/403", ID, b"", 403, "FORBIDDEN"),
    "with a text": ("GET", "/http/400?detail=No+seats", ID, b"", 400, "BAD_REQUEST"),
    "with its headers": ("GET", "/http/401", ID, b"", 401, "UNAUTHORIZED"),
    "of 500, whose text stays inside": (
        "GET", "/http/500?detail=hunter2", ID, b"", 500, "INTERNAL_ERROR",
    ),
    "of 503, whose text stays inside": (
        "GET", "/http/503?detail=hunter2", ID, b"", 503, "SERVICE_UNAVAILABLE",
    ),
    "of a status without a class": ("GET", "/http/418", ID, b"", 418, "IM_A_TEAPOT"),
    "of a status without a name": ("GET", "/http/460", ID, b"", 460, "HTTP_460"),
    "a missing field": ("POST", "/orders", JSON, b'{"price": 1}', 422, "VALIDATION_ERROR"),
    "nested fields": (
        "POST", "/orders", JSON, b'{"email": "a", "lines": [{"sku": "x", "count": 0}]}', 422,
        "VALIDATION_ERROR",
    ),
    "not an object": ("POST", "/orders", JSON, b"[]", 422, "VALIDATION_ERROR"),
    "no body": ("POST", "/orders", JSON, b"", 422, "VALIDATION_ERROR"),
    "a query parameter": ("GET", "/pages?page=x", ID, b"", 422, "VALIDATION_ERROR"),
    "a small query parameter": ("GET", "/pages?page=0", ID, b"", 422, "VALIDATION_ERROR"),
    "broken JSON": ("POST", "/orders", JSON, b'{"email": ', 400, "MALFORMED_BODY"),
    "NaN": ("POST", "/echo", JSON, b'{"email": "a", "price": NaN}', 400, "MALFORMED_BODY"),
    "-Infinity": ("POST", "/echo", JSON, b'{"email": "a", "price": -Infinity}', 400, "MALFORMED_BODY"),
    "a surrogate": ("POST", "/echo", JSON, b'{"email": "a", "meta": "\\ud800"}', 400, "MALFORMED_BODY"),
    "a raw surrogate": ("POST", "/echo", JSON, b'{"email": "\xed\xa0\x80"}', 400, "MALFORMED_BODY"),
    "another content type": (
        "POST", "/orders", {**ID, "Content-Type": "text/plain"}, b"{}", 415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    "no content type": ("POST", "/orders", ID, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
    "bad id": ("GET", "/nowhere", {"X-Request-ID": "a b"}, b"", 404, "NOT_FOUND"),
}  # fmt: skip

# What parsers word differently; the shape and the code are the same.
LOOSE: dict[str, Case] = {
    "invalid UTF-8": ("POST", "/orders", JSON, b'{"email": "\xff"}', 400, "MALFORMED_BODY"),
    "5,000 digits": (
        "POST", "/orders", JSON, b'{"email": ' + b"9" * 5_000 + b"}", 400, "MALFORMED_BODY",
    ),
    "deep nesting": ("POST", "/orders", JSON, b"[" * 100_000, 400, "MALFORMED_BODY"),
    "a wrong method": ("DELETE", "/orders", ID, b"", 405, "METHOD_NOT_ALLOWED"),
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return the application on each framework."""
    return PAIRS[request.param]()


def ask(pair: Pair, case: Case) -> Answer:
    """Return the answer to a case, checked as far as any can be."""
    method, path, headers, body, status, code = case
    answer = pair.driver.request(method, path, headers, body)
    assert answer.status == status, answer.body
    assert len(answer.all("x-request-id")) == 1
    assert b"hunter2" not in answer.body
    if code is not None:
        assert answer.error["code"] == code
    assert context.current() is None
    return answer


@pytest.mark.parametrize("name", CASES)
def test_both_answer_alike(name: str) -> None:
    """Status, every header, every byte."""
    one, two = (ask(make(), CASES[name]) for make in PAIRS.values())
    if name == "bad id":
        assert one.error["requestId"] != two.error["requestId"]
        return
    assert one.status == two.status
    assert sorted(one.headers) == sorted(two.headers)
    assert one.body == two.body


@pytest.mark.parametrize("name", LOOSE)
def test_both_refuse_alike(name: str, pair: Pair) -> None:
    """With an envelope and a 4xx."""
    ask(pair, LOOSE[name])


def test_a_405_names_all_methods(pair: Pair) -> None:
    """Of all routes at the path, in one order."""
    answer = ask(pair, LOOSE["a wrong method"])
    allow = answer.one("allow")
    assert allow is not None
    assert "POST" in allow.split(", ")
    assert allow.split(", ") == sorted(allow.split(", "))


@pytest.mark.parametrize("path", ["/ok", "/nowhere", "/redirect", "/text", "/raise/unknown"])
def test_every_response_has_the_clients_id(pair: Pair, path: str) -> None:
    """On any status."""
    assert pair.driver.get(path, ID).one("x-request-id") == "same-1"


def test_the_view_sees_the_id(pair: Pair) -> None:
    """The same that the client reads."""
    assert b'"same-1"' in pair.driver.get("/ok", ID).body


def test_what_an_endpoint_wrote_itself_stays(pair: Pair) -> None:
    """A text error of the application's own, a redirect."""
    assert pair.driver.get("/text").body == b"my own words"
    assert pair.driver.get("/redirect").status == 302


def test_a_head_has_the_headers_and_no_body(pair: Pair) -> None:
    """Content-Length is that of the GET."""
    head = pair.driver.request("HEAD", "/nowhere", ID)
    get = pair.driver.request("GET", "/nowhere", ID)
    assert head.body == b""
    assert sorted(head.headers) == sorted(get.headers)


@pytest.mark.parametrize("path", ["/raise/unknown", "/sync/unknown", "/raise/badgroup"])
def test_an_unknown_error_is_recorded_once_with_its_traceback(pair: Pair, path: str) -> None:
    """And with the place, without the query."""
    with caught_reports() as reports:
        pair.driver.get(path + "?token=hunter2")
    (report,) = reports
    assert report.has_traceback
    assert report.text == f'unhandled error where="GET {path!r}"'


@pytest.mark.parametrize("path", ["/raise/app", "/raise/foreign", "/raise/group", "/nowhere"])
def test_an_error_with_a_name_is_not_recorded_as_unhandled(pair: Pair, path: str) -> None:
    """It is an answer like another."""
    with caught_reports() as reports:
        pair.driver.get(path)
    assert reports == []


def test_a_failing_stream_is_recorded_once(pair: Pair) -> None:
    """By its own name; the client sees that the end is missing."""
    with caught_reports() as reports:
        try:
            answer = pair.driver.get("/stream", ID)
        except BrokenPipeError:
            answer = pair.driver.last
    assert not answer.complete
    assert [type(r.exc) for r in reports] == [ValueError]
    assert answer.one("x-request-id") == "same-1"


def test_the_record_knows_the_request(pair: Pair) -> None:
    """While it is made, the request is current: a filter can add its id."""
    seen: list[str | None] = []
    import logging

    def note(record: logging.LogRecord) -> bool:
        seen.append(context.request_id())
        return True

    logger = logging.getLogger("backendkit.errors")
    logger.addFilter(note)
    try:
        pair.driver.get("/raise/unknown", ID)
    finally:
        logger.removeFilter(note)
    assert seen == ["same-1"]


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_the_settings_rule_the_header_the_trust_and_the_format(make: Callable[..., Pair]) -> None:
    """As given to the kit."""
    http = {
        "request_id_header": "X-Trace",
        "trust_request_id": False,
        "error_format": "problem",
    }
    driver = make(new_kit(http=http)).driver
    answer = driver.get("/nowhere", {"X-Trace": "mine", "X-Request-ID": "mine"})
    assert answer.one("x-trace") not in {None, "mine"}
    assert answer.one("x-request-id") is None
    assert answer.one("content-type") == "application/problem+json"
    assert answer.one("vary") is None


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_two_applications_with_two_kits_do_not_mix(make: Callable[..., Pair]) -> None:
    """Each tells by its own registry."""
    plain, other = make(), make(new_kit(http={"error_format": "problem"}))
    other.kit.errors.map(ValueError, lambda _: None)
    for _ in range(2):
        assert plain.driver.get("/nowhere").one("content-type") == "application/json"
        assert other.driver.get("/nowhere").one("content-type") == "application/problem+json"


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_installing_again_changes_nothing_and_another_kit_is_refused(
    make: Callable[..., Pair],
) -> None:
    """One application, one kit."""
    pair = make()
    install = _install(pair)
    install(pair.app, pair.kit)
    answer = pair.driver.get("/nowhere", ID)
    assert answer.all("x-request-id") == ["same-1"]
    with pytest.raises(ValueError, match="must not have another kit installed"):
        install(pair.app, new_kit())


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS)
def test_installing_after_the_first_request_is_refused(make: Callable[..., Pair]) -> None:
    """It would come too late for the frame."""
    pair = make()
    bare: Any = type(pair.app)("bare") if pair.name == "flask" else type(pair.app)()
    type(pair.driver)(bare).get("/")
    with pytest.raises(ValueError, match="must not have begun to serve"):
        _install(pair)(bare, pair.kit)


def _install(pair: Pair) -> Callable[[Any, Any], None]:
    import backendkit.fastapi
    import backendkit.flask

    installs: dict[str, Callable[[Any, Any], None]] = {
        "fastapi": backendkit.fastapi.install,
        "flask": backendkit.flask.install,
    }
    return installs[pair.name]
