"""Plans, kept by another team's service and asked for over HTTP."""

from typing import Any, cast
from urllib.parse import quote

import httpx

from backendkit.errors import UpstreamError, UpstreamTimeout, raise_for_error
from examples.accounts.domain.errors import PlanNotFound

ANSWERED_WITHIN_S = 2.0


class HttpPlans:
    """The service at `url`. Safe to share between threads.

    Args:
        url: where it is, without a path.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=ANSWERED_WITHIN_S, trust_env=False)

    def all(self) -> list[dict[str, Any]]:
        """Return all plans, `name` and `price` of each."""
        response = self._ask("GET", "/plans")
        raise_for_error(response)
        return cast("list[dict[str, Any]]", response.json()["plans"])

    def reprice(self, name: str, price: int) -> None:
        """Change a price.

        Raises:
            PlanNotFound: there is no such plan.
        """
        response = self._ask("PUT", f"/plans/{quote(name, safe='')}", {"price": price})
        if response.status_code == httpx.codes.NOT_FOUND:
            raise PlanNotFound(plan=name)
        raise_for_error(response)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return self._client.request(method, path, json=body)
        except httpx.TimeoutException as error:
            raise UpstreamTimeout(f"plans: {type(error).__name__}") from error
        except httpx.TransportError as error:
            raise UpstreamError(f"plans: {error}") from error
