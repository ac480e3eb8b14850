"""Errors in GraphQL's terms, and back: an entry of `errors` whose `extensions.code` says which.

GraphQL answers 200 whatever happened, and its clients branch on `extensions.code`. For the few errors that all
services share, clients and gateways expect the names of the table below; every other error keeps its own code.
No GraphQL library is imported: an entry is a dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backendkit.core.errors import AppError
from backendkit.errors.foreign import from_status
from backendkit.errors.registry import Errors
from backendkit.errors.remote import kinds_in_use, read, remade
from backendkit.errors.texts import mapping
from backendkit.errors.told import plain_lines

GRAPHQL_CODE: Mapping[str, str] = {
    "INTERNAL_ERROR": "INTERNAL_SERVER_ERROR",
    "MALFORMED_BODY": "GRAPHQL_PARSE_FAILED",
    "UNAUTHORIZED": "UNAUTHENTICATED",
    "VALIDATION_ERROR": "BAD_USER_INPUT",
}
"""Our code, and the name that GraphQL's world has for it; read from right to left on the way back."""


def to_graphql(
    exc: BaseException,
    errors: Errors,
    *,
    path: Sequence[str | int] | None = None,
    request_id: str | None = None,
    accept_language: str | None = None,
) -> dict[str, Any]:
    """Return `exc` as an entry of a GraphQL response's `errors`; total.

    `extensions` has `code` (by the table above), and from the envelope `status`, `details`, `requestId` and `timestamp`.

    Args:
        exc: anything raised.
        errors: the registry.
        path: where in the response, as the executor knows it.
        request_id: as for `Errors.render`.
        accept_language: as for `Errors.render`.
    """
    told = errors.tell(exc, request_id, accept_language=accept_language)
    extensions: dict[str, Any] = {
        "code": GRAPHQL_CODE.get(told.code, told.code),
        "status": told.status,
        "details": plain_lines(told.details),
        "requestId": told.request_id,
        "timestamp": told.timestamp,
    }
    entry: dict[str, Any] = {"message": told.message, "extensions": extensions}
    if path is not None:
        entry["path"] = list(path)
    return entry


def from_graphql(entry: Mapping[str, Any], errors: Errors | None = None) -> AppError:
    """Return the error that an entry of a GraphQL response's `errors` tells of; never raises an `Exception`.

    Args:
        entry: the entry, parsed.
        errors: the classes that may be made; None: as for `raise_for_error`.
    """
    extensions = mapping(entry.get("extensions"))
    theirs = extensions.get("code")
    code = _OUR_CODE.get(theirs, theirs) if isinstance(theirs, str) else None
    data = {**extensions, "code": code, "message": entry.get("message")}
    remote = read(data, message="message", details="details", request_id="requestId")
    status = extensions.get("status")
    status = status if isinstance(status, int) and 400 <= status <= 599 else None
    if remote is None:
        error = from_status(status or 500)
        error.reason = "remote answered an error without a code"
        return error
    kind = (kinds_in_use() if errors is None else errors.kinds).get(remote.code)
    http = status or (500 if kind is None else kind.status)
    return remade(remote, kind, http, f"remote answered {remote.code}", None)


_OUR_CODE: Mapping[str, str] = {theirs: ours for ours, theirs in GRAPHQL_CODE.items()}
