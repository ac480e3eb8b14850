"""The errors that applications raise; those of the lower floors come along under the same roof.

    AppError                        500  INTERNAL_ERROR
    ├── BadRequest                  400  BAD_REQUEST
    │   └── MalformedBody           400  MALFORMED_BODY        the body is not what its Content-Type says
    ├── Unauthorized                401  UNAUTHORIZED          who are you? answers with WWW-Authenticate
    │   ├── InvalidToken            401  INVALID_TOKEN
    │   └── TokenExpired            401  TOKEN_EXPIRED
    ├── PaymentRequired             402  PAYMENT_REQUIRED
    ├── Forbidden                   403  FORBIDDEN             I know who you are: no
    ├── NotFound                    404  NOT_FOUND
    ├── MethodNotAllowed            405  METHOD_NOT_ALLOWED
    ├── NotAcceptable               406  NOT_ACCEPTABLE
    ├── RequestTimeout              408  REQUEST_TIMEOUT
    ├── Conflict                    409  CONFLICT
    ├── Gone                        410  GONE
    ├── PreconditionFailed          412  PRECONDITION_FAILED
    ├── PayloadTooLarge             413  PAYLOAD_TOO_LARGE
    ├── UnsupportedMediaType        415  UNSUPPORTED_MEDIA_TYPE
    ├── Unprocessable               422  UNPROCESSABLE         understood, and against a rule
    │   └── ValidationFailed        422  VALIDATION_ERROR      fields are wrong; `details` says which
    ├── Locked                      423  LOCKED
    ├── PreconditionRequired        428  PRECONDITION_REQUIRED
    ├── RateLimited                 429  RATE_LIMITED
    ├── ClientDisconnected          499  CLIENT_DISCONNECTED   nobody is left to read the answer
    ├── HttpError                   any  by its status         what a framework raised with a status of its own
    ├── Unimplemented               501  NOT_IMPLEMENTED
    ├── UpstreamError               502  UPSTREAM_ERROR        another service answered wrongly
    ├── UpstreamTimeout             504  UPSTREAM_TIMEOUT      another service did not answer in time
    └── ServiceUnavailable          503  SERVICE_UNAVAILABLE   with Overloaded and the StoreErrors below it

An application's own error is three lines:

    class SeatTaken(Conflict):
        code = "SEAT_TAKEN"
        message = "Seat {seat} is taken"

    raise SeatTaken(seat="12A")
"""

from __future__ import annotations

from collections.abc import Mapping

from backendkit.core.errors import (
    AppError,
    CrossSlot,
    Detail,
    Forbidden,
    InvalidArgument,
    InvalidToken,
    MissingExtra,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    ServiceUnavailable,
    StoreClosed,
    StoreError,
    StoreFull,
    StoreUnavailable,
    TokenExpired,
    Unauthorized,
)

__all__ = [
    "AppError",
    "BadRequest",
    "ClientDisconnected",
    "Conflict",
    "CrossSlot",
    "Detail",
    "Forbidden",
    "Gone",
    "HttpError",
    "InvalidArgument",
    "InvalidToken",
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
    "RateLimited",
    "RequestTimeout",
    "ServiceUnavailable",
    "StoreClosed",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "TokenExpired",
    "Unauthorized",
    "Unimplemented",
    "Unprocessable",
    "UnsupportedMediaType",
    "UpstreamError",
    "UpstreamTimeout",
    "ValidationFailed",
]


class BadRequest(AppError):
    """The request cannot be understood."""

    code = "BAD_REQUEST"
    status = 400
    message = "The request cannot be understood"


class MalformedBody(BadRequest):
    """The request's body is not what its Content-Type says it is."""

    code = "MALFORMED_BODY"
    message = "The request body cannot be parsed"


class PaymentRequired(AppError):
    """The account has to pay first."""

    code = "PAYMENT_REQUIRED"
    status = 402
    message = "Payment is required"


class NotFound(AppError):
    """There is nothing here."""

    code = "NOT_FOUND"
    status = 404
    message = "Not found"


class MethodNotAllowed(AppError):
    """The resource exists and does not know this method; `headers["Allow"]` names those that it knows."""

    code = "METHOD_NOT_ALLOWED"
    status = 405
    message = "The method is not allowed here"


class NotAcceptable(AppError):
    """None of the formats that the client accepts is available."""

    code = "NOT_ACCEPTABLE"
    status = 406
    message = "None of the accepted formats is available"


class RequestTimeout(AppError):
    """The request did not arrive in time."""

    code = "REQUEST_TIMEOUT"
    status = 408
    message = "The request took too long to arrive"
    retryable = True


class Conflict(AppError):
    """The request contradicts the present state of the resource."""

    code = "CONFLICT"
    status = 409
    message = "This conflicts with the present state"


class Gone(AppError):
    """There was something here, and it will not come back."""

    code = "GONE"
    status = 410
    message = "This is no longer available"


class PreconditionFailed(AppError):
    """The resource is not in the state that the request's `If-...` headers ask for."""

    code = "PRECONDITION_FAILED"
    status = 412
    message = "The resource has changed"


class PayloadTooLarge(AppError):
    """The request's body is larger than this application accepts."""

    code = "PAYLOAD_TOO_LARGE"
    status = 413
    message = "The request body is too large"


class UnsupportedMediaType(AppError):
    """The request's body is of a type that this endpoint does not read."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415
    message = "The content type is not supported"


class Unprocessable(AppError):
    """The request is well-formed and against a rule."""

    code = "UNPROCESSABLE"
    status = 422
    message = "The request cannot be processed"


class ValidationFailed(Unprocessable):
    """Fields of the request are wrong; `details` says which, and what is wrong with them."""

    code = "VALIDATION_ERROR"
    message = "The request is not valid"


class Locked(AppError):
    """The resource is locked by somebody else."""

    code = "LOCKED"
    status = 423
    message = "The resource is locked"
    retryable = True


class PreconditionRequired(AppError):
    """The request must be conditional (`If-Match`), so that no update is lost."""

    code = "PRECONDITION_REQUIRED"
    status = 428
    message = "The request must be conditional"


class ClientDisconnected(AppError):
    """The client went away before the answer was ready; the status is nginx's, and nobody will see it."""

    code = "CLIENT_DISCONNECTED"
    status = 499
    message = "The client closed the connection"


class HttpError(AppError):
    """What a framework raised with a status for which the tree has no class.

    Args:
        status: 400..599.
        code: UPPER_SNAKE.
        message: what clients read.
    """

    code = "HTTP_ERROR"

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(headers=headers)
        self.status = status
        self.code = code
        self.message = message


class Unimplemented(AppError):
    """The server does not know how to do this, and says so on purpose."""

    code = "NOT_IMPLEMENTED"
    status = 501
    message = "This is not implemented"


class UpstreamError(AppError):
    """Another service, which this one needs for its answer, answered wrongly."""

    code = "UPSTREAM_ERROR"
    status = 502
    message = "A service behind this one answered wrongly"
    retryable = True


class UpstreamTimeout(AppError):
    """Another service, which this one needs for its answer, did not answer in time."""

    code = "UPSTREAM_TIMEOUT"
    status = 504
    message = "A service behind this one did not answer in time"
    retryable = True
