"""Errors in gRPC's terms, and back: the 17 canonical codes, and `google.rpc.Status` as plain data.

The tables are those of google/rpc/code.proto, which gives each code its HTTP status; several codes share one, so that
the way back takes the least specific. Nothing of gRPC is imported: what `to_grpc` returns is the JSON form of a
`google.rpc.Status`, which `google.protobuf.json_format.ParseDict` turns into the message of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import IntEnum
from itertools import islice
from math import isfinite
from types import MappingProxyType
from typing import Any

from backendkit.core import checks
from backendkit.core.errors import AppError, Detail
from backendkit.errors.registry import Errors
from backendkit.errors.remote import Remote, kinds_in_use, remade
from backendkit.errors.texts import LONGEST_TEXT, listing, mapping, text_of
from backendkit.errors.told import CODE, Told, attribute, plain_lines, public


class GrpcCode(IntEnum):
    """The canonical codes, by the numbers that travel."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: Mapping[GrpcCode, int] = {
    GrpcCode.OK: 200,
    GrpcCode.CANCELLED: 499,
    GrpcCode.UNKNOWN: 500,
    GrpcCode.INVALID_ARGUMENT: 400,
    GrpcCode.DEADLINE_EXCEEDED: 504,
    GrpcCode.NOT_FOUND: 404,
    GrpcCode.ALREADY_EXISTS: 409,
    GrpcCode.PERMISSION_DENIED: 403,
    GrpcCode.RESOURCE_EXHAUSTED: 429,
    GrpcCode.FAILED_PRECONDITION: 400,
    GrpcCode.ABORTED: 409,
    GrpcCode.OUT_OF_RANGE: 400,
    GrpcCode.UNIMPLEMENTED: 501,
    GrpcCode.INTERNAL: 500,
    GrpcCode.UNAVAILABLE: 503,
    GrpcCode.DATA_LOSS: 500,
    GrpcCode.UNAUTHENTICATED: 401,
}
"""The status that each code stands for, as google/rpc/code.proto has it."""

GRPC_CODE: Mapping[int, GrpcCode] = {
    400: GrpcCode.INVALID_ARGUMENT,
    401: GrpcCode.UNAUTHENTICATED,
    402: GrpcCode.FAILED_PRECONDITION,
    403: GrpcCode.PERMISSION_DENIED,
    404: GrpcCode.NOT_FOUND,
    405: GrpcCode.UNIMPLEMENTED,
    408: GrpcCode.DEADLINE_EXCEEDED,
    409: GrpcCode.ABORTED,
    410: GrpcCode.NOT_FOUND,
    412: GrpcCode.FAILED_PRECONDITION,
    413: GrpcCode.RESOURCE_EXHAUSTED,
    416: GrpcCode.OUT_OF_RANGE,
    423: GrpcCode.FAILED_PRECONDITION,
    428: GrpcCode.FAILED_PRECONDITION,
    429: GrpcCode.RESOURCE_EXHAUSTED,
    499: GrpcCode.CANCELLED,
    500: GrpcCode.INTERNAL,
    501: GrpcCode.UNIMPLEMENTED,
    502: GrpcCode.UNAVAILABLE,
    503: GrpcCode.UNAVAILABLE,
    504: GrpcCode.DEADLINE_EXCEEDED,
}
"""The code that each status becomes; other 4xx are INVALID_ARGUMENT, other 5xx INTERNAL."""


def grpc_code(status: int) -> GrpcCode:
    """Return the canonical code for an HTTP status; below 400 it is OK."""
    if status < 400:
        return GrpcCode.OK
    other = GrpcCode.INVALID_ARGUMENT if status < 500 else GrpcCode.INTERNAL
    return GRPC_CODE.get(status, other)


def http_status(code: int) -> int:
    """Return the HTTP status for a canonical code; a number that is none counts as UNKNOWN."""
    try:
        return HTTP_STATUS[GrpcCode(code)]
    except ValueError:
        return 500


