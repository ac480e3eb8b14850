"""Logging beside structlog's usual set-ups and the standard library: what one record costs the request that makes it."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import structlog

from backendkit.core.context import Request
from backendkit.logging import (
    AccessLog,
    Redactor,
    Tracebacks,
    configure_logging,
    get_logger,
    unhandled,
)
from tests.benchmarks.measure import Cost, Duel, duel, median_cost
from tests.benchmarks.report import Row, write

TEXT = """
What one record costs the request that makes it, CPU time, lines written to `/dev/null`. Ours redacts, bounds and escapes every value,
adds the context and never raises; theirs does none of that. *Fastest* is structlog as its documentation on performance has it (bytes, orjson,
cached loggers), *typical* goes through the standard library by `ProcessorFormatter`, as its documentation on the standard library has it.
"""

Work = Callable[[int], None]


def page() -> str:
    """Measure everything and write the page."""
    sink = os.open(os.devnull, os.O_WRONLY)
    rows = [*_records(sink), *_access(sink), _redaction(), *_tracebacks(sink)]
    os.close(sink)
    return write("logging", "Logging", TEXT, rows, ["structlog", "orjson"])


def _records(sink: int) -> Iterator[Row]:
    with configure_logging(stream=sink):
        ours = get_logger("bench")
        debug = median_cost(_repeat(lambda: ours.debug("not written", order=1)), 100_000)
        yield _bound("filtered-out debug record", debug, 0.7)
    for name, set_up, target in (
        ("structlog, fastest", _structlog_fastest, 1.0),
        ("structlog, typical", _structlog_typical, 0.3),
    ):
        with set_up() as theirs:
            result = _alternating(sink, lambda: theirs)
            yield _against("info record with three fields", name, result, target)
    with _standard() as logger:
        result = _alternating(sink, lambda: _Extra(logger))
        yield _against("info record with three fields", "logging, JSON formatter", result, 1.0)


def _access(sink: int) -> Iterator[Row]:
    with configure_logging(stream=sink):
        access, number = AccessLog(), iter(range(10**9))

        def write_one() -> None:
            request = Request(f"{next(number):032x}")
            access.write(
                request,
                "GET",
                f"/users/{next(number)}",
                200,
                1_500,
                route="/users/{id}",
                size=120,
                client="10.0.0.1",
            )

        cost = median_cost(_repeat(write_one), 20_000)
        yield _bound("access line, a new path each", cost, 8.0)


def _redaction() -> Row:
    redact, paths = Redactor(), iter([f"/users/{number}" for number in range(200_000)])
    record = {
        "event": "request",
        "method": "GET",
        "route": "/users/{id}",
        "status": 200,
        "duration_ms": 1.5,
        "bytes": 120,
        "client": "10.0.0.1",
        "user_id": 7,
    }

    def clean() -> None:
        record["path"] = next(paths)
        redact.cleaner.fields(record)

    return _bound("redaction of an access line", median_cost(_repeat(clean), 15_000), 3.0)


def _tracebacks(sink: int) -> Iterator[Row]:
    error = _deep(21)
    ours = Tracebacks()
    result = duel(
        _repeat(lambda: ours.describe(error)),
        _repeat(lambda: "".join(traceback.format_exception(error))),
        500,
    )
    yield _against("traceback of 21 frames", "traceback.format_exception", result, 0.3)
    with configure_logging(stream=sink):
        again = median_cost(_repeat(lambda: unhandled(error, "GET /x")), 2_000)
        yield _bound("unhandled error, seen before", again, 60.0)
    first = median_cost(_repeat(lambda: Tracebacks().describe(error)), 500)
    yield _bound("traceback of 21 frames, never seen", first, 200.0)


class _Extra:
    """The standard library's logger, called as structlog's are."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def info(self, event: str, **fields: Any) -> None:
        """Log with the fields as `extra`."""
        self._logger.info(event, extra=fields)


def _alternating(sink: int, theirs: Callable[[], Any]) -> Duel:
    """Measure ours and theirs in turn; each has its own logger, and only ours needs the configuration."""
    rival = theirs()

    def they(calls: int) -> None:
        for number in range(calls):
            rival.info("order placed", order=number, total=12.5, item="book")

    with_ours = configure_logging(stream=sink)
    log = get_logger("bench")

    def we(calls: int) -> None:
        for number in range(calls):
            log.info("order placed", order=number, total=12.5, item="book")

    try:
        return duel(we, they, 10_000)
    finally:
        with_ours.undo()


@contextmanager
def _structlog_fastest() -> Iterator[Any]:
    with open(os.devnull, "wb") as file:  # noqa: PTH123 - no path, a device
        processors: list[Any] = [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ]
        wrapper = structlog.make_filtering_bound_logger(logging.INFO)
        yield structlog.wrap_logger(
            structlog.BytesLogger(file), processors=processors, wrapper_class=wrapper
        ).bind()


@contextmanager
def _structlog_typical() -> Iterator[Any]:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    final: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()]  # fmt: skip
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
    with _handled("bench.typical", formatter) as logger:
        yield structlog.wrap_logger(
            logger,
            processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.stdlib.BoundLogger,
        ).bind()


@contextmanager
def _standard() -> Iterator[logging.Logger]:
    class Json(logging.Formatter):
        """What most projects have written themselves."""

        def format(self, record: logging.LogRecord) -> str:
            known = vars(logging.makeLogRecord({}))
            extra = {key: value for key, value in vars(record).items() if key not in known}
            told = {"timestamp": self.formatTime(record), "level": record.levelname, "event": record.getMessage()}  # fmt: skip
            return json.dumps({**told, "logger": record.name, **extra})

    with _handled("bench.standard", Json()) as logger:
        yield logger


@contextmanager
def _handled(name: str, formatter: logging.Formatter) -> Iterator[logging.Logger]:
    logger = logging.getLogger(name)
    with open(os.devnull, "w") as file:  # noqa: PTH123 - no path, a device
        handler = logging.StreamHandler(file)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel("INFO")
        yield logger
        logger.removeHandler(handler)


def _deep(frames: int) -> BaseException:
    def down(left: int) -> None:
        if left:
            (down if left % 2 else other)(left - 1)
        else:
            raise ValueError("x")

    def other(left: int) -> None:
        down(left)

    try:
        down(frames)
    except ValueError as error:
        return error
    sys.exit("no error was raised")


def _repeat(call: Callable[[], object]) -> Work:
    def work(calls: int) -> None:
        for _ in range(calls):
            call()

    return work


def _bound(what: str, cost: Cost, bound: float) -> Row:
    return Row(what, f"{cost.cpu:.2f} us", "bound", f"{bound:g} us", cost.cpu / bound, 1.0)


def _against(what: str, rival: str, result: Duel, target: float) -> Row:
    return Row(
        f"{what}, beside {rival}",
        f"{result.ours.cpu:.1f} us",
        rival,
        f"{result.theirs.cpu:.1f} us",
        result.cpu_ratio,
        target,
    )
