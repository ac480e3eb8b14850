"""Transports for httpx that break circuits and repeat, per host.

    upstream = Upstream("payments", breakers=kit.breakers)
    client = httpx.AsyncClient(transport=ResilientAsyncTransport(upstream))

The client behaves as before: it gets responses, whatever their status, and httpx's own exceptions. Only a circuit that is open
raises `CircuitOpen`, and a deadline that is over `DeadlineExceeded`, without a request. A deadline in force shortens the
client's timeouts. Judged is what comes until the headers; the body may still fail.
"""

from __future__ import annotations

from backendkit.core.errors import MissingExtra
from backendkit.resilience.layers import Policy
from backendkit.resilience.upstream import Attempts, FailedResponse, Faults, Upstream, blamed

try:
    import httpx
except ModuleNotFoundError as error:
    raise MissingExtra("backendkit.resilience.httpx_transports", "httpx", "httpx") from error

FAULTS = Faults(
    failures=(httpx.TransportError, FailedResponse),
    unsent=(httpx.ConnectError, httpx.ConnectTimeout),
    own=(httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError),
)
"""What httpx raises."""


class ResilientTransport(httpx.BaseTransport):
    """A transport around a transport, for `httpx.Client`.

    Args:
        upstream: the policies; None: the usual ones.
        transport: what sends; None: `httpx.HTTPTransport()`.
    """

    def __init__(
        self, upstream: Upstream | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.upstream = Upstream() if upstream is None else upstream
        self._transport = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as often as its host's policy says; see the module's text for what it raises."""
        upstream, attempts = self.upstream, Attempts()

        def send() -> httpx.Response:
            if (before := attempts.take()) is not None:
                before.close()
            hurried = _hurried(upstream, request)
            with blamed(FAULTS, replayable=_is_replayable(request)):
                response = attempts.last = self._transport.handle_request(hurried)
            checked: httpx.Response = upstream.checked(response)
            return checked

        try:
            return _policy(upstream, request).call(send)
        except FailedResponse as failed:
            response: httpx.Response = failed.response
            return response
        except BaseException:
            if (unwanted := attempts.take()) is not None:
                unwanted.close()
            raise

    def close(self) -> None:
        """Close the transport within."""
        self._transport.close()


class ResilientAsyncTransport(httpx.AsyncBaseTransport):
    """A transport around a transport, for `httpx.AsyncClient`; arguments as for `ResilientTransport`."""

    def __init__(
        self,
        upstream: Upstream | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.upstream = Upstream() if upstream is None else upstream
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, as often as its host's policy says; see the module's text for what it raises."""
        upstream, attempts = self.upstream, Attempts()

        async def send() -> httpx.Response:
            if (before := attempts.take()) is not None:
                await before.aclose()
            hurried = _hurried(upstream, request)
            with blamed(FAULTS, replayable=_is_replayable(request)):
                response = attempts.last = await self._transport.handle_async_request(hurried)
            checked: httpx.Response = upstream.checked(response)
            return checked

        try:
            return await _policy(upstream, request).call_async(send)
        except FailedResponse as failed:
            response: httpx.Response = failed.response
            return response
        except BaseException:
            if (unwanted := attempts.take()) is not None:
                await unwanted.aclose()
            raise

    async def aclose(self) -> None:
        """Close the transport within."""
        await self._transport.aclose()


def _policy(upstream: Upstream, request: httpx.Request) -> Policy:
    twice = _is_replayable(request) and upstream.may_repeat(request.method, request.headers)
    host = request.url.netloc.decode("ascii").lower()
    return upstream.policy(host, FAULTS, twice=twice)


def _is_replayable(request: httpx.Request) -> bool:
    """Tell whether the body is at hand: one that is read while it is sent is gone after the first attempt."""
    return isinstance(request.stream, httpx.ByteStream)


def _hurried(upstream: Upstream, request: httpx.Request) -> httpx.Request:
    """Return a request none of whose waits lasts longer than the deadline; the caller's own may be sent again without one."""
    left = upstream.remaining()
    if left is None:
        return request
    timeouts = dict(request.extensions.get("timeout", {}))
    for phase in ("connect", "read", "write", "pool"):
        own = timeouts.get(phase)
        timeouts[phase] = left if own is None else min(own, left)
    extensions = {**request.extensions, "timeout": timeouts}
    hurried = httpx.Request(
        request.method, request.url, headers=request.headers, stream=request.stream, extensions=extensions
    )  # fmt: skip
    upstream.tell(hurried.headers, left)
    return hurried
