"""Errors in gRPC's and GraphQL's terms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core.clock import ManualClock
from backendkit.errors import (
    AppError,
    BadRequest,
    Conflict,
    Errors,
    Forbidden,
    GrpcCode,
    InvalidArgument,
    NotFound,
    RateLimited,
    Unauthorized,
    UpstreamError,
    ValidationFailed,
    from_graphql,
    from_grpc,
    grpc_code,
    http_status,
    to_graphql,
    to_grpc,
)
from backendkit.errors.graphql import GRAPHQL_CODE
from backendkit.errors.grpc import HTTP_STATUS


class Sold(Conflict):
    """For these tests."""

    code = "TEST_SOLD"
    message = "Seat {seat} is sold to {who}"


ERRORS = Errors(Sold, clock=ManualClock(wall_us=1_763_520_480_000_000))
LINES = [{"field": "a", "issue": "b", "code": "C"}]


def test_there_are_seventeen_codes() -> None:
    """google/rpc/code.proto."""
    assert [code.value for code in GrpcCode] == list(range(17))
    assert set(HTTP_STATUS) == set(GrpcCode)


@pytest.mark.parametrize("code", list(GrpcCode))
def test_codes_and_statuses_agree(code: GrpcCode) -> None:
    """There and back gives the least specific code of the same status."""
    back = grpc_code(http_status(code))
    assert http_status(back) == http_status(code)
    specific = {"UNKNOWN", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS"}
    assert back is code or code.name in specific


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, "OK"), (399, "OK"), (400, "INVALID_ARGUMENT"), (418, "INVALID_ARGUMENT"), (422, "INVALID_ARGUMENT"),
     (409, "ABORTED"), (412, "FAILED_PRECONDITION"), (500, "INTERNAL"), (502, "UNAVAILABLE"), (599, "INTERNAL")],
)  # fmt: skip
def test_a_status_has_a_code(status: int, code: str) -> None:
    """Every one."""
    assert grpc_code(status).name == code


@pytest.mark.parametrize("code", [-1, 17, 10**30])
def test_a_number_that_is_no_code_is_unknown(code: int) -> None:
    """As gRPC itself treats it."""
    assert http_status(code) == 500


def test_an_error_becomes_a_status() -> None:
    """The JSON form of google.rpc.Status, which protobuf parses."""
    error = Sold(seat=12, who="Ann", secret="s3", details=LINES, retry_after=1.5)
    assert to_grpc(error, ERRORS, domain="x.dev", request_id="r-1") == {
        "code": 10,
        "message": "Seat 12 is sold to Ann",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "TEST_SOLD",
                "domain": "x.dev",
                "metadata": {"seat": "12", "who": "Ann"},
            },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "a", "description": "b", "reason": "C"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"},
            {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r-1"},
        ],
    }


def test_a_plain_error_becomes_a_short_status() -> None:
    """And an unknown one says nothing."""
    assert len(to_grpc(NotFound(), ERRORS, domain="x.dev")["details"]) == 1
    status = to_grpc(KeyError("secret"), ERRORS, domain="x.dev")
    assert status["code"] == GrpcCode.INTERNAL
    assert "secret" not in json.dumps(status)


@pytest.mark.parametrize("domain", ["", "a\n", 5])
def test_a_domain_is_needed(domain: Any) -> None:
    """A reason means nothing without it."""
    with pytest.raises(InvalidArgument, match="domain"):
        to_grpc(NotFound(), ERRORS, domain=domain)


def test_an_error_makes_the_round_trip_through_grpc() -> None:
    """Class, parameters as texts, lines and the time to wait."""
    error = Sold(seat=12, who="Ann", details=LINES, retry_after=1.5)
    back = from_grpc(to_grpc(error, ERRORS, domain="x.dev", request_id="r"), ERRORS)
    assert type(back) is Sold
    assert (back.params, back.details, back.retry_after) == (
        {"seat": "12", "who": "Ann"},
        LINES,
        1.5,
    )
    assert back.text == error.text
    assert "TEST_SOLD" in back.reason
    assert type(from_grpc(to_grpc(error, ERRORS, domain="x.dev"))) is Sold


@pytest.mark.parametrize(
    "kind", [k for k in ERRORS.kinds.values() if k.__module__.startswith("backendkit")]
)
def test_every_class_makes_the_round_trip(kind: type[AppError]) -> None:
    """Through both worlds, save those that are told as an internal error."""
    error = kind.__new__(kind)
    AppError.__init__(error)
    expected = type(ERRORS.resolve(error))
    assert type(from_grpc(to_grpc(error, ERRORS, domain="d"), ERRORS)) is expected
    assert type(from_graphql(to_graphql(error, ERRORS), ERRORS)) is expected


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        ({"code": 5}, NotFound, "NOT_FOUND"),
        ({"code": 7, "details": [{"@type": "x.ErrorInfo", "reason": "NOT_FOUND"}]}, Forbidden, "NOT_FOUND"),
        ({"code": 6, "message": "exists"}, Conflict, "ALREADY_EXISTS"),
        ({"code": 14, "details": [{"@type": "x.ErrorInfo", "reason": "UPSTREAM_ERROR"}]}, UpstreamError, "UPSTREAM_ERROR"),
        ({"code": 99}, AppError, "UNKNOWN"),
        ({"code": "5"}, AppError, "UNKNOWN"),
        ({"code": 3, "details": [{"@type": "a.BadRequest", "fieldViolations": [{}, 5]}]}, BadRequest, "INVALID_ARGUMENT"),
        ({}, AppError, "UNKNOWN"),
        ({"code": 8, "details": [5, {"@type": 5}, {"@type": "a.RetryInfo", "retryDelay": "x"}]}, RateLimited, "RESOURCE_EXHAUSTED"),
        ({"code": 3, "details": [{"@type": "a.ErrorInfo", "reason": "lower", "metadata": 5}]}, BadRequest, "INVALID_ARGUMENT"),
    ],
)  # fmt: skip
def test_a_foreign_status_is_told_by_its_code(status: Any, kind: type[AppError], code: str) -> None:
    """What it cannot say is left out."""
    error = from_grpc(status, ERRORS)
    assert type(error) is kind
    assert error.code == code


def test_ok_is_no_error() -> None:
    """Code 0."""
    assert from_grpc({"code": 0}) is None


def test_an_error_becomes_an_entry_of_graphql() -> None:
    """What the envelope has, under `extensions`."""
    entry = to_graphql(ValidationFailed(details=LINES), ERRORS, path=["a", 0], request_id="r")
    assert entry == {
        "message": "The request is not valid",
        "path": ["a", 0],
        "extensions": {
            "code": "BAD_USER_INPUT",
            "status": 422,
            "details": LINES,
            "requestId": "r",
            "timestamp": "2025-11-19T02:48:00Z",
        },
    }
    assert "path" not in to_graphql(NotFound(), ERRORS)


def test_graphqls_names_lead_back() -> None:
    """One name for each code."""
    assert len(set(GRAPHQL_CODE.values())) == len(GRAPHQL_CODE)
    error = from_graphql(to_graphql(Sold(seat="1", who="Ann"), ERRORS), ERRORS)
    assert type(error) is Sold
    assert error.params == {"seat": "1", "who": "Ann"}
    assert (
        type(from_graphql({"message": "m", "extensions": {"code": "UNAUTHENTICATED"}}))
        is Unauthorized
    )


@pytest.mark.parametrize(
    ("entry", "status", "code"),
    [
        ({"message": "m"}, 500, "INTERNAL_ERROR"),
        ({"message": "m", "extensions": 5}, 500, "INTERNAL_ERROR"),
        ({"message": "m", "extensions": {"code": "lower", "status": 404}}, 404, "NOT_FOUND"),
        ({"message": "m", "extensions": {"code": "STRANGE"}}, 500, "STRANGE"),
        ({"message": "m", "extensions": {"code": "STRANGE", "status": 9000}}, 500, "STRANGE"),
        ({"message": "m", "extensions": {"code": "NOT_FOUND", "status": 409}}, 409, "NOT_FOUND"),
    ],
)
def test_a_foreign_entry_is_told_as_far_as_it_can_be(entry: Any, status: int, code: str) -> None:
    """Other servers have other codes."""
    error = from_graphql(entry, ERRORS)
    assert (error.status, error.code) == (status, code)


things = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.floats() | st.text(max_size=9)
    | st.sampled_from(["NOT_FOUND", "TEST_SOLD", "a.ErrorInfo", "a.BadRequest", "a.RetryInfo", "a.RequestInfo", "3s"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["@type", "reason", "metadata", "fieldViolations", "field", "retryDelay", "seat",
                         "code", "status", "details", "params", "requestId"]), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["code", "message", "details", "extensions"]), things))
def test_whatever_the_other_side_sends_is_an_error(data: dict[str, Any]) -> None:
    """Neither raises."""
    for error in (from_grpc(data, ERRORS), from_graphql(data, ERRORS)):
        if error is not None:
            assert 400 <= ERRORS.render(error).status <= 599


class Odd(AppError):
    """For these tests; its parameters cannot be read."""

    code = "TEST_ODD"
    message = "{x}"


@pytest.mark.parametrize("params", [5, {"x": float("nan")}, {"x": object()}, None])
@pytest.mark.parametrize("details", [None, 5, [5], [{"field": 5}]])
@pytest.mark.parametrize("retry_after", [None, "x", float("inf"), -3])
def test_an_error_that_is_odd_is_told_all_the_same(
    params: Any, details: Any, retry_after: Any
) -> None:
    """By both, as JSON."""
    error = Odd()
    error.params, error.details, error.retry_after = params, details, retry_after
    status = to_grpc(error, ERRORS, domain="d")
    json.dumps([status, to_graphql(error, ERRORS)], allow_nan=False)
    assert status["details"][0]["reason"] == "TEST_ODD"
    delays = [part["retryDelay"] for part in status["details"] if "retryDelay" in part]
    assert delays == (["0.000s"] if retry_after == -3 else [])
