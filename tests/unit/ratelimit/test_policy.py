"""Limits by object and by text; what is wrong with one is said when it is built."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backendkit.ratelimit import (
    GCRA,
    Concurrency,
    FixedWindow,
    Lease,
    Limit,
    Penalty,
    RateLimiter,
    SlidingBuckets,
    parse,
)
from backendkit.stores import MemoryStore


@pytest.mark.parametrize(
    ("rate", "per", "amount", "window"),
    [
        ("5/second", None, 5, 1),
        ("5/s", None, 5, 1),
        ("100 per 2 minutes", None, 100, 120),
        ("1000/1d", None, 1000, 86_400),
        ("7 / 250ms", None, 7, 0.25),
        (10, 60, 10, 60),
        (10, 0.001, 10, 0.001),
        (10, "1h", 10, 3600),
        (10, timedelta(weeks=1), 10, 604_800),
    ],
)
def test_a_rate_is_read(rate: Any, per: Any, amount: int, window: float) -> None:
    """Numbers, durations and text say the same."""
    limit = Limit("x", rate, per=per)
    assert (limit.amount, limit.window) == (amount, window)


def test_a_group_is_named_after_its_windows() -> None:
    """A group in text is several limits, whose names do not change with their amounts."""
    assert [(x.name, x.amount) for x in parse("200/day; 50 per hour,5/10s")] == [
        ("limit-1d", 200),
        ("limit-1h", 50),
        ("limit-10s", 5),
    ]


WRONG: list[tuple[Any, str]] = [
    (lambda: Limit("", "5/s"), "name must be 1..128 characters long, got ''"),
    (lambda: Limit("ä", "5/s"), "name must be printable ASCII text, got 'ä'"),
    (lambda: Limit("x", "5"), "rate must be like"),
    (lambda: Limit("x", "0/s"), "rate must be in 1..2147483647, got 0"),
    (lambda: Limit("x", "5/fortnight"), "rate must end in a time like"),
    (lambda: Limit("x", 5), "per must say the window"),
    (lambda: Limit("x", "5/s", per=1), "per must be left out"),
    (lambda: Limit("x", 5, per=0.0005), "per must be in 0.001"),
    (lambda: Limit("x", 5, per=0.0015), "per must be a multiple of 0.001 seconds, got 0.0015"),
    (lambda: Limit("x", True, per=1), "rate must be a whole number, got True"),
    (lambda: Limit("x", "5/s", on_store_failure="maybe"), "on_store_failure must be"),  # type: ignore[arg-type]
    (lambda: Limit("x", "5/s", algorithm=GCRA), "algorithm must be an algorithm object"),  # type: ignore[arg-type]
    (lambda: Limit("x", "2000000/s"), "rate must be at most 1000000 for SlidingLog"),
    (lambda: SlidingBuckets(0), "buckets must be in 1..1000, got 0"),
    (lambda: Limit("x", "5/ms", algorithm=SlidingBuckets(1000)).share(0), ""),
    (lambda: GCRA(burst=0), "burst must be in 1.."),
    (lambda: Limit("x", "2000000/day", algorithm=GCRA()), "burst must be such that burst * window"),
    (lambda: Penalty(after=0, block_for=1), "after must be in 1.."),
    (lambda: Penalty(after=1, block_for=60, longest=1), "longest must be at least block_for"),
    (lambda: Lease(permits=1), "permits must be in 2..1000000, got 1"),
    (lambda: parse(""), "limits must have at least one limit"),
    (lambda: RateLimiter(MemoryStore(), "5/s;6/second"), "limits must have different names"),
    (lambda: RateLimiter(MemoryStore(), []), "limits must have at least one limit"),
    (
        lambda: RateLimiter(
            MemoryStore(), Limit("x", "5/s", algorithm=GCRA()), lease=Lease(permits=5)
        ),
        "lease must not be given where a limit counts by GCRA",
    ),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_is_wrong_is_said(make: Any, said: str) -> None:
    """A ValueError that names argument, rule and value."""
    if not said:
        with pytest.raises(ZeroDivisionError):
            make()
        return
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize("cost", [-1, 1.0, True, "1", None, 2**31])
def test_a_cost_is_a_whole_number(cost: Any) -> None:
    """A negative cost would raise the quota."""
    limiter = RateLimiter(MemoryStore(), "5/s")
    for call in (limiter.hit, limiter.peek):
        with pytest.raises(ValueError, match="cost must be"):
            call("x", cost=cost)


@pytest.mark.parametrize("key", ["", b"", (), ("",), None, 1.5, {}, {"who": "x"}])
def test_a_subject_is_somebody(key: Any) -> None:
    """An empty key would count everybody together."""
    with pytest.raises(ValueError, match="key must"):
        RateLimiter(MemoryStore(), "5/s").hit(key)


def test_a_share_is_rounded_up() -> None:
    """Nodes together admit at most L + nodes - 1."""
    limit = Limit("x", "10/minute", algorithm=GCRA(burst=5))
    share = limit.share(3)
    assert (share.amount, share.quota, share.window) == (4, 2, 60)
    assert Limit("x", 3, per=30, algorithm=Concurrency()).share(3).amount == 1
    assert Limit("x", "1/s", algorithm=FixedWindow()).quota == 1
