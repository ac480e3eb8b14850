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

    errors.translate({"de": {"errors": {"SEAT_TAKEN": "Platz {seat} ist belegt"}}})     # by Accept-Language
    errors.catalogue().to_html()                    # every code on one page; or: backendkit errors --format html
    raise_for_error(httpx.get(...), errors)         # the other side: SeatTaken(seat="12A") again

A body that was promised otherwise is one function (`Errors(shape=...)`); `to_grpc` and `to_graphql` tell the same
errors in those worlds' terms. Needs nothing but the standard library.
"""

from types import MappingProxyType
from typing import TYPE_CHECKING

from backendkit.errors.envelope import Envelope, Format, Problem
from backendkit.errors.foreign import from_status
from backendkit.errors.negotiation import preferred
from backendkit.errors.registry import ErrorFormat, Errors, Rendered
from backendkit.errors.told import Told
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
    InvalidToken,
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
    Unauthorized,
    Unimplemented,
    Unprocessable,
    UnsupportedMediaType,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)
from backendkit.errors.validation import issues, validation_error

if TYPE_CHECKING:
    from backendkit.errors.catalogue import Catalogue, Entry
    from backendkit.errors.client import from_response, raise_for_error
    from backendkit.errors.graphql import from_graphql, to_graphql
    from backendkit.errors.grpc import GrpcCode, from_grpc, grpc_code, http_status, to_grpc
    from backendkit.errors.messages import MessageFault, MessagesError
    from backendkit.errors.shapes import Pagination, Shape, Success, failure, success

# What not every application needs is imported on first use: name -> its module.
_HOMES = MappingProxyType(
    {
        "Catalogue": "catalogue",
        "Entry": "catalogue",
        "GrpcCode": "grpc",
        "MessageFault": "messages",
        "MessagesError": "messages",
        "Pagination": "shapes",
        "Shape": "shapes",
        "Success": "shapes",
        "failure": "shapes",
        "from_graphql": "graphql",
        "from_grpc": "grpc",
        "from_response": "client",
        "grpc_code": "grpc",
        "http_status": "grpc",
        "raise_for_error": "client",
        "success": "shapes",
        "to_graphql": "graphql",
        "to_grpc": "grpc",
    }
)

__all__ = [
    "AppError",
    "BadRequest",
    "Catalogue",
    "ClientDisconnected",
    "Conflict",
    "CrossSlot",
    "Detail",
    "Entry",
    "Envelope",
    "ErrorFormat",
    "Errors",
    "Forbidden",
    "Format",
    "Gone",
    "GrpcCode",
    "HttpError",
    "InvalidArgument",
    "InvalidToken",
    "Locked",
    "MalformedBody",
    "MessageFault",
    "MessagesError",
    "MethodNotAllowed",
    "MissingExtra",
    "NotAcceptable",
    "NotFound",
    "NotSent",
    "OutcomeUnknown",
    "Overloaded",
    "Pagination",
    "PayloadTooLarge",
    "PaymentRequired",
    "PreconditionFailed",
    "PreconditionRequired",
    "Problem",
    "RateLimited",
    "Rendered",
    "RequestTimeout",
    "ServiceUnavailable",
    "Shape",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Success",
    "TokenExpired",
    "Told",
    "Unauthorized",
    "Unimplemented",
    "Unprocessable",
    "UnsupportedMediaType",
    "UpstreamError",
    "UpstreamTimeout",
    "ValidationFailed",
    "failure",
    "from_graphql",
    "from_grpc",
    "from_response",
    "from_status",
    "grpc_code",
    "http_status",
    "issues",
    "preferred",
    "raise_for_error",
    "success",
    "to_graphql",
    "to_grpc",
    "validation_error",
]


def __getattr__(name: str) -> object:
    """Import a name from its module on first use (PEP 562) and keep it."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415 - as above

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names that are not imported yet as well."""
    return sorted({*globals(), *_HOMES})
