"""The composition root: builds late, closes once, owns what it opened."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import pytest

from backendkit.cache import L1, Loaded
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument, StoreClosed
from backendkit.core.events import Event
from backendkit.core.health import ping
from backendkit.errors import NotFound
from backendkit.kit import Kit
from backendkit.ratelimit import LimitDenied
from backendkit.settings import (
    CacheSettings,
    HttpSettings,
    RateLimitSettings,
    Settings,
    StoreSettings,
)
from backendkit.stores import MemoryStore
from tests.ground.single import Single
from tests.ground.waiting import eventually


def test_the_store_opens_on_first_use_and_stays() -> None:
    """Once."""
    with Kit() as kit:
        assert isinstance(kit.store, MemoryStore)
        assert kit.store is kit.store


def test_closing_is_idempotent_and_a_later_use_opens_anew() -> None:
    """The same store, so that what holds it works again, too."""
    kit = Kit()
    kit.close()
    first = kit.store
    kit.close()
    kit.close()
    with pytest.raises(StoreClosed):
        first.run(ping())
    assert kit.store is first
    first.run(ping())
    asyncio.run(kit.aclose())
    asyncio.run(kit.aclose())


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_an_application_whose_lifespan_runs_twice_works_twice(
    where: str, redis_single: Single
) -> None:
    """As in tests: what was made with the kit before the first run serves in the second."""
    url = "memory://" if where == "memory" else redis_single.url
    settings = Settings(
        store=StoreSettings.model_validate({"url": url}),
        ratelimit=RateLimitSettings(timeout=10, deny_cache_max=0),
    )
    kit = Kit(settings)
    limiter, cache = kit.limiter("1/minute", name=f"twice-{where}"), kit.cache()

    async def load() -> int:
        loads.append(1)
        return 7

    loads: list[int] = []

    async def run() -> list[bool]:
        kit.open()
        await limiter.aio.reset("a")
        allowed = [(await limiter.aio.hit("a")).allowed, limiter.hit("a").allowed]
        await cache.aio.invalidate("twice")
        assert [await cache.aio.get_or_load("twice", load) for _ in range(2)] == [7, 7]
        await kit.aclose()
        return allowed

    for _ in range(3):
        assert asyncio.run(run()) == [True, False]
    assert len(loads) == 3
    with pytest.raises(StoreClosed):
        limiter.hit("a")


class Closing(MemoryStore):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1
        super().close()


def test_a_store_that_was_passed_in_is_its_makers_to_close() -> None:
    """The kit did not open it."""
    store = Closing()
    kit = Kit(store=store)
    assert kit.store is store
    kit.close()
    asyncio.run(kit.aclose())
    assert store.closed == 0


def test_closing_closes_what_was_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways."""
    monkeypatch.setattr("backendkit.stores.connect", lambda _url, **_: Closing())
    with Kit() as kit:
        opened = [kit.store]

    async def scenario() -> None:
        async with Kit() as kit:
            opened.append(kit.store)

    asyncio.run(scenario())
    assert [isinstance(store, Closing) and store.closed > 0 for store in opened] == [True, True]


def test_the_store_is_made_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was set is passed: a default must not win over an option in the URL."""
    seen: dict[str, Any] = {}

    def connect(url: str, **options: Any) -> MemoryStore:
        seen.update(options, url=url)
        return MemoryStore()

    settings = Settings(store=StoreSettings(url="redis://h/0?connect_timeout=1", timeout=2))  # type: ignore[arg-type]
    kit = Kit(settings)
    monkeypatch.setattr("backendkit.stores.connect", connect)
    _ = kit.store
    assert seen.pop("clock") is kit.clock
    assert seen.pop("hooks") is kit.hooks
    assert seen == {"url": "redis://h/0?connect_timeout=1", "timeout": 2}


def test_a_wrong_url_is_named_when_the_store_is_wanted() -> None:
    """By the store's own check."""
    kit = Kit(Settings(store=StoreSettings(url="ftp://h")))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        _ = kit.store


def test_errors_are_told_as_the_settings_say() -> None:
    """Format, documentation and clock."""
    http = HttpSettings(error_format="problem", docs_url="https://x/{code}")
    kit = Kit(Settings(http=http), clock=ManualClock(0))
    assert b'"type":"https://x/NOT_FOUND"' in kit.errors.render(NotFound()).body


