"""`/metrics` for Prometheus: requests by route template, and what every feature counts.

One process tells its own numbers. Where several serve one port, as gunicorn's workers do, give each a port of its own for this
page, or let an agent of the machine ask them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backendkit.core import context
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import MissingExtra
from backendkit.core.metrics import Family, Metrics
from backendkit.errors import Rendered

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ModuleNotFoundError as error:
    raise MissingExtra("the page /metrics", "prometheus-client", "prometheus") from error

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every scraper reads; the client library itself sends a later one only to those who ask for it."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"})
"""What is told of methods; clients may send any word, and each would be a series."""

UNMATCHED = "(none)"
"""The route of requests that no route served."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram."""


class MetricsPage:
    """Counts requests, and renders all numbers. Safe to use from any thread.

    Args:
        metrics: what the features count.
    """

    __slots__ = ("_durations", "_metrics", "_registry", "_requests")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "backendkit_http_requests",
            "Requests, by the template of the route that served them.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._durations = Histogram(
            "backendkit_http_request_duration_seconds",
            "How long requests took, until the last byte was sent.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Collected(metrics))

    def observe(self, method: str, route: str | None, status: int, duration_us: int) -> None:
        """Count a request."""
        method = method if method in METHODS else "OTHER"
        route = UNMATCHED if route is None else route
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(duration_us / SECOND_US)

    def page(self) -> Rendered:
        """Return the page."""
        body = generate_latest(self._registry)
        headers = (
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        )
        return Rendered(200, headers, body)


class CountedAccess:
    """Writes access lines, where somebody wants them, and counts the requests.

    Args:
        page: counts.
        access: writes, as `layers.AccessWriter`; None: nobody does.
    """

    __slots__ = ("_access", "_page")

    def __init__(self, page: MetricsPage, access: Any = None) -> None:
        self._page = page
        self._access = access

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
    ) -> None:
        """Tell one request."""
        self._page.observe(method, route, status, duration_us)
        if self._access is not None:
            self._access.write(request, method, path, status, duration_us, route=route, size=size)


class _Collected:
    """The features' numbers, as the client library asks for them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        for family in self._metrics.families():
            yield _told(family)


def _told(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    names = list(family.samples[0].labels) if family.samples else []
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    told = kind(family.name, family.help, labels=names)
    for sample in family.samples:
        told.add_metric([sample.labels[name] for name in names], sample.value)
    return told
