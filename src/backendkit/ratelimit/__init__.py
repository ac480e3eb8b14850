"""Rate limiting: exact, in one round trip, in memory and across a fleet.

    from backendkit.ratelimit import Limit, RateLimiter
    from backendkit.stores import connect

    limiter = RateLimiter(connect("redis://localhost"), [Limit("burst", "5/second"), Limit("daily", "1000/day")])
    decision = limiter.hit("user:42")                  # await limiter.aio.hit("user:42")
    if not decision.allowed:
        print(f"again in {decision.retry_after} s")

All limits of a limiter are asked in one atomic step: a request is admitted by all of them, or consumes nothing on
any. Beside `hit` there are `peek`, `reset`, `cancel` (give back one decision's units), `hit_up_to` (as many as fit),
`reserve` (count only if it fails, or only if it succeeds) and `acquire` (wait for room, first come first served).

| algorithm | promise | state |
|---|---|---|
| `SlidingLog()`, the default | exact in every window | 7 bytes a unit |
| `SlidingBuckets(buckets=10)` | never too much in any window; may refuse what is older than the window by a bucket | 67 bytes |
| `GCRA(burst=...)` | a steady rate with bursts | 23 bytes |
| `FixedWindow()` | per calendar window; up to twice the limit around its edge | 27 bytes |
| `Concurrency()` | so many at once | 17 bytes a seat |

When the store fails, each limit's `on_store_failure` decides: `"open"` admits, `"closed"` refuses with 503,
`"local"` goes on in this process with its share. No exception of the store reaches the caller of `hit`, but for
`StoreClosed`: a limiter that is used after its store was closed would else admit everybody.
"""

from backendkit.core.errors import RateLimited
from backendkit.ratelimit.algorithms import (
    GCRA,
    Algorithm,
    Concurrency,
    FixedWindow,
    SlidingBuckets,
    SlidingLog,
)
from backendkit.ratelimit.decision import Decision, LimitView, Receipt, Source
from backendkit.ratelimit.events import LimitDenied, StoreFound, StoreLost, SubjectBlocked
from backendkit.ratelimit.face import AsyncRateLimiter, RateLimiter
from backendkit.ratelimit.plan import Subject, Subjects
from backendkit.ratelimit.policy import Lease, Limit, OnStoreFailure, Penalty, parse
from backendkit.ratelimit.reservation import (
    AsyncReservation,
    LimiterClosed,
    LimitReached,
    Reservation,
)

__all__ = [
    "GCRA",
    "Algorithm",
    "AsyncRateLimiter",
    "AsyncReservation",
    "Concurrency",
    "Decision",
    "FixedWindow",
    "Lease",
    "Limit",
    "LimitDenied",
    "LimitReached",
    "LimitView",
    "LimiterClosed",
    "OnStoreFailure",
    "Penalty",
    "RateLimited",
    "RateLimiter",
    "Receipt",
    "Reservation",
    "SlidingBuckets",
    "SlidingLog",
    "Source",
    "StoreFound",
    "StoreLost",
    "Subject",
    "SubjectBlocked",
    "Subjects",
    "parse",
]
