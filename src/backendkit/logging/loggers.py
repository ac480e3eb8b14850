"""structlog's loggers in front of the pipeline: the same methods, faster, and none of them raises.

A logger finds the pipeline when it is first used, and keeps it. When the pipeline is taken down again, as between tests,
those made by `get_logger` here forget it; structlog's own cached ones hand what they get on to the new configuration.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

from backendkit.logging.pipeline import Pipeline
from backendkit.logging.policy import LEVELS

_METHODS = {
    **{name: name for name in LEVELS},
    "warn": "warning",
    "fatal": "critical",
    "msg": "info",
}


class Sink:
    """What structlog calls the wrapped logger: takes finished records, whichever method they came by.

    Args:
        pipeline: where they go.
        name: the logger's name, or None.
    """

    __slots__ = ("name", "pipeline")

    def __init__(self, pipeline: Pipeline, name: str | None) -> None:
        self.pipeline = pipeline
        self.name = name

    def write(self, method: str, event_dict: MutableMapping[str, Any]) -> None:
        """Write one record."""
        event = event_dict.pop("event", "")
        self.pipeline.record(_METHODS.get(method, "error"), event, event_dict, logger=self.name)


class Deliver:
    """The one processor of the configured chain: writes the record and ends the chain.

    `structlog.testing.capture_logs` and tools like it put themselves in its place, as they do with any processor.
    """

    __slots__ = ("closed",)

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, logger: Any, method: str, event_dict: MutableMapping[str, Any]) -> Any:
        """Write; after the configuration was undone, hand on to the one that is in force."""
        if not self.closed:
            logger.write(method, event_dict)
            raise structlog.DropEvent
        name = (logger.name,) if logger.name else ()
        successor = structlog.get_logger(*name)
        getattr(successor, method)(**event_dict)
        raise structlog.DropEvent


def bound_logger(least: int) -> type[FilteringBoundLogger]:
    """Return a class of loggers that write from the level `least` on; below it a method does nothing, in 0.1 us."""
    base = structlog.make_filtering_bound_logger(least)
    methods: dict[str, Callable[..., Any]] = {
        name: _method(level) if LEVELS[level] >= least else _ignored
        for name, level in _METHODS.items()
    }
    methods["exception"] = _exception if LEVELS["error"] >= least else _ignored
    methods.update({f"a{name}": _awaited(method) for name, method in methods.items()})
    methods["log"] = _log(least)
    methods["alog"] = _awaited(methods["log"])
    return cast("type[FilteringBoundLogger]", type("BoundLogger", (base,), methods))


def _method(level: str) -> Callable[..., None]:
    def write(self: Any, event: object = None, /, *args: Any, **fields: Any) -> None:
        _write(self, level, event, args, fields)

    write.__name__ = level
    return write


def _exception(self: Any, event: object = None, /, *args: Any, **fields: Any) -> None:
    fields.setdefault("exc_info", True)
    _write(self, "error", event, args, fields)


def _log(least: int) -> Callable[..., None]:
    def log(self: Any, level: int, event: object = None, /, *args: Any, **fields: Any) -> None:
        if level >= least:
            reached = [name for name, number in LEVELS.items() if number <= level]
            _write(self, reached[-1] if reached else "debug", event, args, fields)

    return log


def _awaited(method: Callable[..., None]) -> Callable[..., Any]:
    """Return a method for `await`. It writes at once: a line takes microseconds, a hop to a thread fifty of them."""

    async def write(self: Any, /, *args: Any, **fields: Any) -> None:
        method(self, *args, **fields)

    return write


def _ignored(self: Any, *_: object, **__: object) -> None:
    return None


def _write(
    logger: Any, level: str, event: object, args: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    """Run structlog's chain on a call; whatever fails in it, a record is written."""
    said: dict[str, Any] = {**logger._context, **fields}  # noqa: SLF001 - the part of its base that structlog documents for subclasses
    if args:
        event = _interpolated(event, args, said)
    if event is None:
        event = said.pop("event", None)
    elif "event" in said:
        said["event_"] = said["event"]
    said["event"] = event
    processors: Sequence[Callable[..., Any]] = logger._processors  # noqa: SLF001 - as above
    sink = logger._logger  # noqa: SLF001 - as above
    if _only_delivers(processors):
        sink.write(level, said)  # the usual chain, without the exception that ends it
        return
    try:
        for processor in processors:
            said = processor(sink, level, said)
    except structlog.DropEvent:
        return
    except Exception:  # noqa: BLE001 - a processor that somebody has put there
        sink.write(level, {**said, "event": event})


def _only_delivers(processors: Sequence[Any]) -> bool:
    return len(processors) == 1 and type(processors[0]) is Deliver and not processors[0].closed


def _interpolated(event: object, args: tuple[Any, ...], said: dict[str, Any]) -> object:
    try:
        return str(event) % (args[0] if len(args) == 1 and isinstance(args[0], dict) else args)
    except Exception:  # noqa: BLE001 - arguments that do not fit, or raise when they are shown
        said["positional_args"] = args
        return event


class LazyLogger:
    """Becomes a structlog logger when it is first used, so that modules may make one before logging is configured.

    Args:
        name: appears in records as `logger`.
        initial: fields of each record.
    """

    __slots__ = ("__dict__", "__weakref__", "_initial", "_name")

    def __init__(self, name: str | None, initial: dict[str, Any]) -> None:
        self._name = name
        self._initial = initial

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = () if self._name is None else (self._name,)
        logger = structlog.get_logger(*name, **self._initial).bind()
        found = getattr(logger, attribute)
        sink = getattr(logger, "_logger", None)
        if isinstance(sink, Sink):
            # From now on the attribute is found before this method is asked.
            self.__dict__[attribute] = found
            sink.pipeline.loggers.add(self)
        return found

    def forget(self) -> None:
        """Look for the configuration anew on next use."""
        self.__dict__.clear()
