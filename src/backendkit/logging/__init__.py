"""Logging for web backends: one line per event, with the request's context in it and no secret, at a few microseconds.

    from backendkit.logging import bind, configure_logging, get_logger

    configure_logging()                       # once, where the application is made
    log = get_logger(__name__)                # structlog's methods

    bind(user_id=7)                           # on every later record of this request, its access line included
    log.info("order placed", order="o-1")     # {"timestamp": ..., "event": "order placed", "request_id": ..., "user_id": 7, ...}

- `configure_logging`: structlog, `logging`, uvicorn, gunicorn and werkzeug on one pipeline; `Redaction` says what is secret, `Limits`
  how much is written. Logging never raises, and writes exactly one line for each event.
- `bind`, `bound`, `fields`: the context. `carry`, `CarryingExecutor` take it into threads and jobs, `StampContext` onto
  records of the standard library.
- `AccessLog`, `AccessPolicy`: the access line and its sampling. `audit`: who did what to which. `unhandled`: errors.
- `log_events`: events of the other features as records.
- `merge_context`, `add_trace`, `Redactor`, `Tracebacks`, `Timestamps`: processors for a structlog chain of your own.
"""

from backendkit.core.context import bind, bound, fields, request_id
from backendkit.logging.access import AccessLog
from backendkit.logging.audit import Outcome, audit
from backendkit.logging.bridge import RecordHandler, Structured
from backendkit.logging.carry import CarryingExecutor, StampContext, carry
from backendkit.logging.configure import (
    AlreadyConfigured,
    Configured,
    configure_logging,
    configured,
)
from backendkit.logging.decide.traces import trace_fields
from backendkit.logging.policy import AccessPolicy, Format, Level, Limits, Redaction
from backendkit.logging.processors import Redactor, Timestamps, add_trace, merge_context
from backendkit.logging.start import get_logger
from backendkit.logging.subscribe import log_events
from backendkit.logging.tracebacks import Tracebacks
from backendkit.logging.unhandled import unhandled

__all__ = [
    "AccessLog",
    "AccessPolicy",
    "AlreadyConfigured",
    "CarryingExecutor",
    "Configured",
    "Format",
    "Level",
    "Limits",
    "Outcome",
    "RecordHandler",
    "Redaction",
    "Redactor",
    "StampContext",
    "Structured",
    "Timestamps",
    "Tracebacks",
    "add_trace",
    "audit",
    "bind",
    "bound",
    "carry",
    "configure_logging",
    "configured",
    "fields",
    "get_logger",
    "log_events",
    "merge_context",
    "request_id",
    "trace_fields",
    "unhandled",
]
