"""Logging is set up once, takes everybody's records, and can be undone."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.config
import logging.handlers
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Event, Hooks
from backendkit.logging import (
    AlreadyConfigured,
    Limits,
    RecordHandler,
    Redaction,
    StampContext,
    Tracebacks,
    add_trace,
    audit,
    bound,
    configure_logging,
    configured,
    get_logger,
    log_events,
    merge_context,
    trace_fields,
    unhandled,
)
from backendkit.logging.bridge import Structured
from backendkit.logging.policy import AccessPolicy
from backendkit.logging.processors import Timestamps, span_fields


class Lines(io.StringIO):
    """A stream whose lines are read back as records."""

    def records(self) -> list[dict[str, Any]]:
        """Return what was written since the last call."""
        found = [json.loads(line) for line in self.getvalue().splitlines()]
        self.seek(0)
        self.truncate()
        return found

    def one(self) -> dict[str, Any]:
        """Return the one record that was written."""
        (record,) = self.records()
        return record


def ours() -> logging.Handler:
    """Return the handler of the configuration in force."""
    return next(h for h in logging.getLogger().handlers if isinstance(h, RecordHandler))


@pytest.fixture
def out() -> Iterator[Lines]:
    """Logging, configured on a stream that the test reads."""
    lines = Lines()
    with configure_logging(stream=lines, level="info"):
        yield lines


def test_a_record_has_its_fields_in_order(out: Lines) -> None:
    """What is always there comes first, so that eyes find it."""
    get_logger("app", shop=3).info("order placed", order="o-1")
    assert list(out.one()) == ["timestamp", "level", "event", "logger", "shop", "order"]


def test_timestamps_come_from_the_clock() -> None:
    """RFC 3339 in UTC with microseconds, also when the second changes."""
    clock = ManualClock(wall_us=1_763_520_480_000_001)
    times = Timestamps(clock)
    assert times.text() == times.text() == "2025-11-19T02:48:00.000001Z"
    clock.advance(59_999_999)
    assert times(None, "info", {})["timestamp"] == "2025-11-19T02:49:00.000000Z"
    out = Lines()
    with configure_logging(stream=out, clock=clock):
        logging.getLogger("x").error("a")
    assert out.one()["timestamp"] == "2025-11-19T02:49:00.000000Z"


def test_fields_do_not_pose_as_ours(out: Lines) -> None:
    """A client's value under `level` must not forge a record."""
    get_logger().info("a", level="critical", timestamp="1", logger="x", exception="none")
    record = out.one()
    assert record["level"] == "info"
    assert record["level_"] == "critical"
    assert record["logger_"] == "x"
    assert record["exception_"] == "none"
    bare: Any = get_logger()
    bare.bind(event="b").info("a", event="c")
    assert out.one()["event"] == "a"
    bare.info(event="b")
    assert out.one()["event"] == "b"


def test_the_same_call_again_does_nothing_and_another_raises(out: Lines) -> None:
    """Two parts of a program that disagree about logging must learn of it."""
    found = configured()
    assert configure_logging(stream=out) is found
    with pytest.raises(AlreadyConfigured, match="level, queue") as raised:
        configure_logging(stream=out, level="debug", queue=5)
    assert raised.value.differing == ("level", "queue")
    assert "To fix it" in str(raised.value)


def test_undo_puts_everything_back() -> None:
    """Tests configure logging often; each must find what was there before."""
    root = logging.getLogger()
    mine = logging.StreamHandler(io.StringIO())
    root.addHandler(mine)
    logging.getLogger("some.where").setLevel("CRITICAL")
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    try:
        before = root.handlers[:], root.level, structlog.get_config()
        with configure_logging(
            stream=io.StringIO(), level="debug", levels={"some.where": "error"}
        ) as now:
            assert mine not in root.handlers
            assert logging.getLogger("some.where").level == logging.ERROR
            assert root.level == logging.DEBUG
        assert (set(root.handlers), root.level) == (set(before[0]), before[1])
        assert structlog.get_config() == before[2]
        assert logging.getLogger("some.where").level == logging.CRITICAL
        assert logging.getLogger("uvicorn.access").filters == []
        assert configured() is None
        now.undo()
    finally:
        root.removeHandler(mine)
        logging.getLogger("some.where").setLevel("NOTSET")
        structlog.reset_defaults()


