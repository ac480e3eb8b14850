"""Views of a cache under a prefix, and the asynchronous face made directly."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from backendkit.cache import MISSING, AsyncCache, JsonCodec
from backendkit.cache.face import Cache
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.stores import MemoryStore
from tests.ground.loops import in_fork
from tests.unit.cache.world import World


@pytest.fixture(params=["alone", "two"])
def cache(request: pytest.FixtureRequest) -> Cache:
    """One tier, or two."""
    if request.param == "alone":
        return Cache(MemoryStore())
    return World(ManualClock(mono_us=1_000_000)).cache(namespace="n", codec=JsonCodec())


def test_a_view_stands_for_longer_keys(cache: Cache) -> None:
    """What it stores the cache finds under the whole key, and the other way round."""
    users = cache.prefixed("user:")
    users.set("1", "one")
    cache.set("user:2", "two")
    assert cache.get("user:1") == users.get("1") == "one"
    assert users.get("2") == "two"
    assert users.get("user:1") is None
    assert users.get_many(["1", "2", "3"]) == {"1": "one", "2": "two", "3": MISSING}
    users.set_many({"3": 3, "4": 4})
    users.invalidate("1", "3")
    assert cache.get_many(["user:1", "user:3", "user:4"]) == {
        "user:1": MISSING,
        "user:3": MISSING,
        "user:4": 4,
    }
    users.expire("4")
    assert cache.get("user:4") is None
    lease = users.lease("5")
    users.set("5", "five", lease=lease)
    assert cache.get("user:5") == "five"
    assert users.hooks is cache.hooks
    assert users.stats() == cache.stats()


def test_a_view_is_cleared_alone(cache: Cache) -> None:
    """All that was stored through it, in whatever way; neither the rest, nor what was stored without it."""
    users = cache.prefixed("user:")
    posts = cache.prefixed("post:")
    cache.set("user:direct", 1)
    users.set("set", 1, tags=["t"])
    users.get_or_load("load", lambda: 1)
    users.get_or_load_many(["many"], lambda keys: dict.fromkeys(keys, 1))
    posts.set("p", 1)
    users.clear()
    assert set(users.get_many(["set", "load", "many"]).values()) == {MISSING}
    assert cache.get("user:direct") == posts.get("p") == 1
    users.set("set", 2, tags=["t"])
    cache.invalidate_tags("t")
    assert users.get("set") is None
    users.set("set", 3)
    cache.invalidate_tags("prefix:user:")
    assert users.get("set") is None
    users.set("set", 4)
    cache.clear()
    assert users.get("set") is posts.get("p") is None


def test_views_of_views(cache: Cache) -> None:
    """The outer one's clearing takes the inner one's along, and not the other way round."""
    outer = cache.prefixed("a:")
    inner = outer.prefixed("b:")
    outer.set("k", 1)
    inner.set("k", 2)
    assert cache.get("a:b:k") == 2
    inner.clear()
    assert (outer.get("k"), inner.get("k")) == (1, None)
    inner.set("k", 3)
    outer.clear()
    assert (outer.get("k"), inner.get("k")) == (None, None)


def test_a_views_loader_sees_the_views_keys(cache: Cache) -> None:
    """Of both kinds; what it must not return is told as ever."""
    users = cache.prefixed("user:")
    asked: list[list[str]] = []

    def load(keys: list[str]) -> dict[str, Any]:
        asked.append(keys)
        return {key: key for key in keys if key != "gone"}

    async def aload(keys: list[str]) -> dict[str, Any]:
        return load(keys)

    assert users.get_or_load_many(["1", "gone", "2"], load) == ["1", MISSING, "2"]
    assert asyncio.run(users.aio.get_or_load_many(["1", "3"], aload)) == ["1", "3"]
    assert asked == [["1", "gone", "2"], ["3"]]
    with pytest.raises(InvalidArgument, match="mapping"):
        users.get_or_load_many(["4"], lambda keys: keys)  # type: ignore[arg-type,return-value]

    @users.cached("{number}")
    def double(number: int) -> int:
        return 2 * number

    assert [double(8), double(8), cache.get("user:8")] == [16, 16, 16]
    double.invalidate(8)
    assert cache.get("user:8") is None


def test_the_asynchronous_face_of_a_view(cache: Cache) -> None:
    """Leads back to the view, and does the same."""

    async def play() -> None:
        users = cache.aio.prefixed("user:")
        assert users.sync.aio is users
        await users.set("1", "one")
        assert await users.get("1") == cache.get("user:1") == users.sync.get("1") == "one"
        assert await users.get_many(["1", "2"]) == {"1": "one", "2": MISSING}
        await users.clear()
        assert await users.get("1") is None
        assert cache.get("user:1") is None

    asyncio.run(play())


@pytest.mark.parametrize("bad", ["", "nul\0", "x" * 191, 5, None])
def test_prefixes_are_checked(bad: Any) -> None:
    """By name; and so are the keys of a view."""
    cache = Cache(MemoryStore())
    if bad is None:
        with pytest.raises(InvalidArgument, match="key"):
            cache.prefixed("p").get(5)  # type: ignore[arg-type]
    else:
        with pytest.raises(InvalidArgument, match="prefix"):
            cache.prefixed(bad)


def test_a_view_begins_anew_in_a_child() -> None:
    """Also where it is all that is left of its cache."""
    view = Cache(MemoryStore()).prefixed("user:")
    view.set("k", "parent")
    gc.collect()
    assert in_fork(lambda: view.get("k")) is None
    assert view.get("k") == "parent"


def test_the_asynchronous_face_is_made_directly() -> None:
    """With the arguments of the other one, to which it leads."""

    async def play() -> None:
        cache = AsyncCache(MemoryStore(), namespace="shop")
        assert cache.sync.aio is cache
        await cache.set("k", 1)
        assert cache.sync.get("k") == 1

        @cache.cached("{number}")
        async def double(number: int) -> int:
            return 2 * number

        assert await double(4) == 8
        assert await cache.get("4") == 8
        assert repr(cache.sync) == "Cache(namespace='shop')"
        await cache.close()

    asyncio.run(play())
    world = World(ManualClock())
    with pytest.raises(InvalidArgument, match="codec"):
        AsyncCache(world.cache(codec=JsonCodec())._store)
