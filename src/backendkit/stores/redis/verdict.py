"""What an answer that is no reply proves, and so what may be done about it.

Only what proves that nothing ran may be sent again. Everything else that fails is `OutcomeUnknown`, and the
feature that asked decides. Codes are those of Redis 6 to 8; in an error raised inside a script Redis 7 and later
keep the code of the failing command and append `script: <digest>`, Redis 6 wraps it.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MovedError,
    ResponseError,
)

from backendkit.core.errors import NotSent, OutcomeUnknown, StoreUnavailable
from backendkit.core.operation import Reply

Raw: TypeAlias = Reply | Exception | bytes | int | None
"""What came back for one command: a reply, a server's refusal as redis-py's exception, our own `StoreError`, or what
an odd script answers: a number, bytes or nil, bare."""

REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError, AuthorizationError)
"""redis-py's exceptions that stand for a server's error reply: the connection stays sound after them."""


class Verdict(Enum):
    """What may be done after an answer."""

    EVALUATE = "the server does not know the script: send its text"
    MOVED = "another node owns the slot"
    ASK = "another node is importing the slot"
    LATER = "nothing ran; the same node may take it soon"
    ELSEWHERE = "nothing ran; this node will not take it, another one may"
    UNREACHABLE = "nothing was sent: no connection"
    REFUSED = "nothing ran, and sending it again would not help"
    UNKNOWN = "it may have run"


def judge(raw: Raw) -> Verdict:
    """Return what `raw` proves."""
    if isinstance(raw, StoreUnavailable):
        return Verdict.UNREACHABLE
    if isinstance(raw, NotSent):
        return Verdict.REFUSED
    if isinstance(raw, OutcomeUnknown):
        return Verdict.UNKNOWN
    if isinstance(raw, MovedError):  # before AskError, which it derives from
        return Verdict.MOVED
    if isinstance(raw, AskError):
        return Verdict.ASK
    return _BY_CODE.get(code_of(raw), Verdict.UNKNOWN)


def code_of(raw: Raw) -> str:
    """Return the code of a server's error reply, like `"LOADING"`; that of the inner one where Redis 6 wraps it."""
    text = str(raw)
    if "-READONLY " in text:
        return "READONLY"
    # redis-py strips the codes that it knows from the text and keeps them beside it.
    code = getattr(raw, "status_code", None)
    return code if isinstance(code, str) and code else text.split(" ", 1)[0]


def turned_away(error: Exception) -> bool:
    """Whether a connection was ended by a server that has too many, before it read a word: nothing ran."""
    return str(error) == "max number of clients reached"


_BY_CODE = {
    "NOSCRIPT": Verdict.EVALUATE,
    "TRYAGAIN": Verdict.LATER,
    "LOADING": Verdict.LATER,
    "CLUSTERDOWN": Verdict.ELSEWHERE,
    "MASTERDOWN": Verdict.ELSEWHERE,
    # The three below are also raised at a script's first write, never after one: nothing was written.
    "READONLY": Verdict.ELSEWHERE,
    "OOM": Verdict.REFUSED,
    "MISCONF": Verdict.REFUSED,
    "NOREPLICAS": Verdict.REFUSED,
    "BUSY": Verdict.REFUSED,
    "NOAUTH": Verdict.REFUSED,
    "WRONGPASS": Verdict.REFUSED,
    "CROSSSLOT": Verdict.REFUSED,
}
# NOPERM is missing on purpose: a script may have written before it met a command that it may not call.
