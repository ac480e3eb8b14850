"""The cache on one tier and on two, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backendkit.cache.codecs import JsonCodec
from backendkit.cache.face import Cache
from backendkit.cache.policy import Coherence
from backendkit.core.clock import ManualClock
from backendkit.stores import MemoryStore
from tests.unit.cache.world import World


class Player:
    """One face, for a caller that blocks: the asynchronous one is awaited on a loop of its own."""

    def __init__(self, cache: Cache, *, awaits: bool) -> None:
        self.cache = cache
        self._face: Any = cache.aio if awaits else cache
        self._runner = asyncio.Runner() if awaits else None

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._face, name)
        if self._runner is None:
            return function
        runner = self._runner

        def play(*args: Any, **options: Any) -> Any:
            async def settled() -> Any:
                result = await function(*args, **options)
                others = asyncio.all_tasks() - {asyncio.current_task()}
                if others:
                    await asyncio.wait(others, timeout=5)
                return result

            return runner.run(settled())

        return play

    def end(self) -> None:
        """Close."""
        self.cache.close()
        if self._runner is not None:
            self._runner.close()


@pytest.fixture
def clock() -> ManualClock:
    """Everybody's."""
    return ManualClock(mono_us=1_000_000)


@pytest.fixture(params=["alone-sync", "alone-async", "two-sync", "two-async"])
def make(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Callable[..., Player]]:
    """Make a cache of one tier, or of two, in a colour."""
    tiers, _, colour = request.param.partition("-")
    made: list[Player] = []
    world = World(clock)

    def one(**options: Any) -> Player:
        options.setdefault("chance", lambda: 1.0)
        if tiers == "alone":
            cache = Cache(MemoryStore(clock=clock), **options)
        else:
            coherence = options.pop("coherence", None) or Coherence(max_l1_staleness=3_600)
            cache = world.cache(codec=JsonCodec(), coherence=coherence, **options)
        made.append(Player(cache, awaits=colour == "async"))
        return made[-1]

    yield one
    for player in made:
        player.end()
