"""An adapter for requests that breaks circuits and repeats, per host.

    session.mount("https://", ResilientAdapter(Upstream("payments", breakers=kit.breakers)))

The session behaves as before: it gets responses, whatever their status, and requests' own exceptions. Only a circuit that is
open raises `CircuitOpen`, and a deadline that is over `DeadlineExceeded`, without a request. A deadline in force shortens
timeouts.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlsplit

from backendkit.core.errors import MissingExtra
from backendkit.resilience.upstream import Attempts, FailedResponse, Faults, Upstream, blamed

try:
    import requests
    from requests.adapters import HTTPAdapter
except ModuleNotFoundError as error:
    raise MissingExtra("backendkit.resilience.requests_adapter", "requests", "requests") from error

FAULTS = Faults(
    failures=(
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
        FailedResponse,
    ),
    unsent=(requests.ConnectTimeout,),
    own=(requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader),
)
"""What requests raises."""


class ResilientAdapter(HTTPAdapter):
    """An adapter for `Session.mount`.

    Args:
        upstream: the policies; None: the usual ones.
        **options: as for `requests.adapters.HTTPAdapter`; `max_retries` stays 0, for the policies repeat.
    """

    def __init__(self, upstream: Upstream | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.upstream = Upstream() if upstream is None else upstream

    def send(  # noqa: PLR0917 - as requests has it
        self,
        request: Any,
        stream: bool = False,  # noqa: FBT001, FBT002 - as above
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002 - as above
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        """Send a request, as often as its host's policy says; see the module's text for what it raises."""
        upstream, attempts = self.upstream, Attempts()
        once = super().send

        def attempt() -> Any:
            if (before := attempts.take()) is not None:
                before.close()
            left = upstream.remaining()
            with blamed(FAULTS, replayable=again):
                response = attempts.last = once(
                    _told(upstream, request, left), stream=stream, timeout=_sooner(timeout, left),
                    verify=verify, cert=cert, proxies=proxies,
                )  # fmt: skip
            response.request = request
            return upstream.checked(response)

        again = request.body is None or isinstance(request.body, str | bytes)
        twice = again and upstream.may_repeat(request.method or "", request.headers)
        policy = upstream.policy(host_of(request.url or ""), FAULTS, twice=twice)
        try:
            return policy.call(attempt)
        except FailedResponse as failed:
            return failed.response
        except BaseException:
            if (unwanted := attempts.take()) is not None:
                unwanted.close()
            raise


def host_of(url: str) -> str:
    """Return the host that a URL names, with its port, unless that is the usual one."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    usual = {"http": ":80", "https": ":443"}.get(parts.scheme)
    return host if usual is None else host.removesuffix(usual)


def _told(upstream: Upstream, request: Any, left: float | None) -> Any:
    """Return a request that tells what is left; the caller's own may be sent again without a deadline."""
    if left is None:
        return request
    told = request.copy()
    upstream.tell(told.headers, left)
    return told


def _sooner(timeout: Any, left: float | None) -> Any:
    """Return timeouts of which none is longer than what is left."""
    if left is None:
        return timeout
    pair = cast(
        "tuple[float | None, ...]", timeout if isinstance(timeout, tuple) else (timeout,) * 2
    )
    return tuple(left if part is None else min(part, left) for part in pair)
