"""An answer, before a framework has it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

JSON = "application/json"
"""The media type of every body here."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body and headers of an answer; the body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