def test_loggers_follow_a_new_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Module-level loggers live as long as the process, configurations as long as a test."""
    early: Any = get_logger("early")
    theirs = structlog.get_logger("theirs")
    for level in ("info", "warning", "debug"):
        out = Lines()
        with configure_logging(stream=out, level=level):
            early.debug("d")
            early.info("i")
            theirs.warning("w")
        written = [record["event"] for record in out.records()]
        assert written == {"info": ["i", "w"], "warning": ["w"], "debug": ["d", "i", "w"]}[level]
    early.info("unconfigured")
    theirs.error("unconfigured too")
    assert capsys.readouterr().out.count("unconfigured") == 2
    with pytest.raises(AttributeError):
        early.__wrapped__  # noqa: B018


@pytest.mark.parametrize("wrong", [{"format": "xml"}, {"level": "loud"}, {"queue": 0}, {"levels": {"a": "b"}}])  # fmt: skip
def test_wrong_options_are_refused(wrong: Any) -> None:
    """Nothing is put in force by a call that fails."""
    with pytest.raises(InvalidArgument):
        configure_logging(**wrong)
    assert configured() is None


def test_limits_and_policies_are_checked() -> None:
    """Each names the argument."""
    with pytest.raises(InvalidArgument, match="depth"):
        Limits(depth=0)
    for wrong in ({"sample": float("nan")}, {"sample": True}, {"sample": 2}, {"exclude": "/x"}, {"levels": ("a", "b", "c")}):  # fmt: skip
        with pytest.raises(InvalidArgument):
            AccessPolicy(**wrong)


def test_every_method_writes_and_none_raises(out: Lines) -> None:
    """A call that is wrong still says that something happened."""
    log: Any = get_logger()
    log.msg("a")
    log.warn("b")  # noqa: G010 - structlog has it
    log.fatal("c")
    log.log(35, "d")
    log.log(7, "not reached")
    log.debug("not reached")
    log.info("e %s", "x")
    log.info("f %(a)s", {"a": 1})
    log.info("g %d", "no number")
    log.exception("h")  # noqa: LOG004 - as somebody may
    log.exception(event="i", exc_info=False)  # noqa: LOG004, LOG007 - likewise
    found = [(record["level"], record["event"]) for record in out.records()]
    assert found == [
        ("info", "a"), ("warning", "b"), ("critical", "c"), ("warning", "d"), ("info", "e x"), ("info", "f 1"),
        ("info", "g %d"), ("error", "h"), ("error", "i"),
    ]  # fmt: skip
    assert log.is_enabled_for(20)
    assert not log.is_enabled_for(10)


def test_awaited_methods_write_as_well(out: Lines) -> None:
    """They exist for code that was written for structlog."""

    async def work() -> None:
        await get_logger().ainfo("a")
        await get_logger().alog(40, "b")
        await get_logger().adebug("c")

    asyncio.run(work())
    assert [record["event"] for record in out.records()] == ["a", "b"]


def test_capture_logs_works(out: Lines) -> None:
    """Applications test their records with structlog's own tools."""
    log = get_logger()
    log.info("before")
    with capture_logs() as captured:
        log.info("a", b=1)
    assert captured == [{"event": "a", "b": 1, "log_level": "info"}]
    assert out.one()["event"] == "before"


def test_a_processor_that_fails_in_structlogs_chain_loses_nothing(out: Lines) -> None:
    """Somebody may have put one before ours."""
    log = get_logger()
    log.info("a")
    chain = structlog.get_config()["processors"]
    chain.insert(0, lambda *_: 1 / 0)
    log.info("b", c=1)
    chain[0] = lambda _logger, _method, event_dict: event_dict
    log.info("d")
    chain.pop(0)
    assert [record["event"] for record in out.records()] == ["a", "b", "d"]


def test_processors_of_ones_own_see_each_record() -> None:
    """They add, change and drop; what they add is redacted, and one that fails is left out."""

    def add(logger: object, method: str, event_dict: Any) -> Any:
        assert event_dict["level"] == method
        return {**event_dict, "password": "x", "node": 7, "logger": "changed"}

    def drop(logger: object, method: str, event_dict: Any) -> Any:
        if event_dict["event"] == "noise":
            raise structlog.DropEvent
        return event_dict

    def fail(logger: object, method: str, event_dict: Any) -> Any:
        raise RuntimeError("x")

    def render(logger: object, method: str, event_dict: Any) -> Any:
        return "a line"

    out = Lines()
    with configure_logging(stream=out, processors=[add, drop, fail, render]):
        get_logger().info("a", level="forged")
        logging.getLogger("std").warning("noise")
        logging.getLogger("std").warning("b")
    first, second = out.records()
    assert first["node"] == 7
    assert first["password"] == "[redacted]"
    assert first["level"] == "info"
    assert first["level_"] == "forged"
    assert first["processor_failed"] == "RuntimeError"
    assert second["event"] == "b"


