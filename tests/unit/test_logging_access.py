"""The access line: what it says, which are kept, and that the short way and the long way say the same."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendkit.core import context
from backendkit.core.context import Request
from backendkit.logging import AccessLog, AccessPolicy, Limits, bound, configure_logging
from tests.unit.test_logging_configure import Lines

CALL: dict[str, Any] = {"route": "/users/{id}", "size": 120, "client": "10.0.0.1"}


def asking(request_id: str = "r-1", **fields: Any) -> Request:
    """Return a request with bound fields."""
    request = Request(request_id)
    request.fields = fields
    return request


def test_what_a_line_says() -> None:
    """Route and path, because one groups and the other finds."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking(user_id=7), "GET", "/users/42", 200, 1_500, **CALL)
    record = out.one()
    assert record.pop("timestamp")
    assert record == {
        "level": "info", "event": "request", "logger": "backendkit.access", "method": "GET", "route": "/users/{id}",
        "path": "/users/42", "status": 200, "duration_ms": 1.5, "bytes": 120, "client": "10.0.0.1", "request_id": "r-1",
        "user_id": 7,
    }  # fmt: skip


texts = st.text(st.characters(codec=None), max_size=40)


@given(
    st.fixed_dictionaries(
        {
            "method": texts,
            "path": texts,
            "route": st.none() | texts,
            "status": st.integers(100, 599),
            "duration_us": st.integers(0, 10**12),
            "size": st.none() | st.integers(0, 10**12),
            "client": st.none() | texts,
            "rid": texts,
        }
    ),
    st.dictionaries(texts, texts | st.integers() | st.floats() | st.lists(texts), max_size=4),
)
def test_the_short_way_says_what_the_long_way_says(told: Any, fields: Any) -> None:
    """One has prepared pieces, the other is what every record takes: any difference would be a bug of one."""
    found: list[Any] = []
    for processors in ([], [lambda _logger, _method, event_dict: event_dict]):
        out = io.BytesIO()
        with configure_logging(stream=out, processors=processors):
            AccessLog().write(
                asking(told["rid"], **fields), **{k: v for k, v in told.items() if k != "rid"}
            )
        (line,) = out.getvalue().decode().splitlines()
        record = json.loads(line, parse_constant=pytest.fail)
        record.pop("timestamp")
        found.append(record)
    assert found[0] == found[1]


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (399, "info"), (404, "warning"), (499, "warning"), (500, "error")])  # fmt: skip
def test_the_level_follows_the_status(status: int, level: str) -> None:
    """Alarms watch levels."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking(), "GET", "/", status, 1)
    assert out.one()["level"] == level


def test_levels_leave_lines_out() -> None:
    """By policy, by the level of all, and by that of the logger."""
    out = Lines()
    quiet = AccessLog(AccessPolicy(levels=("error", "info", "debug")))
    with configure_logging(stream=out, levels={"backendkit.access": "error"}):
        AccessLog().write(asking(), "GET", "/", 404, 1)
    with configure_logging(stream=out):
        quiet.write(asking(), "GET", "/", 200, 1)
    assert out.records() == []


def test_sampling_keeps_what_matters() -> None:
    """Errors and slow requests are what one looks for; what stands for others says for how many."""
    out = Lines()
    access = AccessLog(AccessPolicy(sample=0.0, slow=0.5))
    with configure_logging(stream=out):
        access.write(asking(), "GET", "/", 200, 499_999)
        assert out.records() == []
        access.write(asking(), "GET", "/", 200, 500_000)
        access.write(asking(), "GET", "/", 400, 1)
        assert ["sample_rate" in record for record in out.records()] == [False, False]
        drawn = AccessLog(AccessPolicy(sample=0.5), chance=iter([0.4, 0.6]).__next__)
        drawn.write(asking("a"), "GET", "/", 200, 1)
        drawn.write(asking("a"), "GET", "/", 200, 1)
        assert out.one()["sample_rate"] == 0.5
        AccessLog(AccessPolicy(sample=0.1)).write(None, "GET", "/", 200, 1)
        assert "request_id" not in out.one()


def test_the_request_id_decides_alike_everywhere() -> None:
    """So that the lines of one request are kept by all services, or by none."""
    out = Lines()
    with configure_logging(stream=out):
        for _ in range(2):
            access = AccessLog(AccessPolicy(sample=0.25))
            for number in range(2_000):
                access.write(asking(f"{number:032x}"), "GET", "/", 200, 1)
    kept = [record["request_id"] for record in out.records()]
    assert kept[: len(kept) // 2] == kept[len(kept) // 2 :]
    assert 350 < len(kept) / 2 < 650


def test_probes_are_left_out_unless_they_fail() -> None:
    """They come every second from every balancer."""
    out = Lines()
    access = AccessLog(AccessPolicy(exclude=frozenset({"/healthz"})))
    with configure_logging(stream=out):
        access.write(asking(), "GET", "/healthz", 200, 5_000_000)
        access.write(asking(), "GET", "/x", 200, 1)
        access.write(asking(), "GET", "/healthz", 503, 1)
    assert [record["status"] for record in out.records()] == [200, 503]


def test_bound_fields_do_not_pose_as_the_line() -> None:
    """Neither on the short way nor on the long one."""
    for processors in ((), (lambda _l, _m, event_dict: event_dict,)):
        out = Lines()
        with configure_logging(stream=out, processors=processors):
            AccessLog().write(asking(status=1, level="x", password="p"), "GET", "/", 200, 1)
        record = out.one()
        assert (record["status"], record["status_"], record["level_"]) == (200, 1, "x")
        assert record["password"] == "[redacted]"


def test_traces_show_on_the_line() -> None:
    """From the header that the frame binds."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(
            asking(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"), "GET", "/", 200, 1
        )
    record = out.one()
    assert record["trace_id"] == "a" * 32
    assert "traceparent" not in record


