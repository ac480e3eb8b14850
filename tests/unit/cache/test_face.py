"""The cache as users hold it, on one tier and on two, in both colours, on a manual clock."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backendkit.cache.errors import LoadTimeout, NestedLoad
from backendkit.cache.events import FenceRefused, LoadFailed, StaleServed
from backendkit.cache.face import Cache
from backendkit.cache.l1 import L1
from backendkit.cache.loading import MISSING, NOT_MODIFIED, loading
from backendkit.cache.policy import CachePolicy, Coherence
from backendkit.core.clock import SECOND_US, ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.stores import MemoryStore
from tests.ground.loops import in_threads
from tests.ground.waiting import eventually


class Source:
    """A database of one value; counts how often it was asked."""

    def __init__(self, value: Any = "v") -> None:
        self.value = value
        self.loads = 0
        self.error: Exception | None = None

    def __call__(self) -> Any:
        """Load."""
        self.loads += 1
        if self.error is not None:
            raise self.error
        return self.value


def test_a_value_is_loaded_once_and_until_it_expires(make: Any, clock: ManualClock) -> None:
    """Fresh for its time to live, then loaded again."""
    cache, source = make(), Source([1, {"a": 2}])
    for _ in range(3):
        assert cache.get_or_load("k", source, ttl=10) == [1, {"a": 2}]
    assert source.loads == 1
    clock.advance(10 * SECOND_US)
    assert cache.get("k", "gone") == "gone"
    cache.get_or_load("k", source, ttl=10)
    assert source.loads == 2


def test_none_is_a_value(make: Any, clock: ManualClock) -> None:
    """None is kept, with a time to live of its own; `MISSING` says that there is nothing."""
    cache, source = make(policy=CachePolicy(ttl=100, negative_ttl=5)), Source(None)
    assert cache.get_or_load("k", source) is None
    assert cache.get("k", "gone") is None
    assert cache.get_many(["k", "x", "k"]) == {"k": None, "x": MISSING}
    clock.advance(5 * SECOND_US)
    assert cache.get("k", "gone") == "gone"


def test_nobody_changes_what_another_gets(make: Any) -> None:
    """The leader's, a hit's, and what was set: each caller has its own."""
    cache, source = make(), Source({"a": [1]})
    cache.get_or_load("k", source)["a"].append(2)
    cache.get("k")["a"].append(3)
    source.value["a"].append(4)
    assert cache.get("k") == {"a": [1]}
    given = {"b": [1]}
    cache.set("s", given)
    given["b"].append(2)
    assert cache.get("s") == {"b": [1]}


def test_shared_values_are_one_object(make: Any) -> None:
    """Where callers promise to change nothing, nothing is copied."""
    cache = make(policy=CachePolicy(sharing="shared"))
    cache.set("k", {"a": 1})
    assert cache.get("k") is cache.get("k")


def test_invalidate_expire_and_tags(make: Any) -> None:
    """What was removed is loaded again; what was not is not."""
    cache, source = make(), Source()
    for remove in (
        lambda: cache.invalidate("k"),
        lambda: cache.expire("k"),
        lambda: cache.invalidate_tags("b", "x"),
        cache.clear,
    ):
        cache.set("other", 1)
        before = source.loads
        cache.get_or_load("k", source, tags=["a", "b"])
        remove()
        cache.get_or_load("k", source, tags=["a", "b"])
        assert source.loads == before + 2
        cache.invalidate("k")
    cache.set("other", 1, tags=["c"])
    cache.invalidate_tags("a")
    assert cache.get("other") == 1


def test_fail_safe_serves_what_is_stale_until_it_may_no_more(make: Any, clock: ManualClock) -> None:
    """A loader's error is answered by the old value, throttled; after `max_stale` it is raised."""
    cache, source = make(policy=CachePolicy(ttl=10, max_stale=60, fail_safe_throttle=2)), Source()
    told: list[Any] = []
    cache.cache.hooks.add(told.append, StaleServed, LoadFailed)
    cache.get_or_load("k", source)
    clock.advance(11 * SECOND_US)
    source.error = KeyError("down")
    assert [cache.get_or_load("k", source) for _ in range(5)] == ["v"] * 5
    assert source.loads == 2
    assert told[0] == LoadFailed("k", "KeyError", stale_served=True)
    clock.advance(2 * SECOND_US)
    cache.get_or_load("k", source)
    assert source.loads == 3
    clock.advance(60 * SECOND_US)
    with pytest.raises(KeyError, match="down"):
        cache.get_or_load("k", source)


