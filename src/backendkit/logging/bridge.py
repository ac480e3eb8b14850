"""The standard library's records, those of servers included, on their way into the pipeline.

Servers set their loggers up by themselves, some before the application is imported and some after. A filter stays through
both: it hands each record to us and tells the server's own handlers that there is none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal

from backendkit.logging.carry import STAMP
from backendkit.logging.decide.lines import escape
from backendkit.logging.decide.values import Cleaner
from backendkit.logging.pipeline import Pipeline, Raised

SERVERS = (
    "gunicorn",
    "gunicorn.access",
    "gunicorn.error",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.asgi",
    "uvicorn.error",
    "werkzeug",
)
"""Loggers that servers give handlers of their own."""

ACCESS = frozenset({"gunicorn.access", "uvicorn.access"})
"""Those of them that tell nothing but requests."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",  # uvicorn's message once more, for terminals
    STAMP,
}
_LEVELS: Mapping[int, str] = {
    10: "debug",
    20: "info",
    30: "warning",
    40: "error",
    50: "critical",
}
_COLOURS = re.compile(r"\x1b\[[0-9;]{0,16}m")
# `"GET /users?token=x HTTP/1.1"`, `"WebSocket /ws?token=x"`, and the page that led to it, `"https://a.example/?token=x"`.
_QUERY = re.compile(r'("(?:[A-Za-z]{1,32} )?(?:/|https?:)[^"?\s]*)\?[^"\s]*')
_REQUEST_LINE = re.compile(r'\S+ - - \[[^\]]*\] "')


class _NoLock:
    """A lock for who needs none."""

    def acquire(self) -> Literal[True]:
        return True

    def release(self) -> None:
        return None

    def __enter__(self) -> Literal[True]:
        return True

    def __exit__(self, *exc: object) -> None:
        return None


class Structured:
    """A message with fields. Other people's handlers show it as text, without secrets: `saved user_id=7`.

    Args:
        event: what happened.
        fields: what else is to be said.
    """

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        # Made anew each time, which costs 50 us: only where logging was not configured here is this asked.
        clean = Cleaner().fields(self.fields)
        pairs = (f"{escape(key)}={value!r}" for key, value in clean.items())
        return " ".join([escape(self.event), *pairs])


class RecordHandler(logging.Handler):
    """Writes records of the standard library through a pipeline. Has no lock of its own: the writer has one.

    Args:
        pipeline: where they go.
        server_access: whether the access lines of servers are written.
    """

    def __init__(self, pipeline: Pipeline, *, server_access: bool = True) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.server_access = server_access

    def createLock(self) -> None:  # noqa: N802 - its base's name
        """Create one that never waits: a record is written by one call to the operating system."""
        self.lock = _NoLock()  # type: ignore[assignment] # 3.13 takes it by `with`, older ones by name

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Never raises."""
        try:
            if not self.server_access and _tells_a_request(record):
                return
            event, fields = _told(record)
            raised = _raised(record.exc_info)
        except Exception:  # noqa: BLE001 - `%` on hostile arguments may raise anything
            event, fields, raised = _untold(record), {}, None
        level = _LEVELS.get(record.levelno) or _level(record)
        stamped = record.__dict__.get(STAMP)
        self.pipeline.record(
            level, event, fields, logger=record.name, raised=raised, context_fields=stamped
        )


class Divert(logging.Filter):
    """Takes a server's records from its logger to a handler of ours, whichever handlers it has or will get.

    Args:
        handler: where they go instead.
    """

    def __init__(self, handler: RecordHandler) -> None:
        super().__init__()
        self.handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        """Write `record`, and tell the logger that there is nothing to handle."""
        if record.levelno >= self.handler.pipeline.level:
            self.handler.handle(record)
        return False


def divert_servers(handler: RecordHandler) -> list[tuple[logging.Logger, Divert]]:
    """Divert all servers' loggers to `handler`; return what `restore` needs."""
    diverted: list[tuple[logging.Logger, Divert]] = []
    for name in SERVERS:
        logger = logging.getLogger(name)
        divert = Divert(handler)
        logger.addFilter(divert)
        diverted.append((logger, divert))
    return diverted


def _tells_a_request(record: logging.LogRecord) -> bool:
    if record.name in ACCESS:
        return True
    return (
        record.name == "werkzeug"
        and record.levelno == logging.INFO
        and _REQUEST_LINE.match(str(record.msg)) is not None
    )


def _told(record: logging.LogRecord) -> tuple[object, dict[str, Any]]:
    """Return event and fields of a record."""
    message = record.msg
    fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    stamped = record.__dict__.get(STAMP)
    if stamped:
        fields = {key: value for key, value in fields.items() if key not in stamped}
    if record.stack_info:
        fields["stack"] = record.stack_info
    if isinstance(message, Structured):
        return message.event, {**fields, **message.fields}
    text = record.getMessage()
    if record.name in SERVERS:
        text = _by_a_server(text)
    if record.exc_info is None and record.exc_text:  # a QueueHandler has made text of the traceback
        fields["exc_text"] = record.exc_text
    return text, fields


def _by_a_server(text: str) -> str:
    """Return a server's message without colours, and without the query of the address that was asked for."""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    return _QUERY.sub(r"\1?***", text) if "?" in text else text


def _raised(
    info: tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
    | None,
) -> Raised | None:
    if not info or info[1] is None:
        return None
    return info[1], info[2]


def _untold(record: logging.LogRecord) -> object:
    """Return what can be said of a record whose arguments do not fit its message."""
    return f"{record.msg} [its arguments do not fit]" if type(record.msg) is str else record.msg


def _level(record: logging.LogRecord) -> str:
    """Return the name of a level that somebody has added."""
    return str(record.levelname).lower().replace(" ", "_")[:32]
