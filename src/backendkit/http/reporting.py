"""Telling operators about an error that clients are told nothing of: once, with its traceback.

The frames swallow what they answer, so whoever watches for exceptions that propagate would see none. They are told
here: the log, the current OpenTelemetry span, Sentry. Neither is imported; an application that uses them has.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from backendkit.core.errors import AppError
from backendkit.logging.unhandled import unhandled

logger = logging.getLogger("backendkit.errors")


class Report(Protocol):
    """Called once for each unhandled error, while its traceback is still there; must not raise."""

    def __call__(self, exc: BaseException, where: str) -> object:
        """Tell that `exc` went unhandled in `where`, like `GET /users`."""
        ...


def report(exc: BaseException, where: str) -> None:
    """Log `exc` with its traceback, put it on the current OpenTelemetry span, hand it to Sentry. Never raises."""
    _tell((_log, _to_span, _to_sentry), exc, where)


def report_beside_span(exc: BaseException, where: str) -> None:
    """Report `exc` where instrumentation puts it on the span by itself. Never raises."""
    _tell((_log, _to_sentry), exc, where)


def _tell(
    tellers: Iterable[Callable[[BaseException, str], None]], exc: BaseException, where: str
) -> None:
    for tell in tellers:
        try:
            tell(exc, where)
        except Exception:  # noqa: BLE001 - the request must be answered whatever the watchers do
            _complain(tell.__name__)


def note(error: AppError, where: str) -> None:
    """Log an error of the application's own that says that the server is at fault: one line, no traceback."""
    logger.warning("%s %d in %s: %s", error.code, error.status, where, error)


def _log(exc: BaseException, where: str) -> None:
    unhandled(exc, where)


def _to_span(exc: BaseException, _: str) -> None:
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return
    span = trace.get_current_span()
    if span.is_recording():
        span.record_exception(exc)
        span.set_status(trace.StatusCode.ERROR)


def _to_sentry(exc: BaseException, _: str) -> None:
    sentry: Any = sys.modules.get("sentry_sdk")
    if sentry is None:
        return
    # Loaded is not set up, and a capture prepares the whole event, in milliseconds, before nobody takes it.
    asked = getattr(sentry, "is_initialized", None)  # releases before 2.0 do not have it
    if asked is None or asked():
        sentry.capture_exception(exc)  # it drops what it has already seen


def _complain(name: str) -> None:
    with suppress(Exception):  # nobody is left to tell
        logger.warning("telling about an error failed in %s", name, exc_info=sys.exc_info())
