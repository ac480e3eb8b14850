"""Payments, kept by a provider and asked for over HTTP: through a circuit breaker, with retries out of a budget."""

import httpx

from backendkit.errors import UpstreamError, UpstreamTimeout, raise_for_error
from backendkit.kit import Kit
from backendkit.resilience.httpx_transports import ResilientTransport
from backendkit.resilience.upstream import Upstream

ANSWERED_WITHIN_S = 2.0
"""Seconds that the provider has."""

SLOW_S = 0.25
"""Seconds from which on an answer is a bad sign."""


class HttpPayments:
    """The provider at `url`. Safe to share between threads.

    Args:
        url: where it is, without a path.
        kit: keeps the breakers, which operators can see.
    """

    def __init__(self, url: str, kit: Kit) -> None:
        # Small numbers, for a demonstration that is over in a few seconds.
        kit.breakers.configure(
            "payments", window=10, minimum_calls=4, open_for=0.5, open_growth=1, jitter=0, trials=2,
            slow_after=SLOW_S, slow_rate=0.75,
        )  # fmt: skip
        upstream = Upstream("payments", breakers=kit.breakers, header="X-Request-Timeout")
        transport = ResilientTransport(upstream, transport=httpx.HTTPTransport())
        self._client = httpx.Client(base_url=url, timeout=ANSWERED_WITHIN_S, transport=transport)

    def status(self, payment: int) -> str:
        """Return how a payment stands.

        Raises:
            CircuitOpen: the provider has failed too often, or was too slow; it was not asked.
            UpstreamTimeout: no answer came in time.
            UpstreamError: there is no such service, or it has failed.
        """
        try:
            response = self._client.get(f"/payments/{payment}")
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"payments: {type(error).__name__}") from error
        except httpx.TransportError as error:
            raise UpstreamError(f"payments: {error}") from error
        raise_for_error(response)
        return str(response.json()["status"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