@pytest.mark.parametrize("remove", ["invalidate", "clear", "tag"])
def test_fail_safe_never_revives_what_was_removed(make: Any, remove: str) -> None:
    """After `invalidate` there is nothing to fall back on; after `expire` there is."""
    cache, source = make(policy=CachePolicy(ttl=10, max_stale=60)), Source()
    cache.get_or_load("k", source, tags=["t"])
    source.error = KeyError("down")
    cache.expire("k")
    assert cache.get_or_load("k", source, tags=["t"]) == "v"
    {
        "invalidate": lambda: cache.invalidate("k"),
        "clear": cache.clear,
        "tag": lambda: cache.invalidate_tags("t"),
    }[remove]()
    with pytest.raises(KeyError):
        cache.get_or_load("k", source, tags=["t"])


def test_a_removal_during_the_load_keeps_its_value_out(make: Any) -> None:
    """Whoever waits for the load gets its value; nobody else ever does."""
    cache = make()
    told: list[Any] = []
    cache.cache.hooks.add(told.append, FenceRefused)
    for remove in (
        lambda: cache.cache.invalidate("k"),
        lambda: cache.cache.invalidate_tags("t"),
        cache.cache.clear,
        lambda: cache.cache.expire("k"),
    ):

        def load(remove: Callable[[], None] = remove) -> str:
            remove()
            return "old"

        assert cache.get_or_load("k", load, tags=["t"]) == "old"
        assert cache.get("k", "gone") == "gone"
    assert len(told) == 4 or {type(e) for e in told} == {FenceRefused}


def test_a_late_tag_counts_as_one_known_before(make: Any) -> None:
    """A loader names tags; one invalidated meanwhile keeps the value out."""
    cache = make()

    def load() -> str:
        running = loading()
        assert running is not None
        running.tag("late")
        running.live(5)
        return "v"

    def beaten() -> str:
        cache.cache.invalidate_tags("late")
        return load()

    cache.get_or_load("k", load, tags=["early"])
    assert cache.get("k") == "v"
    cache.invalidate_tags("late")
    assert cache.get("k", "gone") == "gone"
    cache.get_or_load("k", beaten)
    assert cache.get("k", "gone") == "gone"


def test_a_loader_decides_how_long(make: Any, clock: ManualClock) -> None:
    """`loading().live` wins over the call's time to live."""
    cache = make()

    def load() -> str:
        running = loading()
        assert running is not None
        running.live(5)
        return "v"

    cache.get_or_load("k", load, ttl=100)
    clock.advance(5 * SECOND_US)
    assert cache.get("k", "gone") == "gone"


def test_not_modified_keeps_the_old_value(make: Any, clock: ManualClock) -> None:
    """A loader that is shown the stale value may say that it is still right; without one it may not."""
    cache = make(policy=CachePolicy(ttl=10, max_stale=60))
    seen: list[Any] = []

    def load() -> Any:
        running = loading()
        assert running is not None
        seen.append(running.stale)
        return NOT_MODIFIED if running.stale is not MISSING else "v"

    cache.get_or_load("k", load)
    clock.advance(11 * SECOND_US)
    assert cache.get_or_load("k", load) == "v"
    assert seen == [MISSING, "v"]
    assert cache.get("k") == "v"
    with pytest.raises(InvalidArgument, match="nothing stale"):
        cache.get_or_load("other", lambda: NOT_MODIFIED)


def test_a_nested_load_of_the_same_key_is_refused(make: Any) -> None:
    """At once, also through another key; of another key it is allowed."""
    cache = make()
    inner: Any = cache.cache.get_or_load
    assert cache.get_or_load("a", lambda: inner("b", lambda: "v")) == "v"
    with pytest.raises(NestedLoad):
        cache.get_or_load("c", lambda: inner("d", lambda: inner("c", lambda: 1)))
    assert loading() is None


