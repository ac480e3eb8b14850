"""A look at a configuration before it serves: what would limit wrongly, and say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument, StoreError
from backendkit.core.operation import Change, Operation, Reply, Script, State
from backendkit.core.store import Store
from backendkit.http.limits import LimitRule
from backendkit.ratelimit import RateLimiter


def check_limits(rules: Iterable[LimitRule], *, workers: int = 1) -> None:
    """Refuse a configuration that would limit wrongly; call it at start, with all rules of an application.

    Args:
        rules: all of them. Those whose limiter is a function are looked at no further.
        workers: processes that serve the application.

    Raises:
        InvalidArgument: a limiter is used twice, which would count a request once where twice was meant; several
            workers have a memory store each; Redis is full by policy, and evicts usage.

    Cost: one operation per store; a store that does not answer is let pass.
    """
    checks.whole("workers", workers, least=1)
    seen: list[RateLimiter] = []
    for rule in rules:
        limiter = rule.limiter
        if not isinstance(limiter, RateLimiter):
            continue
        if any(limiter is other for other in seen):
            fix = "give each rule a limiter of its own."
            raise InvalidArgument("rules", "must not share a limiter", limiter.name, fix)
        if all(limiter.store is not other.store for other in seen):
            _check_store(limiter.store, workers)
        seen.append(limiter)


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


def _policy(reply: Reply) -> str:
    text = reply[0] if isinstance(reply[0], bytes) else b""
    fields = dict(line.partition(b":")[::2] for line in text.splitlines())
    unbounded = fields.get(b"maxmemory") == b"0"
    return "unbounded" if unbounded else fields.get(b"maxmemory_policy", text).decode()


def _fold(states: Sequence[State], now: int, args: Sequence[Any]) -> Change:
    return Change((), [b"memory"])


_POLICY = Script("ratelimit.policy", lua="return {redis.call('INFO', 'memory')}", fold=_fold)
