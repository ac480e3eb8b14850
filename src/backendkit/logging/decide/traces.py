"""The identifiers of a distributed trace, from the header that carries them (W3C Trace Context, section 3.2)."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_fields(traceparent: object) -> dict[str, str]:
    """Return `trace_id` and `span_id` of a `traceparent` header, or nothing where it is absent or unsound.

    Version `ff`, identifiers of zeros, and anything behind the flags of version `00` are unsound.
    """
    match = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if match is None:
        return {}
    version, trace_id, span_id, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return {}
    if trace_id == "0" * 32 or span_id == "0" * 16:
        return {}
    return {"trace_id": trace_id, "span_id": span_id}
