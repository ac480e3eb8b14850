"""Events of the features as records: what happened, with the event's own fields."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import fields

from backendkit.core.events import Event, Hooks
from backendkit.logging.bridge import Structured
from backendkit.logging.policy import Level, level_number

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def log_events(
    hooks: Hooks,
    *kinds: type[Event],
    level: Level = "info",
    levels: Mapping[type[Event], Level] | None = None,
) -> Callable[[], None]:
    """Write a record for each event that `hooks` tells; return a function that ends it.

    A record says what happened by the class's name, `BreakerOpened` as `breaker opened`, with the event's fields. Its
    logger is named for the feature, `backendkit.resilience`, so that levels can be set for each.

    Args:
        hooks: who tells.
        *kinds: which events; none: all.
        level: the level of a record.
        levels: other levels, by class; the nearest base class counts.

    Raises:
        InvalidArgument: there is no such level.
    """
    numbers = {kind: level_number(named) for kind, named in (levels or {}).items()}
    numbers.setdefault(Event, level_number(level))

    def tell(event: Event) -> None:
        kind = type(event)
        logger = logging.getLogger(".".join(kind.__module__.split(".")[:2]))
        number = next(numbers[base] for base in kind.__mro__ if base in numbers)
        if logger.isEnabledFor(number):
            said = {field.name: getattr(event, field.name) for field in fields(event)}
            logger.log(number, Structured(_WORD.sub(" ", kind.__name__).lower(), said))

    return hooks.add(tell, *kinds)
