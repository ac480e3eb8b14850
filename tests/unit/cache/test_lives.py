"""How long entries live: in the first tier never longer than in the second, shortened by chance, apart for None."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backendkit.cache
from backendkit.cache import CachePolicy, JsonCodec
from backendkit.cache.face import Cache
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.stores import MemoryStore
from tests.unit.cache.world import World


@given(ttl=st.integers(2, 1_000), waited=st.integers(0, 999))
def test_the_first_tier_never_outlives_the_second(ttl: int, waited: int) -> None:
    """Whoever fetches an old entry keeps it for what is left, not for the whole of its own time."""
    waited = min(waited, ttl - 1)
    clock = ManualClock()
    world = World(clock)
    policy = CachePolicy(ttl=ttl, beta=0)
    one, two = (world.cache(codec=JsonCodec(), policy=policy) for _ in range(2))
    one.get_or_load("a", lambda: 1)
    clock.advance(waited * SECOND_US)
    assert two.get_or_load("a", lambda: 2) == 1
    clock.advance((ttl - waited) * SECOND_US - 1)
    assert two.get("a") == 1
    clock.advance(1)
    assert two.get("a") is None
    assert two.get_or_load("a", lambda: 2) == 2


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 100), (0.5, 90), (0.999999, 80)])
def test_jitter_shortens_lives_by_its_share_at_the_most(chance: float, seconds: int) -> None:
    """Never lengthens them: what was promised to be fresh is."""
    clock = ManualClock()
    policy = CachePolicy(ttl=100, jitter=0.2, beta=0)
    cache = Cache(MemoryStore(clock=clock), policy=policy, chance=lambda: chance)
    cache.get_or_load("a", lambda: 1)
    clock.advance((seconds - 1) * SECOND_US)
    assert cache.get("a") == 1
    clock.advance(2 * SECOND_US)
    assert cache.get("a") is None


def test_the_first_tier_may_keep_things_for_less() -> None:
    """Then the second one is asked again, and nothing is loaded."""
    clock = ManualClock()
    world = World(clock)
    policy = CachePolicy(ttl=100, l1_ttl=1, beta=0)
    cache = world.cache(codec=JsonCodec(), policy=policy)
    cache.get_or_load("a", lambda: 1)
    clock.advance(SECOND_US)
    before = cache.stats()
    assert cache.get_or_load("a", lambda: 2) == 1
    after = cache.stats()
    assert (after.l2_hits - before.l2_hits, after.loads - before.loads) == (1, 0)


def test_what_the_first_tier_keeps_for_less_is_not_loaded_early() -> None:
    """It is asked for again, of the second one; early refreshes are about the end of the entry itself."""
    clock = ManualClock()
    world = World(clock)
    policy = CachePolicy(ttl=100, l1_ttl=1)
    cache = world.cache(codec=JsonCodec(), policy=policy, chance=lambda: 1e-7)

    def slow() -> int:
        clock.advance(SECOND_US // 2)
        return 1

    assert cache.get_or_load("a", slow) == 1
    for _ in range(40):
        clock.advance(SECOND_US // 4)
        assert cache.get_or_load("a", slow) == 1
    assert cache.stats().loads == 1


def test_none_has_a_life_of_its_own() -> None:
    """And is a value as long as it lives."""
    clock = ManualClock()
    policy = CachePolicy(ttl=100, negative_ttl=5, beta=0)
    cache = Cache(MemoryStore(clock=clock), policy=policy)
    loads: list[int] = []
    for seconds in (0, 4, 1):
        clock.advance(seconds * SECOND_US)
        assert cache.get_or_load("a", lambda: loads.append(1)) is None
    assert len(loads) == 2


def test_only_the_admin_command_walks_through_keys() -> None:
    """No feature scans or lists what is stored, nor takes part in redis-py's own caching."""
    folder = Path(backendkit.cache.__file__).parent
    for file in folder.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name not in ("admin.py", "survey.py"):
            assert not re.search(r"\bscan_iter\b|['\"](SCAN|KEYS|SMEMBERS)['\"]", text), file
        if file.name != "admin.py":
            assert (
                "survey" not in re.sub('""".*?"""', "", text, flags=re.DOTALL)
                or file.name == "survey.py"
            ), file
        assert not re.search(r"CacheConfig|CLIENT.{0,4}TRACKING", text), file