def test_from_env_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `Settings.from_env` does."""
    monkeypatch.setenv("BACKENDKIT_ENVIRONMENT", "testing")
    assert Kit.from_env(env_file=None).settings.environment == "testing"


def test_a_kit_that_nobody_closed_is_closed_when_the_interpreter_exits() -> None:
    """Without keeping it alive until then."""
    program = (
        "from backendkit.stores import MemoryStore\n"
        "MemoryStore.close = lambda self: print('closed')\n"
        "from backendkit.kit import Kit\n"
        "kit = Kit(); kit.store\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "closed\n"


@pytest.mark.parametrize("where", ["memory", "redis"])
def test_a_limiter_outlives_its_kit(where: str, redis_single: Single) -> None:
    """It counts on in both colours, and admits nobody because a kit was not kept."""
    url = "memory://" if where == "memory" else redis_single.url
    settings = Settings(
        store=StoreSettings.model_validate({"url": url}),
        ratelimit=RateLimitSettings(timeout=10, deny_cache_max=0),
    )
    limiter = Kit(settings).limiter("2/minute", name=f"orphan-{where}")
    gc.collect()
    limiter.reset("a")
    assert limiter.hit("a").source == "store"
    assert asyncio.run(limiter.aio.hit("a")).source == "store"
    assert not limiter.hit("a").allowed
    limiter.store.close()


def test_a_kit_keeps_no_store_alive() -> None:
    """What nobody uses any more goes, although nobody closed it."""
    store = weakref.ref(Kit().store)
    gc.collect()
    assert store() is None


def test_limiters_follow_the_settings() -> None:
    """A kit's limiters share its store, its hooks and what was set."""
    kit = Kit(Settings(ratelimit=RateLimitSettings(deny_cache_max=0, nodes=3)))
    events: list[Event] = []
    kit.hooks.add(events.append)
    limiter = kit.limiter("1/minute", name="api")
    assert limiter.store is kit.store
    assert [limiter.hit("a").source for _ in range(3)] == ["store"] * 3
    assert [event.limiter for event in events if isinstance(event, LimitDenied)] == ["api", "api"]
    kit.close()


def test_limiters_have_a_store_of_their_own_on_redis(redis_single: Single) -> None:
    """Their operations may take a tenth of a second, and end with the kit."""
    kit = Kit(Settings(store=StoreSettings.model_validate({"url": redis_single.url})))
    limiter = kit.limiter("1/minute", name="kit")
    assert limiter.store is not kit.store
    limiter.reset("a")
    assert limiter.hit("a").allowed
    kit.close()
    with pytest.raises(StoreClosed):
        limiter.hit("a")
    with pytest.raises(StoreClosed):
        asyncio.run(limiter.aio.hit("b"))


def test_caches_follow_the_settings() -> None:
    """Sizes, lives and hooks; what is passed wins."""
    clock = ManualClock(0)
    settings = Settings(cache=CacheSettings(max_items=2, ttl=5, max_stale=10))
    with Kit(settings, clock=clock) as kit:
        events: list[Event] = []
        kit.hooks.add(events.append)
        cache = kit.cache()
        for key in "abc":
            cache.get_or_load(key, lambda: 1)
        assert cache.stats().entries == 2
        assert [type(event) for event in events] == [Loaded] * 3
        clock.advance(5 * SECOND_US)
        assert cache.get("c") is None

        def down() -> int:
            raise RuntimeError("down")

        assert cache.get_or_load("c", down) == 1
        clock.advance(10 * SECOND_US)
        with pytest.raises(RuntimeError):
            cache.get_or_load("c", down)
        assert kit.cache(l1=L1(1, clock=clock), namespace="two").stats().entries == 0


def test_caches_share_the_store_and_end_with_the_kit(redis_single: Single, namespace: str) -> None:
    """Two tiers, under the namespace that is set; values of JSON."""
    store = StoreSettings.model_validate({"url": redis_single.url, "timeout": 2})
    settings = Settings(store=store, cache=CacheSettings(namespace=namespace.rstrip(":")))
    kit, other = Kit(settings), Kit(settings)
    before = threading.active_count()
    assert kit.cache().get_or_load("a", lambda: {"b": [1]}) == {"b": [1]}
    assert other.cache().get_or_load("a", dict) == {"b": [1]}
    assert threading.active_count() > before
    kit.close()
    other.close()
    eventually(lambda: threading.active_count() <= before, "the threads of both have ended")
