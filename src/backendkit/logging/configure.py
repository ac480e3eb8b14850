"""Setting logging up, once a process: structlog, the standard library and the servers' loggers, all on one pipeline.

What is in force stands where everybody can see it, as a handler of the root logger; there is no other state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from backendkit.core.checks import whole
from backendkit.core.clock import Clock
from backendkit.core.errors import AppError, InvalidArgument
from backendkit.logging.bridge import SERVERS, Divert, RecordHandler, divert_servers
from backendkit.logging.decide.lines import ConsoleLine, JsonLine
from backendkit.logging.decide.values import Cleaner
from backendkit.logging.pipeline import Pipeline, Processor, Renderer
from backendkit.logging.policy import Format, Level, Limits, Redaction, level_number
from backendkit.logging.processors import Timestamps
from backendkit.logging.queued import QueuedWriter
from backendkit.logging.writers import DirectWriter, Writer

OURS = ("backendkit", "backendkit.access", "backendkit.audit", "backendkit.errors")
"""Loggers of the library that must not be switched off by the way."""


class AlreadyConfigured(AppError, RuntimeError):
    """Logging was configured before, differently. Carries `differing`, the names of the options that differ."""

    code = "LOGGING_ALREADY_CONFIGURED"

    def __init__(self, differing: Iterable[str]) -> None:
        self.differing = tuple(differing)
        super().__init__(
            f"logging is configured once a process; this call differs in {', '.join(self.differing)}\n"
            "To fix it: configure it in one place, or call undo() on what the first call returned."
        )


@dataclass(frozen=True, slots=True)
class LoggingOptions:
    """What `configure_logging` was called with; see there."""

    format: Format = "json"
    level: Level = "info"
    stream: Any = None
    audit_stream: Any = None
    redaction: Redaction = field(default_factory=Redaction)
    limits: Limits = field(default_factory=Limits)
    processors: tuple[Processor, ...] = ()
    levels: tuple[tuple[str, Level], ...] = ()
    server_access: bool = True
    queue: int | None = None
    colours: bool | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if self.format not in {"json", "console", "auto"}:
            raise InvalidArgument("format", "must be json, console or auto", self.format)
        for level in (self.level, *dict(self.levels).values()):
            level_number(level)
        if self.queue is not None:
            whole("queue", self.queue, least=1, most=10_000_000)


class Configured:
    """Logging as it is in force; what `configure_logging` returns.

    Attributes:
        options: what it was called with.
        pipeline: writes records.
        audit: writes audit events; the same pipeline unless they have a stream of their own.
    """

    def __init__(self, options: LoggingOptions) -> None:
        self.options = options
        direct = DirectWriter(options.stream)
        render = _renderer(options, direct)
        level = level_number(options.level)
        cleaner = Cleaner(options.redaction, options.limits)
        times = Timestamps(options.clock)
        writer: Writer = direct
        if options.queue is not None:
            writer = QueuedWriter(direct, options.queue, _says_lost(render, times))
        self.pipeline = Pipeline(
            writer, render, cleaner, level=level, processors=options.processors, timestamps=times
        )
        # Audit events never wait in a queue, where a killed process would lose them.
        apart = direct if options.audit_stream is None else DirectWriter(options.audit_stream)
        lines = JsonLine(options.limits.line) if apart is not direct else render
        self.audit = Pipeline(apart, lines, cleaner, level=0, timestamps=times)
        self._handler = _ConfiguredHandler(self)
        self._undo: list[Callable[[], object]] = []

    @property
    def lost(self) -> int:
        """Lines that could not be written or had no room in the queue."""
        lost = self.pipeline.writer.lost
        return lost if self.options.audit_stream is None else lost + self.audit.writer.lost

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that was logged is written, at most `timeout` seconds; False if it was not."""
        return self.pipeline.writer.flush(timeout)

    def close(self) -> None:
        """Write what waits, and end the writer's thread; logging goes on, directly."""
        self.pipeline.writer.close()

    def undo(self) -> None:
        """Put everything back as it was before, for tests; again it does nothing."""
        while self._undo:
            self._undo.pop()()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def begin(self) -> None:
        """Put this in force; for `configure_logging`."""
        self._undo.append(self._retire)
        self._take_root()
        self._set_levels()
        for logger, divert in divert_servers(self._handler):
            self._undo.append(partial(logger.removeFilter, divert))
        self._take_structlog()

    def attach(self) -> None:
        """Take what `logging.config` has taken away since: the root logger, and the loggers that it switched off.

        `fileConfig`, which Alembic's migrations call, and `dictConfig` put handlers of their own on the root logger and
        disable every logger that they do not name. The adapters call this when an application starts.
        """
        if self.pipeline.closed:
            return
        if self._handler not in logging.getLogger().handlers:
            self._take_root()
        for name in (*OURS, *SERVERS):
            logging.getLogger(name).disabled = False

    def _take_root(self) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        for other in [other for other in handlers if _is_default(other)]:
            root.removeHandler(other)
            self._undo.append(partial(root.addHandler, other))
        root.addHandler(self._handler)
        root.setLevel(self.pipeline.level)
        self._undo.append(partial(root.setLevel, level))
        self._undo.append(partial(root.removeHandler, self._handler))

    def _set_levels(self) -> None:
        for name, level in self.options.levels:
            logger = logging.getLogger(name)
            before = logger.level
            logger.setLevel(level_number(level))
            self._undo.append(partial(logger.setLevel, before))

    def _take_structlog(self) -> None:
        import structlog  # noqa: PLC0415 - whoever only binds or carries need not load it

        from backendkit.logging.loggers import Deliver, Sink, bound_logger  # noqa: PLC0415

        before = structlog.get_config() if structlog.is_configured() else None
        deliver = Deliver()

        def restore() -> None:
            deliver.closed = True
            structlog.reset_defaults()
            if before is not None:
                structlog.configure(**before)

        structlog.configure(
            processors=[deliver],
            wrapper_class=bound_logger(self.pipeline.level),
            logger_factory=lambda *args: Sink(self.pipeline, str(args[0]) if args else None),
            context_class=dict,
            cache_logger_on_first_use=True,
        )
        self._undo.append(restore)

    def _retire(self) -> None:
        self.pipeline.closed = True
        for logger in list(self.pipeline.loggers):
            logger.forget()