def test_stale_while_revalidate_serves_at_once(make: Any, clock: ManualClock) -> None:
    """The old value while one load runs behind; then the new one."""
    cache = make(policy=CachePolicy(ttl=10, max_stale=60, stale_while_revalidate=30))
    source = Source("old")
    cache.get_or_load("k", source)
    source.value = "new"
    clock.advance(11 * SECOND_US)
    done = threading.Event()

    def load() -> Any:
        value = source()
        done.set()
        return value

    assert cache.get_or_load("k", load) == "old"
    assert done.wait(10)
    eventually_is(cache, "new")
    source.value = "newest"
    clock.advance(41 * SECOND_US)
    assert cache.get_or_load("k", source) == "newest"


def eventually_is(cache: Any, value: Any) -> None:
    """Wait until a load behind has landed."""
    eventually(
        lambda: cache.get("k") == value and not len(cache.cache._local.flights),
        f"the cache has {value}, and nobody loads",
    )


def test_early_refresh_by_chance(make: Any, clock: ManualClock) -> None:
    """A draw of 1 never refreshes early; a small one does, sooner the longer the load takes."""
    drawn = [1.0]
    cache = make(chance=lambda: drawn[0], policy=CachePolicy(ttl=10))
    source = Source()

    def slow() -> Any:
        clock.advance(SECOND_US // 2)
        return source()

    cache.get_or_load("k", slow)
    clock.advance(8 * SECOND_US)
    cache.get_or_load("k", slow)
    assert source.loads == 1
    drawn[0] = 1e-7
    assert cache.get_or_load("k", slow) == "v"
    eventually(lambda: source.loads == 2, "the early refresh has run")


def test_soft_and_hard_timeouts(make: Any, clock: ManualClock) -> None:
    """Soft: what is stale, at once. Hard: an error. The load goes on behind, and what it brings is stored."""
    policy = CachePolicy(ttl=10, max_stale=60, soft_timeout=0.001, hard_timeout=0.002)
    cache = make(policy=policy)
    gate = threading.Event()

    async def awaits() -> str:
        await asyncio.to_thread(gate.wait, 10)
        return "new"

    def blocks() -> str:
        gate.wait(10)
        return "new"

    load = awaits if inspect.iscoroutinefunction(cache._face.get) else blocks
    if load is awaits:
        asyncio_timeouts(cache, load, gate, clock)
        return
    cache.set("k", "old")
    clock.advance(11 * SECOND_US)
    assert cache.get_or_load("k", load) == "old"
    with pytest.raises(LoadTimeout):
        cache.get_or_load("other", load)
    gate.set()
    eventually_is(cache, "new")


def asyncio_timeouts(cache: Any, load: Any, gate: threading.Event, clock: ManualClock) -> None:
    """Play it within one run of a loop."""

    async def play() -> None:
        face = cache.cache.aio
        await face.set("k", "old")
        clock.advance(11 * SECOND_US)
        assert await face.get_or_load("k", load) == "old"
        with pytest.raises(LoadTimeout):
            await face.get_or_load("other", load)
        gate.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()}, timeout=5)
        assert await face.get("k") == "new"

    cache._runner.run(play())


def test_threads_and_tasks_share_one_load(clock: ManualClock) -> None:
    """200 callers, half threads, half tasks of one loop: one load."""
    cache = Cache(MemoryStore(clock=clock))
    source, gate = Source({"a": 1}), threading.Event()

    def load() -> Any:
        gate.wait(10)
        return source()

    async def tasks() -> list[Any]:
        waiting = [asyncio.create_task(cache.aio.get_or_load("k", load)) for _ in range(100)]
        return await asyncio.gather(*waiting)

    def work(number: int) -> Any:
        if number == 0:
            return asyncio.run(tasks())
        if number == 1:
            gate.set()
        return cache.get_or_load("k", load)

    results = in_threads(100, work)
    assert results[0] == [{"a": 1}] * 100
    assert results[1:] == [{"a": 1}] * 99
    assert source.loads == 1


def test_the_first_waiter_may_go(clock: ManualClock) -> None:
    """Cancelled, it does not take the load with it."""
    cache = Cache(MemoryStore(clock=clock))

    async def play() -> None:
        gate, source = asyncio.Event(), Source()

        async def load() -> Any:
            await gate.wait()
            return source()

        first = asyncio.create_task(cache.aio.get_or_load("k", load))
        second = asyncio.create_task(cache.aio.get_or_load("k", load))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        assert await second == "v"
        assert source.loads == 1
        assert first.cancelled()

    asyncio.run(play())


