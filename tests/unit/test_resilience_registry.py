"""Breakers by name and host: bounded, alike, and never all open."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Event
from backendkit.resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitKeptClosed,
    CircuitRegistry,
)
from backendkit.stores import MemoryStore

SECOND = 1_000_000


def registry_of(**options: Any) -> CircuitRegistry:
    """Make a registry whose breakers open at the first failure."""
    usual: dict[str, Any] = {
        "policy": BreakerPolicy(minimum_calls=1, jitter=0),
        "clock": ManualClock(),
    }
    return CircuitRegistry(**{**usual, **options})


def fail(breaker: CircuitBreaker) -> None:
    """Let a call fail."""

    def failing() -> None:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        breaker.call(failing)


def test_a_name_or_host_has_one_breaker() -> None:
    """The same one at each question, from any thread."""
    registry = registry_of()
    assert registry.get("pay") is registry.get("pay")
    assert registry.get("pay", "a.example") is not registry.get("pay")
    assert registry.get("pay", "a.example").name == "pay/a.example"
    assert registry.find("pay/a.example") is registry.get("pay", "a.example")
    assert registry.find("nobody") is None
    found: list[CircuitBreaker] = []
    threads = [threading.Thread(target=lambda: found.append(registry.get("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_options_are_inherited_and_may_change() -> None:
    """From the registry to the name to its hosts, those that exist included."""
    registry = registry_of(trials=7)
    early = registry.get("pay", "a")
    registry.configure("pay", open_for=5)
    late = registry.get("pay", "b")
    for breaker in (early, late):
        assert (breaker.policy.open_for, breaker.policy.trials) == (5, 7)
        assert breaker.policy.minimum_calls == 1
    assert registry.get("else").policy.open_for == 30
    with pytest.raises(InvalidArgument):
        registry.configure("pay", trials=0)
    assert registry.get("pay", "c").policy.trials == 7
    registry.configure("pay", fail_max=5)
    assert early.policy == registry.get("pay", "d").policy
    assert (early.fail_max, early.policy.open_for) == (5, 30)


def test_those_without_room_take_options_too() -> None:
    """The one breaker that they share is of their name."""
    registry = registry_of(max_size=1)
    registry.get("pay", "a").force_open()
    shared = registry.get("pay", "b")
    registry.configure("pay", open_for=5)
    assert registry.get("pay", "c") is shared
    assert shared.policy.open_for == 5


@pytest.mark.parametrize("shared", [False, True])
def test_a_hundred_thousand_hosts_take_bounded_room(shared: bool) -> None:
    """And the breaker of one that is open stays, until its time is over."""
    clock = ManualClock()
    store = MemoryStore(clock=clock) if shared else None
    registry = registry_of(max_size=100, store=store, clock=clock)
    opened = registry.get("web", "broken")
    fail(opened)
    for n in range(100_000 if not shared else 3_000):
        registry.get("web", f"host{n}")
    assert len(registry) == 100
    assert registry.get("web", "broken") is opened
    clock.advance(31 * SECOND)
    for n in range(200):
        registry.get("web", f"later{n}")
    assert registry.find("web/broken") is None


def test_where_no_breaker_may_go_newcomers_share_one() -> None:
    """Bounded even when everything is open."""
    registry = registry_of(max_size=5)
    for n in range(5):
        fail(registry.get("web", f"host{n}"))
    other = registry.get("web", "new")
    assert other is registry.get("web", "newer")
    assert other.name == "web/*"
    assert len(registry) == len(list(registry)) == 6


def test_never_more_than_a_share_of_hosts_is_open() -> None:
    """What would have opened says so, lets calls through, and opens once there is room."""
    events: list[Event] = []
    registry = registry_of(max_open_share=0.3)
    registry.hooks.add(events.append, CircuitKeptClosed)
    hosts = [registry.get("web", f"host{n}") for n in range(10)]
    for breaker in hosts:
        fail(breaker)
        fail(breaker) if breaker.current_state == "closed" else None
    assert [b.current_state for b in hosts] == ["open"] * 3 + ["closed"] * 7
    assert events == [CircuitKeptClosed(f"web/host{n}", 1, 1) for n in range(3, 10)]
    hosts[0].close()
    fail(hosts[5])
    assert hosts[5].current_state == "open"


def test_at_least_one_may_open() -> None:
    """However small the share; threads do not get around it."""
    registry = registry_of(max_open_share=0.01)
    hosts = [registry.get("web", f"host{n}") for n in range(8)]
    threads = [threading.Thread(target=fail, args=(breaker,)) for breaker in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(b.current_state == "open" for b in hosts) == 1


def test_those_who_leave_are_not_counted() -> None:
    """An open one whose time is over makes room for another when it goes."""
    clock = ManualClock()
    registry = registry_of(max_open_share=0.5, max_size=2, clock=clock)
    first, second = registry.get("web", "a"), registry.get("web", "b")
    fail(first)
    clock.advance(40 * SECOND)
    third = registry.get("web", "c")
    assert registry.find("web/a") is None
    fail(second)
    assert second.current_state == "open"
    fail(third)
    assert third.current_state == "closed"
    first.close()
    fail(third)
    assert third.current_state == "closed"


def test_any_host_has_a_name() -> None:
    """Long ones, and those with other letters, stay apart."""
    registry = registry_of()
    names = {
        registry.get("web", host).name for host in ("é.example", "è.example", "x" * 300, "x" * 301)
    }
    assert len(names) == 4
    assert all(len(name) <= 128 and name.isascii() for name in names)


@pytest.mark.parametrize(
    "options",
    [{"max_size": 0}, {"max_open_share": 0}, {"max_open_share": 1.5}, {"max_open_share": True}],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    """By name."""
    with pytest.raises(InvalidArgument, match=next(iter(options))):
        registry_of(**options)