class _ConfiguredHandler(RecordHandler):
    """The handler by which the configuration in force is found."""

    def __init__(self, configured: Configured) -> None:
        super().__init__(configured.pipeline, server_access=configured.options.server_access)
        self.configured = configured


def configure_logging(  # noqa: PLR0913 - one option an argument, so that editors show them
    format: Format = "json",  # noqa: A002 - the word for it
    *,
    level: Level = "info",
    stream: Any = None,
    audit_stream: Any = None,
    redaction: Redaction | None = None,
    limits: Limits | None = None,
    processors: Iterable[Processor] = (),
    levels: Mapping[str, Level] | None = None,
    server_access: bool = True,
    queue: int | None = None,
    colours: bool | None = None,
    clock: Clock | None = None,
) -> Configured:
    """Send all records of this process through one pipeline: structlog's, the standard library's, the servers'.

    Once a process. The same call again returns what is in force, attached anew if need be; one that differs raises. May be called before or after a server
    has set up its loggers. Handlers that others have put on the root logger stay, apart from the plain one of `basicConfig`.

    Args:
        format: see `Format`.
        level: records below it are not made.
        stream: where lines go: a file object or a descriptor; None: standard output.
        audit_stream: where audit events go, as JSON; None: among the others.
        redaction: what counts as secret; None: `Redaction()`.
        limits: how much of a record is written; None: `Limits()`.
        processors: structlog processors of your own, run on each record before it is cleaned. The access line, too, then goes
            through them, and takes about 5 us more.
        levels: levels of loggers of the standard library, by name.
        server_access: whether the access lines of uvicorn, gunicorn and werkzeug are written, without the queries in them;
            switch them off where an `AccessLog` writes better ones.
        queue: lines that may wait for a thread that writes them; None: each is written at once by whoever logs.
        colours: whether the console format is coloured; None: on a terminal.
        clock: tells the time; None: the machine's.

    Raises:
        AlreadyConfigured: it was called before with other arguments.
        InvalidArgument: an argument is out of bounds.
    """
    options = LoggingOptions(
        format=format,
        level=level,
        stream=stream,
        audit_stream=audit_stream,
        redaction=redaction or Redaction(),
        limits=limits or Limits(),
        processors=tuple(processors),
        levels=tuple((levels or {}).items()),
        server_access=server_access,
        queue=queue,
        colours=colours,
        clock=clock,
    )
    found = configured()
    if found is None:
        found = Configured(options)
        found.begin()
    elif found.options != options:
        raise AlreadyConfigured(_differing(found.options, options))
    else:
        found.attach()
    return found


def reattach() -> None:
    """Have the configuration in force, if there is one, take back what others have taken; see `Configured.attach`."""
    found = configured()
    if found is not None:
        found.attach()


def configured() -> Configured | None:
    """Return the configuration in force, or None.

    `logging.config` empties the root logger's handlers, as Alembic's `fileConfig` does; what stands at the servers' loggers
    it leaves.
    """
    left = [one.handler for one in logging.getLogger(SERVERS[0]).filters if isinstance(one, Divert)]
    for handler in (*logging.getLogger().handlers, *left):
        if isinstance(handler, _ConfiguredHandler):
            return handler.configured
    return None


def _differing(one: LoggingOptions, other: LoggingOptions) -> list[str]:
    return [name for name in LoggingOptions.__slots__ if getattr(one, name) != getattr(other, name)]


def _renderer(options: LoggingOptions, writer: DirectWriter) -> Renderer:
    screen = writer.is_terminal
    if options.format == "json" or (options.format == "auto" and not screen):
        return JsonLine(options.limits.line)
    colours = screen if options.colours is None else options.colours
    return ConsoleLine(options.limits.line, colours=colours, blocks=screen)


def _says_lost(render: Renderer, times: Timestamps) -> Callable[[int], bytes]:
    def said(count: int) -> bytes:
        event = "log lines dropped: the queue was full"
        return render(
            {"timestamp": times.text(), "level": "warning", "event": event, "dropped": count}
        )

    return said


def _is_default(handler: logging.Handler) -> bool:
    """Tell whether a handler is the one that `logging.basicConfig`, or a first call of `logging.warning`, has made."""
    return type(handler) is logging.StreamHandler and type(handler.formatter) in {
        logging.Formatter,
        type(None),
    }
