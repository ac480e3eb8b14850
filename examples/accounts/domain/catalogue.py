"""What can be subscribed to: another team's list, read far more often than it changes, and therefore cached."""

from typing import Any

from backendkit.cache import Cache
from examples.accounts.domain.ports import Plans

TAG = "catalogue"
"""What everything that is made of the list is dropped by."""


class Catalogue:
    """The plans. Safe to share between threads.

    Args:
        plans: who keeps them.
        cache: where they are kept meanwhile; for how long, and how long beyond that while `plans` fails, it knows.
    """

    def __init__(self, plans: Plans, cache: Cache) -> None:
        self._plans = plans
        self._cache = cache
        self._all = cache.cached("plans", tags=[TAG])(plans.all)

    def all(self) -> list[dict[str, Any]]:
        """Return all plans: of any number of callers at once, one asks for them.

        Raises:
            UpstreamError: whoever keeps them has failed, and nothing is left of what was said before.
            UpstreamTimeout: or has not answered in time.
        """
        return self._all()

    def reprice(self, name: str, price: int) -> None:
        """Change a price. Whoever asks after this has returned gets the new one.

        Raises:
            PlanNotFound: there is no such plan.
            UpstreamError: whoever keeps them has failed.
            UpstreamTimeout: or has not answered in time.
        """
        self._plans.reprice(name, price)
        self._cache.invalidate_tags(TAG)

    def seen(self) -> dict[str, int]:
        """Return how the cache has fared: hits of its two tiers, loads, and callers who got what was stale."""
        stats = self._cache.stats()
        return {
            "l1": stats.l1_hits,
            "l2": stats.l2_hits,
            "loads": stats.loads,
            "stale": stats.stale,
        }
