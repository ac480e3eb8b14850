"""Processors for structlog that can be used alone, in a chain of one's own. `configure_logging` uses the same.

Each takes `(logger, method, event_dict)` and returns the dictionary, as structlog's do. In a chain of yours: context and
trace first, `Tracebacks` and `Redactor` before whatever renders.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

from backendkit.core import context
from backendkit.core.clock import SECOND_US, Clock, SystemClock
from backendkit.logging.decide.traces import trace_fields
from backendkit.logging.decide.values import Cleaner
from backendkit.logging.policy import Limits, Redaction

EventDict = MutableMapping[str, Any]
"""What processors hand on."""

TRACER = "opentelemetry.trace"
"""The module without which there is no span."""


def merge_context(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Add what `bind` and `bound` have put into the context; what the call itself says wins."""
    for key, value in context.fields().items():
        event_dict.setdefault(key, value)
    return event_dict


def add_trace(logger: object, method: str, event_dict: EventDict) -> EventDict:
    """Add `trace_id` and `span_id`: of OpenTelemetry's current span, else of the `traceparent` that is bound.

    `traceparent` itself is taken out. OpenTelemetry is asked only if the application has imported it: where nobody has, there
    is no span.
    """
    traceparent = event_dict.pop("traceparent", None)
    found = span_fields() or (trace_fields(traceparent) if traceparent else None)
    if found:
        event_dict.update(found)
    return event_dict


def span_fields() -> dict[str, str] | None:
    """Return `trace_id` and `span_id` of OpenTelemetry's current span, or None where there is none. Never raises."""
    trace: Any = sys.modules.get(TRACER)
    if trace is None:
        return None
    try:
        current = trace.get_current_span()
        if current is getattr(trace, "INVALID_SPAN", None):  # what there is most often: nothing
            return None
        span = current.get_span_context()
        if not span.is_valid:
            return None
        ids = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    except Exception:  # noqa: BLE001 - a half-imported or foreign tracer must not fail the record
        return None
    return {"trace_id": ids[0], "span_id": ids[1]}


class Timestamps:
    """Tells the time as `2026-01-31T23:59:59.123456Z` (RFC 3339). About 0.3 us: the part up to the second is remembered.

    Args:
        clock: None: the machine's.
    """

    __slots__ = ("_clock", "_second")

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._second = (-1, "")

    def __call__(self, logger: object, method: str, event_dict: EventDict) -> EventDict:
        """Add `timestamp`."""
        event_dict["timestamp"] = self.text()
        return event_dict

    def text(self) -> str:
        """Return the time of now."""
        second, rest = divmod(self._clock.wall_us(), SECOND_US)
        known, text = self._second
        if known != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = (second, text)  # one tuple: no other thread sees half of it
        return f"{text}.{rest:06d}Z"


class Redactor:
    """Makes every value plain, bounded and free of secrets; the caller's objects stay as they are.

    Args:
        redaction: what counts as secret; None: `Redaction()`.
        limits: how much is kept; None: `Limits()`.
    """

    __slots__ = ("cleaner",)

    def __init__(self, redaction: Redaction | None = None, limits: Limits | None = None) -> None:
        self.cleaner = Cleaner(redaction, limits)

    def __call__(self, logger: object, method: str, event_dict: EventDict) -> EventDict:
        """Return a new dictionary. What `exc_info` holds is left for a formatter, whose text should be cleaned as well."""
        info = event_dict.get("exc_info")
        clean = self.cleaner.fields({k: v for k, v in event_dict.items() if k != "exc_info"})
        if info is not None:
            clean["exc_info"] = info
        return clean