def test_records_of_the_standard_library(out: Lines) -> None:
    """`extra`, `exc_info`, `stack_info`, levels of one's own, arguments that do not fit."""
    log = logging.getLogger("std")
    log.info("user %(name)s with %(password)s", {"name": "bob", "password": "x"}, extra={"a": 1})
    assert out.one() | {"timestamp": 0} == {
        "timestamp": 0, "level": "info", "event": "user bob with x", "logger": "std", "a": 1,
    }  # fmt: skip
    log.info("login %s", {"password": "hunter2"})
    assert "hunter2" not in out.one()["event"]
    ours().handle(
        logging.makeLogRecord({"msg": "%d", "args": ("x",), "levelno": 20, "name": "std"})
    )
    assert out.one()["event"] == "%d [its arguments do not fit]"
    log.log(35, "between", stack_info=True)
    record = out.one()
    assert record["level"] == "level_35"
    assert "test_logging_configure" in record["stack"]
    log.info({"a": (1, 2)})
    assert "a" in out.one()["event"]
    log.debug("not reached")
    assert out.records() == []


def test_a_wiped_traceback_is_told_from_where_it_was_taken(out: Lines) -> None:
    """Frameworks wipe `__traceback__` from errors that they have handled."""
    try:
        raise ValueError("x")  # noqa: TRY301 - raised to be caught
    except ValueError as error:
        taken = error.__traceback__
        wiped = error.with_traceback(None)
    unhandled(wiped, "GET /x", taken, code="Y")
    record = out.one()
    assert record["where"] == "GET /x"
    assert "test_a_wiped_traceback" in record["exception"]["stacktrace"]
    assert record["exception"]["type"] == "ValueError"
    unhandled(wiped, "GET /x")
    assert out.one()["exception"]["stacktrace"] == "ValueError: x"
    logging.getLogger().error("none", exc_info=True)  # noqa: LOG014 - as somebody may
    assert "exception" not in out.one()


