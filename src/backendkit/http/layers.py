"""What a frame does besides request ids and errors, in one object that both frames take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from backendkit.core import context
from backendkit.core.clock import Clock, SystemClock
from backendkit.core.health import Health
from backendkit.core.metrics import Metrics
from backendkit.errors import Rendered
from backendkit.http.deadline import Deadlines
from backendkit.http.health import HealthPages
from backendkit.http.ids import RequestIds
from backendkit.http.security import API, SecurityHeaders


class AccessWriter(Protocol):
    """Writes one line for each request, as `backendkit.logging.AccessLog` does; must not raise."""

    def write(
        self,
        request: context.Request | None,
        method: str,
        path: str,
        status: int,
        duration_us: int,
        *,
        route: str | None = None,
        size: int | None = None,
    ) -> object:
        """Tell one request; 499 as status where the client left before there was an answer."""
        ...


class Options(Protocol):
    """What `Layers.of` reads: `backendkit.settings.HttpSettings` has it."""

    @property
    def request_id_header(self) -> str:
        """Header that carries the request id."""
        ...

    @property
    def trust_request_id(self) -> bool:
        """Whether an id that comes in is used."""
        ...

    @property
    def security_headers(self) -> bool:
        """Whether security headers are added."""
        ...

    @property
    def hsts(self) -> str | None:
        """`Strict-Transport-Security`; None: not sent."""
        ...

    @property
    def access_log(self) -> bool:
        """Whether access lines are written."""
        ...

    @property
    def timeout_header(self) -> str | None:
        """Header with a client's patience; None: not asked."""
        ...

    @property
    def timeout(self) -> float | None:
        """Seconds for requests that say nothing; None: no limit."""
        ...

    @property
    def longest_timeout(self) -> float:
        """Seconds that a client may ask for."""
        ...

    @property
    def live_path(self) -> str | None:
        """Path of the page that says that the process lives."""
        ...

    @property
    def ready_path(self) -> str | None:
        """Path of the page that says whether it is ready."""
        ...

    @property
    def metrics_path(self) -> str | None:
        """Path of the page with numbers for Prometheus."""
        ...


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a frame; one that is None costs nothing.

    Args:
        ids: how requests are named.
        security: headers that every response gets.
        overrides: other headers, by exact path.
        access: writes the access line.
        deadlines: how long requests may take.
        health: the pages for probes.
        clock: measures durations and deadlines.
    """

    ids: RequestIds = field(default_factory=RequestIds)
    security: SecurityHeaders | None = None
    overrides: Mapping[str, SecurityHeaders] = field(default_factory=dict[str, SecurityHeaders])
    access: AccessWriter | None = None
    deadlines: Deadlines | None = None
    health: HealthPages | None = None
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def of(
        cls,
        options: Options,
        *,
        access: AccessWriter,
        health: Health,
        clock: Clock,
        overrides: Mapping[str, SecurityHeaders] | None = None,
        metrics: Metrics | None = None,
    ) -> Layers:
        """Return the layers that settings ask for.

        Raises:
            MissingExtra: a page with numbers is asked for, and prometheus-client is not installed.
        """
        writer: AccessWriter | None = access if options.access_log else None
        beside: dict[str, Callable[[], Rendered]] = {}
        if options.metrics_path is not None and metrics is not None:
            from backendkit.http.metrics import CountedAccess, MetricsPage  # noqa: PLC0415 - an extra

            numbers = MetricsPage(metrics)
            writer = CountedAccess(numbers, writer)
            beside[options.metrics_path] = numbers.page
        security = API if options.hsts == API.hsts else SecurityHeaders(hsts=options.hsts)
        header, default = options.timeout_header, options.timeout
        deadlines = Deadlines(header, default=default, most=options.longest_timeout)
        pages = HealthPages(health, live=options.live_path, ready=options.ready_path, beside=beside)
        return cls(
            ids=RequestIds(options.request_id_header, trusted=options.trust_request_id),
            security=security if options.security_headers else None,
            overrides=dict(overrides or {}),
            access=writer,
            deadlines=None if header is None and default is None else deadlines,
            health=pages if pages.paths else None,
            clock=clock,
        )

    def policy(self, request: context.Request, path: str) -> SecurityHeaders | None:
        """Return the headers for one response: what the application asked for, else the path's, else the usual."""
        if request.outgoing is not None:
            asked: SecurityHeaders = request.outgoing
            return asked
        if self.overrides and self.security is not None:
            return self.overrides.get(path, self.security)
        return self.security