def test_secrets_in_paths_and_ids_are_masked() -> None:
    """Clients choose both."""
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0"
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking(jwt), "GET", f"/reset/{jwt}", 200, 1)
        AccessLog().write(asking("x" * 128), "GET", "/é" * 300, 200, 1)
    assert "eyJ" not in json.dumps(out.records())


def test_long_lines_take_the_long_way() -> None:
    """Which cuts them."""
    out = Lines()
    with configure_logging(stream=out, limits=Limits(line=1_024)):
        AccessLog().write(asking(a="x" * 3_000), "GET", "/", 200, 1)
    assert out.one()["cut_bytes"] > 3_000


def test_without_a_request_the_context_tells() -> None:
    """As where a job writes a line of its own."""
    out = Lines()
    with configure_logging(stream=out), bound(job=5):
        AccessLog().write(None, "JOB", "/", 200, 1)
        token = context.enter(request := Request("r-2"))
        AccessLog().write(None, "JOB", "/", 200, 1)
        context.leave(request, token)
    first, second = out.records()
    assert first["job"] == second["job"] == 5
    assert second["request_id"] == "r-2"


def test_methods_without_end_take_no_memory() -> None:
    """Clients may send any."""
    access = AccessLog()
    with configure_logging(stream=io.BytesIO()):
        for number in range(3_000):
            access.write(asking(), f"M{number}", "/", 200, 1)
    assert len(access._heads) <= 1_024


def test_without_configuration_the_standard_library_tells(caplog: pytest.LogCaptureFixture) -> None:
    """A kit may be used by an application that logs in its own way."""
    caplog.set_level("INFO")
    AccessLog().write(asking(user_id=7), "GET", "/users/42", 200, 1_500)
    assert "request method='GET' path='/users/42' status=200" in caplog.text
    assert caplog.records[0].name == "backendkit.access"


def test_the_line_follows_the_configuration() -> None:
    """A kit lives longer than a test's configuration."""
    access = AccessLog()
    for _ in range(2):
        out = Lines()
        with configure_logging(stream=out):
            access.write(asking(), "GET", "/", 200, 1)
        assert out.one()["status"] == 200


@pytest.mark.parametrize("call", [("GET", "/", "x", 1), ("GET", "/", 200, "x"), (5, None, 200, 1), ("GET", "/", None, None)])  # fmt: skip
def test_a_wrong_call_writes_a_line(call: Any) -> None:
    """The request is over; whatever is said about it, it must not fail."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking(), *call)
    assert out.one()["event"] == "request"
    AccessLog(AccessPolicy(sample=0.5), chance=lambda: 1 / 0).write(asking(), "GET", "/", 200, 1)


def test_a_handler_that_raises_does_not_reach_the_frame() -> None:
    """Without a configuration of ours others' handlers write."""

    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("x")

    log, broken = logging.getLogger("backendkit.access"), Broken()
    log.addFilter(broken)
    log.setLevel("INFO")
    try:
        AccessLog().write(asking(), "GET", "/", 200, 1)
    finally:
        log.removeFilter(broken)
        log.setLevel("NOTSET")


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), 1.5])
def test_a_duration_that_is_no_int_makes_no_bad_json(duration: Any) -> None:
    """What JSON has no word for is null."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking(), "GET", "/", 200, duration)
    assert out.one()["status"] == 200


def test_half_a_surrogate_pair_in_an_id_is_escaped_by_the_short_way_as_well() -> None:
    """Strict readers of JSON refuse it."""
    out = Lines()
    with configure_logging(stream=out):
        AccessLog().write(asking("\ud800"), "GET", "/", 200, 1)
    assert out.one()["request_id"] == "\\ud800"
