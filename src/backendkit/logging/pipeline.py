"""The way of every record: context, trace, processors of the application's own, cleaning, one line, one write.

It never raises and always writes: whatever fails is left out, and at last there is a line that says only what was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

from backendkit.core import context
from backendkit.logging.decide.lines import JsonLine, dump_json
from backendkit.logging.decide.traces import trace_fields
from backendkit.logging.decide.values import Cleaner, Plain, is_dict
from backendkit.logging.processors import EventDict, Timestamps, span_fields
from backendkit.logging.tracebacks import Tracebacks, exc_info
from backendkit.logging.writers import Writer

RESERVED = frozenset({"timestamp", "level", "event", "logger", "exception"})
"""Fields that only the pipeline sets: a field of the application's of such a name gets an underscore behind it."""


class Processor(Protocol):
    """A structlog processor."""

    def __call__(self, logger: Any, method: str, event_dict: EventDict, /) -> Any:
        """Return the event dictionary, changed or another; raise `structlog.DropEvent` to write nothing."""
        ...


class Renderer(Protocol):
    """Turns a plain record into a line."""

    def __call__(self, record: Mapping[str, Plain], /) -> bytes:
        """Return the line with its newline."""
        ...


Raised: TypeAlias = tuple[BaseException, TracebackType | None]


class Dropped(Exception):
    """A processor has decided that a record is not written. Never leaves this feature."""


class Pipeline:
    """Writes records. Safe to use from any thread.

    Args:
        writer: where lines go.
        render: how lines look.
        cleaner: what is taken out of them.
        level: the number of the lowest level that is written.
        processors: the application's own, run before cleaning: what they add is cleaned, too.
        timestamps: tells the time.

    Attributes:
        writer: as above.
        cleaner: as above.
        level: as above.
        timestamps: as above.
        dump: renders plain values as JSON where lines are JSON, else None: for what is made ready beforehand.
        direct: whether records may skip the processors, because there are none.
        closed: whether the configuration was undone: whoever kept this looks for another.
        loggers: those that have kept what they found here, and must forget it then.
    """

    def __init__(
        self,
        writer: Writer,
        render: Renderer,
        cleaner: Cleaner,
        *,
        level: int = 20,
        processors: tuple[Processor, ...] = (),
        timestamps: Timestamps | None = None,
    ) -> None:
        self.writer = writer
        self.cleaner = cleaner
        self.level = level
        self.timestamps = timestamps or Timestamps()
        self.tracebacks = Tracebacks(cleaner.text)
        self.dump = render.dump if isinstance(render, JsonLine) else None
        self.direct = self.dump is not None and not processors
        self.closed = False
        self.loggers: WeakSet[Any] = WeakSet()
        self._render = render
        self._processors = processors
        self._drops = _drop_events(processors)

    def record(
        self,
        level: str,
        event: object,
        fields: Mapping[str, Any],
        *,
        logger: str | None = None,
        raised: Raised | None = None,
        context_fields: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write one record; False if it was dropped or lost. Never raises.

        Args:
            level: its name.
            event: what happened.
            fields: what else is to be said; `exc_info` in it is told as a traceback.
            logger: the name of the logger.
            raised: the exception that it is about, with its traceback.
            context_fields: the fields of the context it was made in; None: of the current one.
        """
        try:
            line = self.line(
                level,
                event,
                fields,
                logger=logger,
                raised=raised,
                context_fields=context_fields,
            )
        except Dropped:
            return False
        except Exception:  # noqa: BLE001 - a record that cannot be told is told to have been
            line = self._last_resort(level, event)
        return self.writer.write(line)

    def line(
        self,
        level: str,
        event: object,
        fields: Mapping[str, Any],
        *,
        logger: str | None = None,
        raised: Raised | None = None,
        context_fields: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the line of one record.

        Raises:
            Dropped: a processor wants no line.
        """
        around = context.fields() if context_fields is None else context_fields
        said: EventDict = {**around, **fields}
        timestamp = self.timestamps.text()
        if self._processors:
            said, level, event, timestamp = self._processed(said, level, event, timestamp, logger)
        if "exc_info" in said:
            raised = exc_info(said.pop("exc_info")) or raised
        self._add_trace(said)
        told = self.cleaner.text(event) if type(event) is str else self.cleaner.value(event)
        record: dict[str, Plain] = {"timestamp": timestamp, "level": level, "event": told}
        if logger is not None:
            record["logger"] = logger
        record.update(_unreserved(self.cleaner.fields(said)))
        if raised is not None:
            record["exception"] = self.tracebacks.describe(*raised)
        return self._render(record)

    def _add_trace(self, said: EventDict) -> None:
        traceparent = said.pop("traceparent", None)
        found = span_fields() or (traceparent and trace_fields(traceparent))
        if found:
            said.update(found)

    def _processed(
        self, said: EventDict, level: str, event: object, timestamp: str, logger: str | None
    ) -> tuple[EventDict, str, object, str]:
        """Run the application's processors on what structlog's chains hold at that point."""
        said = {**_unreserved(said), "event": event, "level": level, "timestamp": timestamp}
        if logger is not None:
            said["logger"] = logger
        for processor in self._processors:
            try:
                returned = processor(None, level, said)
            except self._drops as error:
                raise Dropped from error
            except Exception as error:  # noqa: BLE001 - a processor that fails is left out
                said.setdefault("processor_failed", type(error).__name__)
                continue
            if is_dict(returned):
                said = returned
        said.pop("logger", None)
        event = said.pop("event", event)
        return said, str(said.pop("level", level)), event, str(said.pop("timestamp", timestamp))

    def _last_resort(self, level: str, event: object) -> bytes:
        try:
            told = self.cleaner.text(event) if type(event) is str else "<unprintable event>"
            head = {"timestamp": self.timestamps.text(), "level": level, "event": told}
            return dump_json({**head, "logging_failed": True}) + b"\n"
        except Exception:  # noqa: BLE001 - the stack or the memory may be at its end
            return b'{"event":"<unprintable event>","logging_failed":true}\n'


def _unreserved(fields: EventDict) -> EventDict:
    """Return fields of which none poses as one of ours."""
    if RESERVED.isdisjoint(fields):
        return fields
    return {f"{key}_" if key in RESERVED else key: value for key, value in fields.items()}


def _drop_events(processors: tuple[Processor, ...]) -> tuple[type[BaseException], ...]:
    if not processors:
        return ()
    from structlog import DropEvent  # noqa: PLC0415 - only where there are processors that may raise it

    return (DropEvent,)
