"""A look at a configuration before it serves: what would limit wrongly, and say nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument, StoreError
from backendkit.core.operation import Change, Operation, Reply, Script, State
from backendkit.core.store import Store
from backendkit.http.limits import LimitRule
from backendkit.ratelimit import RateLimiter

logger = logging.getLogger("backendkit.ratelimit")


def check_limits(rules: Iterable[LimitRule], *, workers: int = 1) -> None:
    """Refuse a configuration that would limit wrongly. `install` calls it for the rules that it finds.

    Args:
        rules: those that one request meets: an application's, and one route's. Those whose limiter is a function are
            looked at no further.
        workers: processes that serve the application.

    Raises:
        InvalidArgument: a limiter is used twice, which would count a request once where twice was meant; two limiters
            share a history, which would count a request twice where once was meant; several workers have a
            memory store each; Redis is full by policy, and evicts usage.

    Cost: one operation per store; a store that does not answer is let pass.
    """
    check_chains([list(rules)], workers=workers)


def check_chains(chains: Iterable[Sequence[LimitRule]], *, workers: int = 1) -> None:
    """Check what `check_limits` does for the rules of many routes, each store once."""
    checks.whole("workers", workers, least=1)
    stores: list[Store] = []
    for chain in chains:
        limited = [(rule, rule.limiter) for rule in chain if isinstance(rule.limiter, RateLimiter)]
        for place, (rule, limiter) in enumerate(limited):
            for other, others in limited[:place]:
                if _meet(rule, other):
                    _check_pair(limiter, others)
            if all(limiter.store is not known for known in stores):
                stores.append(limiter.store)
                _check_store(limiter.store, workers)


def _meet(one: LimitRule, other: LimitRule) -> bool:
    """Whether a request can meet both rules."""
    return one.methods is None or other.methods is None or bool(one.methods & other.methods)


def _check_pair(one: RateLimiter, other: RateLimiter) -> None:
    fix = "give each rule a limiter of its own, with a name of its own."
    if one is other:
        raise InvalidArgument("rules", "must not share a limiter", one.name, fix)
    if one.store is other.store and one.histories & other.histories:
        rule = "must not count a request twice, by limiters of one name and the same limits"
        raise InvalidArgument("rules", rule, one.name, fix)


def _check_store(store: Store, workers: int) -> None:
    try:
        found = store.run(Operation(_POLICY, (b"backendkit:ratelimit:policy",), (), _policy))
    except StoreError:
        return
    if found == "memory" and workers > 1:
        fix = "use a redis:// store, or limit at 1 / workers of the amounts."
        raise InvalidArgument("workers", "must be 1 where limits are kept in memory", workers, fix)
    if found.startswith("allkeys-"):
        fix = "set maxmemory-policy noeviction, or a volatile- one and memory to spare."
        raise InvalidArgument("maxmemory-policy", "must not evict what counts usage", found, fix)
    if found.startswith("volatile-"):
        logger.warning(
            "maxmemory-policy %s: usage has a time to live, and is forgotten when memory is short",
            found,
        )


def _policy(reply: Reply) -> str:
    text = reply[0] if isinstance(reply[0], bytes) else b""
    cut = (line.partition(b":") for line in text.splitlines())
    fields = {name: value for name, _, value in cut}
    unbounded = fields.get(b"maxmemory") == b"0"
    return "unbounded" if unbounded else fields.get(b"maxmemory_policy", text).decode()


def _fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [b"memory"])


_POLICY = Script("ratelimit.policy", lua="return {redis.call('INFO', 'memory')}", fold=_fold)
