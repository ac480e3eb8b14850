"""Getting a logger, before or after logging is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def get_logger(name: str | None = None, **initial: Any) -> FilteringBoundLogger:
    """Return a structlog logger that becomes one when it is first used; a filtered-out record costs it 0.1 us.

    `structlog.get_logger` serves as well; there a filtered-out record costs 0.6 us.

    Args:
        name: appears in its records as `logger`.
        **initial: fields of each of its records.
    """
    from backendkit.logging.loggers import LazyLogger  # noqa: PLC0415 - the one import of structlog

    return cast("FilteringBoundLogger", LazyLogger(name, initial))