def to_grpc(
    exc: BaseException, errors: Errors, *, domain: str, request_id: str = ""
) -> dict[str, Any]:
    """Return `exc` as the JSON form of a `google.rpc.Status`; never raises an `Exception` for what `exc` is.

    Its `details` are an ErrorInfo (`reason` is our code, `metadata` the parameters that the message names, as texts); a
    BadRequest with a field violation for each line of our details; a RetryInfo and a RequestInfo where there is
    something to say. As with HTTP, what nobody has foreseen says nothing of itself.

    Args:
        exc: anything raised.
        errors: the registry.
        domain: who the `reason` belongs to, like `example.com`; 1..128 printable ASCII characters.
        request_id: empty: none.

    Raises:
        InvalidArgument: `domain` is none.
    """
    checks.name("domain", domain)
    told = errors.tell(exc, request_id)
    info = {
        "@type": _type("ErrorInfo"),
        "reason": told.code,
        "domain": domain,
        "metadata": dict(_metadata(told)),
    }
    details = [info, *_details(told)]
    return {"code": int(grpc_code(told.status)), "message": told.message, "details": details}


def from_grpc(status: Mapping[str, Any], errors: Errors | None = None) -> AppError | None:
    """Return the error that a `google.rpc.Status` in JSON form tells of, or None for OK; never raises an `Exception`.

    The class is the one whose code is the ErrorInfo's `reason`, if its status means the same canonical code; else
    the one that stands for the code. Parameters come from `metadata`, as texts.

    Args:
        status: as `google.protobuf.json_format.MessageToDict` gives it.
        errors: the classes that may be made; None: as for `raise_for_error`.
    """
    number = status.get("code")
    code = int(number) if isinstance(number, int) and 0 <= number <= 16 else 2
    if code == 0:
        return None
    parts = {
        _text(part.get("@type")).rpartition(".")[2]: part
        for part in map(mapping, listing(status.get("details"))[:100])
    }
    info, retry, request = (
        parts.get(name, {}) for name in ("ErrorInfo", "RetryInfo", "RequestInfo")
    )
    reason = info.get("reason")
    reason = reason if isinstance(reason, str) and CODE.fullmatch(reason) else GrpcCode(code).name
    metadata = info.get("metadata")
    remote = Remote(
        code=reason,
        message=_text(status.get("message")),
        details=list(_lines(parts.get("BadRequest", {}).get("fieldViolations"))),
        params=None if metadata is None else _texts(mapping(metadata)),
        request_id=_text(request.get("requestId"))[:128],
    )
    kind = (kinds_in_use() if errors is None else errors.kinds).get(reason)
    fits = kind is not None and grpc_code(kind.status) == code
    http = kind.status if kind is not None and fits else http_status(code)
    why = f"remote answered {GrpcCode(code).name} {reason}"
    return remade(remote, kind if fits else None, http, why, _seconds(retry.get("retryDelay")))


def _metadata(told: Told) -> Iterator[tuple[str, str]]:
    with suppress(Exception):  # a subclass may have made anything of its attributes
        for name, value in public(told.error):
            yield name, text_of(value)


def _details(told: Told) -> Iterator[dict[str, Any]]:
    lines = plain_lines(told.details)
    if lines:
        violations = [
            {theirs: line.get(ours, "") for ours, theirs in _VIOLATION.items()} for line in lines
        ]
        yield {"@type": _type("BadRequest"), "fieldViolations": violations}
    retry_after = attribute(told.error, "retry_after")
    if isinstance(retry_after, int | float) and isfinite(retry_after):
        yield {"@type": _type("RetryInfo"), "retryDelay": f"{max(retry_after, 0):.3f}s"}
    if told.request_id:
        yield {"@type": _type("RequestInfo"), "requestId": told.request_id}


_VIOLATION = MappingProxyType({"field": "field", "issue": "description", "code": "reason"})


def _type(name: str) -> str:
    return f"type.googleapis.com/google.rpc.{name}"


def _lines(violations: Any) -> Iterator[Detail]:
    for violation in map(mapping, listing(violations)[:100]):
        line = {ours: _text(violation.get(theirs)) for ours, theirs in _VIOLATION.items()}
        if any(line.values()):
            yield {name: text for name, text in line.items() if text}


def _texts(metadata: Mapping[Any, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in islice(metadata.items(), 100)}


def _text(value: Any) -> str:
    return value[:LONGEST_TEXT] if isinstance(value, str) else ""


_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


def _seconds(delay: Any) -> float | None:
    found = _DELAY.fullmatch(delay) if isinstance(delay, str) else None
    return float(found[1]) if found else None