def test_loads_in_flight_are_detached(clock: ManualClock) -> None:
    """M1 and M4: who asks after an invalidation does not get a load that began before it."""
    cache = Cache(MemoryStore(clock=clock))

    async def play() -> None:
        gate, began = asyncio.Event(), asyncio.Event()

        async def load(value: str) -> str:
            began.set()
            await gate.wait()
            return value

        old = asyncio.create_task(cache.aio.get_or_load("k", lambda: load("old")))
        await began.wait()
        await cache.aio.invalidate("k")
        new = asyncio.create_task(cache.aio.get_or_load("k", lambda: load("new")))
        await asyncio.sleep(0)
        gate.set()
        assert (await old, await new) == ("old", "new")
        assert await cache.aio.get("k") == "new"

    asyncio.run(play())


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("key", lambda c: c.get_or_load("", str)),
        ("key", lambda c: c.invalidate(1)),
        ("ttl", lambda c: c.set("k", 1, ttl=0)),
        ("tags", lambda c: c.set("k", 1, tags=["a\0b"])),
        ("tags", lambda c: c.invalidate_tags("")),
        ("max_stale", lambda c: CachePolicy(max_stale=-1)),
        ("stale_while_revalidate", lambda c: CachePolicy(stale_while_revalidate=1)),
        ("beta", lambda c: CachePolicy(beta=-1)),
        ("sharing", lambda c: CachePolicy(sharing="no")),  # type: ignore[arg-type]
        ("max_l1_staleness", lambda c: Coherence(max_l1_staleness=0)),
        ("on_restart", lambda c: Coherence(on_restart="no")),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_named(argument: str, call: Any, clock: ManualClock) -> None:
    """Argument, rule, value."""
    with pytest.raises(InvalidArgument) as caught:
        call(Cache(MemoryStore(clock=clock)))
    assert caught.value.argument == argument


def test_both_faces_have_the_same_methods() -> None:
    """Names, order and arguments; the asynchronous one awaits."""
    from backendkit.cache.face_async import AsyncCache

    def methods(face: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(function).parameters)
            for name, function in vars(face).items()
            if not name.startswith("_") and inspect.isfunction(function)
        }

    sync = methods(Cache)
    del sync["after_fork_in_child"]
    assert methods(AsyncCache) == sync


def test_many_at_once(make: Any) -> None:
    """One call of the loader with what is missing; order and duplicates kept; what it leaves out is missing."""
    cache = make()
    asked: list[list[str]] = []

    def load(keys: list[str]) -> dict[str, Any]:
        asked.append(keys)
        return {key: {"of": key} for key in keys if key != "z"}

    cache.set("b", "set")
    got = cache.get_or_load_many(["a", "b", "c", "a", "z"], load, tags=["t"])
    assert got == [{"of": "a"}, "set", {"of": "c"}, {"of": "a"}, MISSING]
    assert asked == [["a", "c", "z"]]
    assert cache.get_or_load_many(["c", "a"], load, tags=["t"]) == [{"of": "c"}, {"of": "a"}]
    assert len(asked) == 1
    cache.invalidate_tags("t")
    cache.get_or_load_many(["c"], load)
    assert len(asked) == 2


def test_many_with_a_wrong_loader(make: Any) -> None:
    """An error is everybody's; a mapping is wanted; nothing hangs on."""
    cache = make()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load_many(["a", "b"], lambda keys: 1 / 0)
    with pytest.raises(InvalidArgument, match="mapping"):
        cache.get_or_load_many(["a", "b"], lambda keys: ["x", "y"])
    assert cache.get_or_load_many(["a"], lambda keys: {"a": 1}) == [1]
    assert cache.get_or_load_many([], lambda keys: {}) == []


def test_overlapping_bulk_calls_share(clock: ManualClock) -> None:
    """Each key is loaded once, whoever asks for it together with what."""
    cache = Cache(MemoryStore(clock=clock))

    async def play() -> None:
        gate, loads = asyncio.Event(), []

        async def load(keys: list[str]) -> dict[str, str]:
            loads.extend(keys)
            await gate.wait()
            return {key: key for key in keys}

        first = asyncio.create_task(cache.aio.get_or_load_many(["a", "b"], load))
        second = asyncio.create_task(cache.aio.get_or_load_many(["b", "c"], load))
        third = asyncio.create_task(cache.aio.get_or_load_many(["c", "a"], load))
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
        assert [await first, await second, await third] == [["a", "b"], ["b", "c"], ["c", "a"]]
        assert sorted(loads) == ["a", "b", "c"]

    asyncio.run(play())


