"""The record of an error that nobody has handled: once, with traceback, request and place."""

from __future__ import annotations

import logging
from contextlib import suppress
from types import TracebackType
from typing import Any

from backendkit.logging.bridge import Structured
from backendkit.logging.configure import reattach

LOGGER = "backendkit.errors"
"""The logger that tells unhandled errors."""


def unhandled(
    exc: BaseException, where: str, traceback: TracebackType | None = None, **fields: Any
) -> None:
    """Write the record of `exc`, at level error, to the logger `backendkit.errors`. Never raises.

    Args:
        exc: what went unhandled.
        where: what was being done, like `GET /users`.
        traceback: where it was raised; None: what `exc` still knows. Hand it in where a framework has been in between.
        **fields: what else is to be said.
    """
    info = (type(exc), exc, exc.__traceback__ if traceback is None else traceback)
    told = Structured("unhandled error", {"where": where, **fields})
    reattach()  # a migration may have switched logging off since: this is the one record that must not be lost
    with suppress(Exception):  # somebody else's filters and handlers
        logging.getLogger(LOGGER).error(told, exc_info=info)
