"""Errors with names, and one shape in which clients read them.

Raise what happened; the adapter for your framework, or `Errors.render`, tells it:

    from backendkit.errors import Conflict, Errors, NotFound

    class SeatTaken(Conflict):                      # inherits 409
        code = "SEAT_TAKEN"
        message = "Seat {seat} is taken"

    errors = Errors()                               # checks that codes are unique
    errors.map(LookupError, NotFound)               # foreign exceptions, by their nearest base
    answer = errors.render(SeatTaken(seat="12A"), accept="application/json", request_id="abc123")
    # Rendered(status=409, headers=(("Content-Type", "application/json"), ...), body=b'{"error":{...}}')

A client reads `{"error": {"code", "message", "details", "requestId", "timestamp"}}`, or, if it prefers
`application/problem+json`, an RFC 9457 problem. `code` is for programs and never changes; `message` is for people;
`details` is always a list. What an exception says about itself (`str(error)`) goes to logs, never into a response.
Whatever is raised at it, `render` gives valid JSON and a status in 400..599.

Needs nothing but the standard library.
"""

from backendkit.errors.envelope import Envelope, Format, Problem
from backendkit.errors.foreign import from_status
from backendkit.errors.negotiation import preferred
from backendkit.errors.registry import ErrorFormat, Errors, Rendered
from backendkit.errors.tree import (
    AppError,
    BadRequest,
    ClientDisconnected,
    Conflict,
    CrossSlot,
    Detail,
    Forbidden,
    Gone,
    HttpError,
    InvalidArgument,
    Locked,
    MalformedBody,
    MethodNotAllowed,
    MissingExtra,
    NotAcceptable,
    NotFound,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    PayloadTooLarge,
    PaymentRequired,
    PreconditionFailed,
    PreconditionRequired,
    RateLimited,
    RequestTimeout,
    ServiceUnavailable,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TokenExpired,
    TokenInvalid,
    Unauthorized,
    Unimplemented,
    Unprocessable,
    UnsupportedMediaType,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)
from backendkit.errors.validation import issues, validation_error

__all__ = [
    "AppError",
    "BadRequest",
    "ClientDisconnected",
    "Conflict",
    "CrossSlot",
    "Detail",
    "Envelope",
    "ErrorFormat",
    "Errors",
    "Forbidden",
    "Format",
    "Gone",
    "HttpError",
    "InvalidArgument",
    "Locked",
    "MalformedBody",
    "MethodNotAllowed",
    "MissingExtra",
    "NotAcceptable",
    "NotFound",
    "NotSent",
    "OutcomeUnknown",
    "Overloaded",
    "PayloadTooLarge",
    "PaymentRequired",
    "PreconditionFailed",
    "PreconditionRequired",
    "Problem",
    "RateLimited",
    "Rendered",
    "RequestTimeout",
    "ServiceUnavailable",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "TokenExpired",
    "TokenInvalid",
    "Unauthorized",
    "Unimplemented",
    "Unprocessable",
    "UnsupportedMediaType",
    "UpstreamError",
    "UpstreamTimeout",
    "ValidationFailed",
    "from_status",
    "issues",
    "preferred",
    "validation_error",
]
