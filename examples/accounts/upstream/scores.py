"""Scores, kept by another team's service and asked for over HTTP."""

from urllib.parse import quote

import httpx

from backendkit.errors import UpstreamError, UpstreamTimeout, raise_for_error

ANSWERED_WITHIN_S = 2.0
"""Seconds that the other service has: whoever waits longer only piles up more who wait."""


class HttpScores:
    """The service at `url`. Safe to share between threads.

    Args:
        url: where it is, without a path.
        timeout_s: seconds that it may take to answer.
    """

    def __init__(self, url: str, *, timeout_s: float = ANSWERED_WITHIN_S) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def of(self, name: str) -> int:
        """Return the score of whoever has this name.

        Raises:
            UpstreamTimeout: no answer came in time.
            UpstreamError: there is no such service, or it has failed; also what it says of itself, by its own code.
        """
        try:
            response = self._client.get("/scores/" + quote(name, safe=""))
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"scores: {type(error).__name__}") from error
        except httpx.TransportError as error:
            raise UpstreamError(f"scores: {error}") from error
        raise_for_error(response)
        return int(response.json()["score"])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
