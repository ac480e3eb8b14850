"""Entity tags and the conditions that requests put on them (RFC 9110 sections 8.8.3 and 13)."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from hashlib import sha256


def etag_of(body: bytes) -> str:
    """Return the strong tag of a body: its SHA-256, the same in every process and on every machine."""
    return '"' + urlsafe_b64encode(sha256(body).digest())[:43].decode() + '"'


def matches(condition: str, etag: str | None, *, weak: bool) -> bool:
    """Tell whether one of the tags in `If-Match` or `If-None-Match` is `etag`.

    Args:
        condition: a list of tags, or `*`, which every representation matches.
        etag: of the representation that there is; None: it has none.
        weak: compare by what the tags say, as `If-None-Match` does; else both must be strong, as for `If-Match`.
    """
    if condition.strip() == "*":
        return True
    if etag is None or (not weak and etag.startswith("W/")):
        return False
    wanted = etag.removeprefix("W/")
    return any(opaque == wanted and (weak or not mark) for mark, opaque in _TAG.findall(condition))


def not_modified(
    none_match: Sequence[str], modified_since: str | None, etag: str | None, modified: str | None
) -> bool:
    """Tell whether a GET or HEAD is to be answered with 304.

    Args:
        none_match: values of `If-None-Match`; where there is one, the date does not count.
        modified_since: value of `If-Modified-Since`.
        etag: of the representation.
        modified: its `Last-Modified`.
    """
    if none_match:
        return matches(",".join(none_match), etag, weak=True)
    since, last = moment(modified_since), moment(modified)
    return since is not None and last is not None and last <= since


def moment(date: str | None) -> int | None:
    """Return the seconds since 1970 of an HTTP date, or None where there is none."""
    try:
        found = parsedate_to_datetime(date or "")
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\uffff]*")')