def test_a_decorated_function(clock: ManualClock) -> None:
    """Its arguments make the key; it is dropped by them, and by tags made of them."""
    cache = Cache(MemoryStore(clock=clock))
    calls: list[Any] = []

    @cache.cached("user:{user_id}", ttl=10, tags=["users", "tenant:{tenant}"])
    def get_user(user_id: int, tenant: str = "a") -> dict[str, Any]:
        """Return a user."""
        calls.append((user_id, tenant))
        return {"id": user_id}

    assert vars(get_user)["__name__"] == "get_user"
    assert [get_user(1), get_user(user_id=1), get_user(1)] == [{"id": 1}] * 3
    assert len(calls) == 1
    assert get_user.key(1) == "user:1"
    get_user.invalidate(1)
    get_user(1)
    cache.invalidate_tags("tenant:a")
    get_user(1)
    get_user.expire(1)
    get_user(1)
    assert len(calls) == 4

    class Desk:
        @cache.cached("desk:{number}")
        def look(self, number: int) -> int:
            return number

    assert Desk().look(3) == 3


def test_a_decorated_coroutine_function(clock: ManualClock) -> None:
    """The same, awaited; whoever asks for it as a coroutine function is not disappointed."""
    cache = Cache(MemoryStore(clock=clock))
    calls: list[int] = []

    @cache.cached("n:{number}", ttl=10)
    async def double(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0)
        return 2 * number

    async def play() -> None:
        assert await asyncio.gather(*(double(2) for _ in range(5))) == [4] * 5
        assert await double(2) == 4
        await double.invalidate(2)
        assert await double(2) == 4

    asyncio.run(play())
    assert calls == [2, 2]
    with pytest.raises(InvalidArgument, match="generator"):

        @cache.cached("g")
        def numbers() -> Iterator[int]:
            yield 1


def test_the_first_tier_that_is_passed_is_the_one_that_is_used() -> None:
    """Though it is empty, and therefore falsy."""
    cache = Cache(MemoryStore(), l1=L1(max_items=2))
    for key in "abc":
        cache.get_or_load(key, lambda: 1)
    assert cache.stats().entries == 2


def test_hits_are_counted_on_every_way() -> None:
    """Reads, loads and decorated functions, of both colours."""
    cache = Cache(MemoryStore())

    @cache.cached("f:{x}")
    def plain(x: int) -> int:
        return x

    @cache.cached("g:{x}")
    async def awaited(x: int) -> int:
        return x

    async def one() -> int:
        return 1

    async def scenario() -> None:
        for _ in range(2):
            await cache.aio.get_or_load("b", one)
            await awaited(1)
        assert await cache.aio.get("b") == 1

    for _ in range(2):
        cache.get_or_load("a", lambda: 1)
        plain(1)
    assert cache.get("a") == 1
    asyncio.run(scenario())
    stats = cache.stats()
    assert (stats.l1_hits, stats.loads) == (6, 4)


@pytest.mark.parametrize("call", ["get_or_load", "get_or_load_many", "set", "set_many", "cached"])
def test_one_text_is_no_collection_of_tags(call: str) -> None:
    """Its characters would be the tags, and nothing would ever drop by the name that was meant."""
    cache: Any = Cache(MemoryStore())
    arguments = {
        "get_or_load": ("k", lambda: 1),
        "get_or_load_many": (["k"], lambda keys: dict.fromkeys(keys, 1)),
        "set": ("k", 1),
        "set_many": ({"k": 1},),
        "cached": ("k",),
    }
    with pytest.raises(InvalidArgument, match="tags"):
        getattr(cache, call)(*arguments[call], tags="users")


def test_a_large_mapping_counts_with_its_values() -> None:
    """Not with its keys alone, however many of them come first."""
    cache = Cache(MemoryStore())
    cache.set("k", {f"name{number}": "x" * 10_000 for number in range(100)})
    assert 1_000_000 < cache.stats().bytes < 1_200_000
