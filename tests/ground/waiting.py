"""Waiting by polling: the one place of the test ground that sleeps.

A bare sleep is either too short on a busy machine or too long on an idle one; a poll is neither,
and when it gives up it can say what it was waiting for.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

EVERY_S = 0.01
WITHIN_S = 15.0


class NeverCame(AssertionError):
    """What was awaited did not come about in time."""


def eventually(
    check: Callable[[], T],
    what: str,
    *,
    within: float = WITHIN_S,
    every: float = EVERY_S,
    detail: Callable[[], str] | None = None,
) -> T:
    """Return the first truthy value of `check`, which is called until it gives one.

    Args:
        check: Called at once and then after every pause. An `AssertionError`, `LookupError` or
            `OSError` means "not yet" (a refused connection, a key that is not there); anything else
            is raised.
        what: What is awaited, as a claim ("the replica is online"); opens the failure's message.
        within: Seconds until it gives up. The last look is taken after the deadline, so that a
            process that was starved for that long still gets its chance.
        every: Seconds between two looks.
        detail: Text for the failure's message, such as a server's log; called only then.

    Raises:
        NeverCame: It gave up.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        last: object
        try:
            last = value = check()
            if value:
                return value
        except (AssertionError, LookupError, OSError) as error:
            last = error
        if late:
            raise NeverCame(_message(what, within, last, detail))
        time.sleep(every)


def _message(what: str, within: float, last: object, detail: Callable[[], str] | None) -> str:
    text = f"not within {within:g} s: {what}; last seen: {last!r}"
    return f"{text}\n{detail()}" if detail else text
