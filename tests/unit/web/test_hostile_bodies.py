"""Whatever a client sends to a validated endpoint: a 4xx envelope, alike on both frameworks, with nothing of it inside."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.web.apps import PAIRS
from tests.unit.web.drivers import caught_reports

MARK = "hunter2hunter2"
"""Is in every body, and may be in no answer."""

APPS = {name: make() for name, make in PAIRS.items()}
CASES: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "digits": b"1" * 10_000,
    "big number in its place": b'{"email": "a", "price": 1' + b"0" * 5_000 + b"}",
    "nan": b'{"email": "%s", "price": NaN}' % MARK.encode(),
    "infinity": b'{"email": "%s", "price": -Infinity}' % MARK.encode(),
    "half a pair": b'{"email": "\\ud800", "lines": 1}',
    "not utf-8": b'{"email": "\xff\xfe"}',
    "cut": b'{"email": "%s' % MARK.encode(),
    "two values": b"{} {}",
    "bom": b'\xef\xbb\xbf{"email": 1}',
    "null": b"null",
    "list": b"[1, 2]",
    "duplicate keys": b'{"email": 1, "email": 2}',
    "odd keys": json.dumps({"email": 1, MARK: 1, "": {"a/b~": MARK}}).encode(),
    "empty": b"",
    "wrong nested": json.dumps({"email": MARK, "lines": [{"sku": MARK, "count": MARK}]}).encode(),
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_both_frameworks_tell_a_bad_body_alike(body: bytes) -> None:
    """Status, code and details; none is an error of ours."""
    with caught_reports() as reports:
        answers = [app.driver.post("/orders", body) for app in APPS.values()]
    for answer in answers:
        assert 400 <= answer.status < 500, answer.body
        assert MARK.encode() not in answer.body
    one, two = ((a.status, a.error["code"], a.error["details"]) for a in answers)
    assert one == two
    assert reports == []


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(MARK),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
orders = st.fixed_dictionaries(
    {},
    optional={"email": json_like, "price": json_like, "lines": json_like, "meta": json_like},
)


@settings(max_examples=60)
@given(orders | json_like)
def test_any_json_like_body_is_answered_and_never_a_5xx(value: Any) -> None:
    """As Python writes it, `NaN` and lone surrogates included; a body that fits gives a 200."""
    body = json.dumps(value, ensure_ascii=True).encode()
    answers = [app.driver.post("/orders", body) for app in APPS.values()]
    one, two = answers
    assert one.status == two.status
    assert one.status == 200 or 400 <= one.status < 500, one.body
    for answer in answers:
        if answer.status != 200:
            assert MARK.encode() not in answer.body
            assert answer.error["details"] == answers[0].error["details"]


@pytest.mark.parametrize(
    "query", ["page=1&page=2", "page=2&page=0", "page=x&page=3", "page=", "page=0"]
)
def test_a_repeated_parameter_means_the_same_on_both(query: str) -> None:
    """The last one counts."""
    one, two = (app.driver.get(f"/pages?{query}") for app in APPS.values())
    assert one.status == two.status
    if one.status == 200:
        assert json.loads(one.body) == json.loads(two.body)
    else:
        assert one.error["details"] == two.error["details"]
