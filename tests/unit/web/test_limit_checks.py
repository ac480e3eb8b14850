"""A configuration that would limit wrongly is refused before it serves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backendkit.http.limit_checks import check_limits
from backendkit.http.limits import LimitRule
from backendkit.ratelimit import RateLimiter
from backendkit.stores import MemoryStore, connect
from tests.ground.single import Single


def test_memory_is_for_one_worker() -> None:
    """Else each worker admits the whole limit."""
    rule = LimitRule(limiter=RateLimiter(MemoryStore(), "5/minute"))
    check_limits([rule])
    with pytest.raises(ValueError, match="workers must be 1 where limits are kept in memory"):
        check_limits([rule], workers=2)


def test_a_limiter_stands_in_one_rule() -> None:
    """A request would be counted once where twice was meant."""
    shared = RateLimiter(MemoryStore(), "5/minute")
    rules = [
        LimitRule(limiter=shared),
        LimitRule(limiter=shared),
        LimitRule(limiter=lambda _: None),
    ]
    with pytest.raises(ValueError, match="rules must not share a limiter"):
        check_limits(rules)


def test_a_redis_that_evicts_is_refused(own_redis: Callable[..., Single]) -> None:
    """Its policy would forget usage as soon as memory is short."""
    single = own_redis()
    rule = LimitRule(limiter=RateLimiter(connect(single.url, timeout=5), "5/minute"))
    check_limits([rule], workers=4)
    single.server.command("CONFIG", "SET", "maxmemory", "100mb")
    check_limits([rule])
    single.server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(ValueError, match="maxmemory-policy must not evict"):
        check_limits([rule])
    single.server.kill()
    check_limits([rule])
