"""From a framework's own HTTP error (a status, a text, some headers) to ours. Knows no framework.

Frameworks spell the same 404 differently ("Not Found"; a paragraph about your spelling). Texts that are only
the framework's default say nothing, and are replaced by ours, so that clients read the same from each. A text that
the application wrote for its clients stays; on a 5xx it does not, for there it is as often
an exception's text, with a host or a password in it: it becomes the error's `reason`, for logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from itertools import islice
from typing import cast

from backendkit.errors import tree
from backendkit.errors.texts import text_of
from backendkit.errors.tree import AppError, HttpError

MOST_DETAILS = 100
"""Lines of `details` that one answer carries at the most, so that a large bad request gets no larger answer."""


def is_redirect(status: object) -> bool:
    """Return whether what a framework raised is an answer and no error: it has a status from 300 to 399."""
    return isinstance(status, int) and 300 <= status < 400


def from_status(
    status: object, detail: object = None, headers: Mapping[str, str] | None = None
) -> AppError:
    """Return the error of the tree that stands for `status`.

    Args:
        status: what the framework would have answered; what is no number in 400..599 counts as 500.
        detail: what the framework was told to say. A text becomes the message; a mapping or a list becomes
            `details`; None or a standard phrase leaves the class's own message.
        headers: to keep, like `Allow` or `WWW-Authenticate`.
    """
    error = _bare(status, headers)
    if error.status >= 500:
        error.reason = text_of(detail) if detail is not None else ""
    elif isinstance(detail, str):
        if detail and detail not in phrases(error.status):
            error.message = detail
    elif detail is not None:
        error.details = _details(detail)
    return error


@lru_cache
def phrases(status: int) -> frozenset[str]:
    """Return the texts that frameworks send for `status` when nobody told them what to say."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return frozenset()
    return frozenset({phrase, *NEWER_PHRASES.get(status, ())})


# RFC 9110 renamed these; Python keeps the old names until 3.13, frameworks use either.
NEWER_PHRASES: Mapping[int, tuple[str, ...]] = {
    413: ("Content Too Large", "Payload Too Large", "Request Entity Too Large"),
    414: ("URI Too Long", "Request-URI Too Long"),
    416: ("Range Not Satisfiable", "Requested Range Not Satisfiable"),
    422: ("Unprocessable Content", "Unprocessable Entity"),
}
"""Statuses of several names, the newest first."""

_CLASSES: Mapping[int, type[AppError]] = {
    kind.status: kind
    for kind in (
        tree.AppError,
        tree.BadRequest,
        tree.ClientDisconnected,
        tree.Conflict,
        tree.Forbidden,
        tree.Gone,
        tree.Locked,
        tree.MethodNotAllowed,
        tree.NotAcceptable,
        tree.NotFound,
        tree.PayloadTooLarge,
        tree.PaymentRequired,
        tree.PreconditionFailed,
        tree.PreconditionRequired,
        tree.RateLimited,
        tree.RequestTimeout,
        tree.ServiceUnavailable,
        tree.Unauthorized,
        tree.Unimplemented,
        tree.Unprocessable,
        tree.UnsupportedMediaType,
        tree.UpstreamError,
        tree.UpstreamTimeout,
    )
}


def _bare(status: object, headers: Mapping[str, str] | None) -> AppError:
    if not isinstance(status, int) or not 400 <= status <= 599:
        return AppError(headers=headers)
    kind = _CLASSES.get(status)
    if kind is not None:
        return kind(headers=headers)
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return HttpError(status, f"HTTP_{status}", f"HTTP status {status}", headers=headers)
    code = "".join(c if c.isalnum() else "_" for c in phrase.upper().replace("'", ""))
    return HttpError(status, code, phrase, headers=headers)


def _details(detail: object) -> list[Mapping[str, str]]:
    if isinstance(detail, Mapping):
        pairs = islice(cast("Mapping[object, object]", detail).items(), MOST_DETAILS)
        return [{"field": text_of(name), "issue": text_of(value)} for name, value in pairs]
    if isinstance(detail, list | tuple):
        return [{"issue": text_of(value)} for value in cast("list[object]", detail)[:MOST_DETAILS]]
    return [{"issue": text_of(detail)}]