def test_a_record_from_a_queue_keeps_its_context(out: Lines) -> None:
    """`QueueHandler` hands records to another thread, where nothing is bound."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(StampContext())
    log = logging.getLogger("queued")
    log.addHandler(handler)
    log.propagate = False
    try:
        with bound(job="j-1"):
            try:
                raise ValueError("x")  # noqa: TRY301 - raised to be caught
            except ValueError:
                log.exception("a %s", "b")
        worker = threading.Thread(target=lambda: ours().handle(records.get()))
        worker.start()
        worker.join()
    finally:
        log.removeHandler(handler)
        log.propagate = True
    record = out.one()
    assert record["job"] == "j-1"
    assert "job_" not in record
    assert "ValueError: x" in record["event"]
    ours().handle(logging.makeLogRecord({"msg": "m", "exc_text": "from elsewhere"}))
    assert out.one()["exc_text"] == "from elsewhere"


def test_stamps_serve_formats_of_others() -> None:
    """`%(request_id)s` works with any handler, inside a request and outside."""
    record = logging.makeLogRecord({"msg": "m"})
    with bound(user="u", name="kept"):
        assert StampContext().filter(record)
    assert logging.Formatter("%(user)s %(request_id)s").format(record) == "u None"


SERVER_SETUPS: list[Any] = ["before", "after"]


@pytest.mark.parametrize("order", SERVER_SETUPS)
def test_uvicorns_own_set_up_makes_no_difference(order: str) -> None:
    """It configures its loggers before it imports the application, or after the script has configured ours."""
    from uvicorn.config import LOGGING_CONFIG

    theirs = json.loads(json.dumps(LOGGING_CONFIG))
    out = Lines()
    if order == "before":
        logging.config.dictConfig(theirs)
    try:
        with configure_logging(stream=out):
            if order == "after":
                logging.config.dictConfig(theirs)
            logging.getLogger("uvicorn.error").info("started", extra={"color_message": "\x1b[1mx"})
            logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4", "GET", "/x?token=abc", "1.1", 200)  # fmt: skip
            logging.getLogger("uvicorn.error").debug("not reached")
        found = out.records()
    finally:
        for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
            logging.getLogger(name).setLevel("NOTSET")
    assert [record["logger"] for record in found] == ["uvicorn.error", "uvicorn.access"]
    assert "color_message" not in found[0]
    assert "abc" not in found[1]["event"]


def test_gunicorns_own_set_up_makes_no_difference() -> None:
    """It gives its loggers handlers and no propagation."""
    from gunicorn.config import Config  # type: ignore[import-untyped]  # has none
    from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # has none

    out = Lines()
    config = Config()
    config.set("accesslog", "-")
    with configure_logging(stream=out):
        logger = Logger(config)
        logger.info("Booting worker with pid: %d", 5)
        logger.access_log.info("GET / 200")
    for name in ("gunicorn.error", "gunicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    found = [(record["logger"], record["event"]) for record in out.records()]
    assert found == [
        ("gunicorn.error", "Booting worker with pid: 5"),
        ("gunicorn.access", "GET / 200"),
    ]


def test_server_access_lines_can_be_left_out() -> None:
    """Ours says more; two lines a request are one too many."""
    from werkzeug._internal import _log

    out = Lines()
    with configure_logging(stream=out, server_access=False):
        logging.getLogger("uvicorn.access").error("GET / 200")
        logging.getLogger("gunicorn.access").error("GET / 200")
        logging.getLogger("werkzeug").info(
            '127.0.0.1 - - [20/Nov/2026 10:00:00] "%s" %s %s', "GET", 200, "-"
        )
        _log("info", "\x1b[31m\x1b[1m * Running on %s\x1b[0m", "http://x")
    assert [record["event"] for record in out.records()] == [" * Running on http://x"]


def test_audit_events_have_a_stream_of_their_own() -> None:
    """Who did what to which; never filtered, never sampled, never queued."""
    out, apart = Lines(), Lines()
    with (
        configure_logging(stream=out, audit_stream=apart, level="critical", queue=10) as now,
        bound(user_id=7),
    ):
        assert audit("user.delete", "user:42", "denied", reason="not yours", password="x")
        assert now.lost == 0
    record = apart.one()
    assert (record["action"], record["target"], record["outcome"], record["actor"]) == (
        "user.delete", "user:42", "denied", 7,
    )  # fmt: skip
    assert record["password"] == "[redacted]"
    assert record["user_id"] == 7
    assert out.records() == []
    with configure_logging(stream=out) as now:
        assert audit("a", "b", "success", actor="root")
        assert now.lost == 0
    assert out.one()["actor"] == "root"


def test_audit_events_without_configuration(caplog: pytest.LogCaptureFixture) -> None:
    """They are told by the standard library; whether anybody hears is up to its configuration."""
    caplog.set_level("INFO")
    assert audit("a", "b", "failure")
    assert "audit action='a' target='b' outcome='failure'" in caplog.text


def test_an_audit_event_that_a_handler_refuses_is_known_to_be_lost() -> None:
    """The caller may refuse to act unless it is told."""

    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("x")

    log = logging.getLogger("backendkit.audit")
    broken = Broken()
    log.addFilter(broken)
    log.setLevel("INFO")
    try:
        assert not audit("a", "b", "success")
    finally:
        log.removeFilter(broken)
        log.setLevel("NOTSET")


def test_events_become_records(out: Lines) -> None:
    """Features emit events and know no log."""
    from dataclasses import dataclass

    @dataclass(frozen=True, slots=True)
    class BreakerOpened(Event):
        name: str
        token: str = "x"

    @dataclass(frozen=True, slots=True)
    class Worse(BreakerOpened):
        pass

    BreakerOpened.__module__ = Worse.__module__ = "backendkit.resilience.events"
    hooks = Hooks()
    end = log_events(hooks, levels={Worse: "error", BreakerOpened: "debug"})
    hooks.emit(BreakerOpened("payments"))
    hooks.emit(Worse("payments"))
    record = out.one()
    assert (record["event"], record["level"], record["logger"]) == (
        "worse",
        "error",
        "backendkit.resilience",
    )
    assert (record["name"], record["token"]) == ("payments", "[redacted]")
    end()
    hooks.emit(Worse("payments"))
    assert out.records() == []


def test_the_console_format_and_auto() -> None:
    """`auto` is JSON wherever nobody watches."""
    out = io.StringIO()
    with configure_logging("console", stream=out, colours=True):
        get_logger().info("a", b=1)
    assert "\x1b[32minfo" in out.getvalue()
    lines = Lines()
    with configure_logging("auto", stream=lines):
        get_logger().info("a")
    assert lines.one()["event"] == "a"


def test_processors_serve_in_a_chain_of_ones_own() -> None:
    """Each is a structlog processor like any other."""
    said: Any = {
        "event": "e",
        "user_id": 1,
        "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    }
    with bound(user_id=2, shop=3):
        merged = merge_context(None, "info", said)
    assert (merged["user_id"], merged["shop"]) == (1, 3)
    assert add_trace(None, "info", merged)["trace_id"] == "a" * 32
    assert add_trace(None, "info", {"a": 1}) == {"a": 1}
    try:
        raise ValueError("x")  # noqa: TRY301 - raised to be caught
    except ValueError:
        told = Tracebacks()(None, "error", {"exc_info": True})
    assert told["exception"]["type"] == "ValueError"
    assert Tracebacks()(None, "error", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "unsound",
    ["", None, 5, "00-" + "0" * 32 + "-" + "b" * 16 + "-01", "00-" + "a" * 32 + "-" + "0" * 16 + "-01",
     "ff-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "a" * 32 + "-" + "b" * 16 + "-01-x", "00-" + "A" * 32 + "-" + "b" * 16 + "-01"],
)  # fmt: skip
def test_an_unsound_traceparent_is_none(unsound: object) -> None:
    """W3C Trace Context says so."""
    assert trace_fields(unsound) == {}


def test_a_later_version_of_traceparent_is_read() -> None:
    """What follows the flags is then allowed."""
    assert trace_fields("01-" + "a" * 32 + "-" + "b" * 16 + "-01-x")["span_id"] == "b" * 16


def test_the_current_span_wins_over_the_header(out: Lines) -> None:
    """A span of this process is nearer than the caller's."""
    trace = pytest.importorskip("opentelemetry.trace")
    span = trace.NonRecordingSpan(
        trace.SpanContext(int("c" * 32, 16), int("d" * 16, 16), is_remote=False)
    )
    with trace.use_span(span), bound(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"):
        get_logger().info("a")
    record = out.one()
    assert (record["trace_id"], record["span_id"]) == ("c" * 32, "d" * 16)
    assert "traceparent" not in record
    with bound(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"):
        get_logger().info("a")
    assert out.one()["trace_id"] == "a" * 32


def test_a_broken_tracer_fails_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have half of OpenTelemetry."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())
    assert span_fields() is None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert span_fields() is None


def test_the_last_resort_is_a_line(out: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks inside, the call is known to have happened."""
    now = configured()
    assert now is not None
    monkeypatch.setattr(now.pipeline.cleaner.__class__, "fields", lambda *_: 1 / 0)
    get_logger().info("a")
    assert out.one()["logging_failed"] is True
    bare: Any = get_logger()
    bare.info(object())
    assert out.one()["event"] == "<unprintable event>"
    monkeypatch.setattr(now.pipeline.timestamps.__class__, "text", lambda *_: 1 / 0)
    get_logger().info("a")
    assert out.one() == {"event": "<unprintable event>", "logging_failed": True}


def test_near_the_end_of_the_stack_there_is_still_a_line(out: Lines) -> None:
    """A RecursionError is logged where it is caught, which may be deep."""
    handler = ours()
    record = logging.makeLogRecord(
        {"msg": "deep", "levelno": 40, "levelname": "ERROR", "name": "x"}
    )
    told: list[int] = []

    def deep() -> None:
        try:
            deep()
        except RecursionError:
            if len(told) < 200:
                told.append(0)
                handler.emit(record)
            raise

    with pytest.raises(RecursionError):
        deep()
    assert [line["event"] for line in out.records()][-1] == "deep"


def test_redaction_rules_reach_every_record() -> None:
    """Options given once hold for all doors."""
    out = Lines()
    with configure_logging(
        stream=out, redaction=Redaction().also("plate"), limits=Limits(string=64)
    ):
        logging.getLogger("x").warning("a", extra={"plate": "B-1", "long": "x" * 99})
    record = out.one()
    assert record["plate"] == "[redacted]"
    assert record["long"].endswith("[35 more characters]")


def test_a_servers_record_that_cannot_be_shown_is_written_where_its_access_lines_are_not() -> None:
    """It raised where somebody had only logged."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    out = Lines()
    with configure_logging(stream=out, server_access=False):
        logging.getLogger("werkzeug").info(Hostile())
    assert "Hostile" in out.one()["event"]


def test_audit_events_outlive_what_empties_the_root_logger() -> None:
    """As Alembic's `fileConfig` does: they were lost, and said to be written; a second configuration was let in."""
    root = logging.getLogger()
    out = Lines()
    with configure_logging(stream=out) as first:
        handlers, root.handlers = root.handlers, []
        try:
            assert audit("user.delete", "user:42", "success")
            assert configure_logging(stream=out) is first
        finally:
            root.handlers = handlers
    assert out.one()["action"] == "user.delete"


def test_an_audit_event_that_nobody_takes_is_not_said_to_be_taken() -> None:
    """Without a configuration, nor a handler."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        assert not audit("user.delete", "user:42", "success")
    finally:
        root.handlers = handlers


def test_keys_break_no_line_of_other_peoples_handlers() -> None:
    """Nor what happened."""
    assert str(Structured("a\nb", {"k\nk": 1})) == "a\\nb k\\nk=1"


def migrate() -> None:
    """Do to logging what Alembic's `fileConfig`, or somebody's `dictConfig`, does."""
    quiet = {"class": "logging.NullHandler"}
    root = {"handlers": ["quiet"], "level": "WARNING"}
    logging.config.dictConfig({"version": 1, "handlers": {"quiet": quiet}, "root": root})


@pytest.fixture
def switched_off() -> Iterator[None]:
    """Switch on again, after the test, the loggers of others that `migrate` switches off."""
    known = [
        one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)
    ]
    before = [(one, one.disabled) for one in known]
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    for one, disabled in before:
        one.disabled = disabled
    logging.root.handlers, logging.root.level = handlers, level


@pytest.mark.usefixtures("switched_off")
def test_what_a_migration_has_taken_is_taken_back() -> None:
    """The root logger's handlers, its level, and the loggers that `dictConfig` switches off by default."""
    out = Lines()
    names = ("backendkit.access", "uvicorn.error", "backendkit.errors")
    for name in names:
        logging.getLogger(name)
    with configure_logging(stream=out) as first:
        migrate()
        logging.getLogger("shop.new").info("lost")
        assert out.records() == []
        assert configure_logging(stream=out) is first
        logging.getLogger("shop.new").info("told")
        for name in names:
            logging.getLogger(name).error("told")
        assert [record["event"] for record in out.records()] == ["told"] * 4
    first.attach()
    assert not any(isinstance(one, RecordHandler) for one in logging.root.handlers)


@pytest.mark.usefixtures("switched_off")
def test_an_unhandled_error_is_recorded_though_a_migration_has_switched_logging_off() -> None:
    """Nobody else tells it."""
    out = Lines()
    logging.getLogger("backendkit.errors")
    with configure_logging(stream=out):
        migrate()
        unhandled(ValueError("x"), "GET /x")
    assert [record["event"] for record in out.records()] == ["unhandled error"]


@pytest.mark.parametrize(
    ("name", "message", "args"),
    [
        ("uvicorn.access", '%s - "%s %s HTTP/%s" %d', ("1.2.3.4:5", "GET", "/a?q=hunter2", "1.1", 200)),
        ("uvicorn.error", '%s - "WebSocket %s" [accepted]', ("1.2.3.4:5", "/a?q=hunter2")),
        ("gunicorn.access", '1.2.3.4 - - "GET /a?q=hunter2 HTTP/1.1" 200 2 "http://b/?x=hunter2" "UA?"', ()),
        ("werkzeug", '1.2.3.4 - - [1/Jan] "GET /a?q=hunter2 HTTP/1.1" 200 -', ()),
    ],
)  # fmt: skip
def test_servers_access_lines_have_no_query(name: str, message: str, args: tuple[Any, ...]) -> None:
    """Any parameter may be a secret; which one is nobody's to know."""
    out = Lines()
    with configure_logging(stream=out):
        logging.getLogger(name).info(message, *args)
    event = out.one()["event"]
    assert "/a?***" in event
    assert "hunter2" not in event
    assert name != "gunicorn.access" or event.endswith('"http://b/?***" "UA?"')


QUIET = """
from backendkit.logging import AccessLog
from backendkit.http import report
AccessLog().write(None, "GET", "/nowhere", 404, 1000)
AccessLog().write(None, "GET", "/boom", 500, 1000)
report(ValueError("told"), "GET /boom")
"""


def test_where_nobody_configured_logging_access_lines_are_silent_and_errors_are_not() -> None:
    """Python prints what is a warning or worse, which each 404 would be."""
    run = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, check=True)
    assert "request" not in run.stderr
    assert "ValueError: told" in run.stderr
