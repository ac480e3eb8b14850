"""Cached functions: what may be decorated, what keys tell apart, and what a method drops."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Callable
from enum import Flag, IntFlag
from typing import Any

import pytest

from backendkit.cache import Cache, CachePolicy, KeyTemplate, NotEncodable, SealKeys, events
from backendkit.core.clock import ManualClock
from backendkit.core.errors import InvalidArgument
from backendkit.core.events import Event, Hooks
from backendkit.stores import MemoryStore


@pytest.fixture
def cache() -> Cache:
    """A cache in memory."""
    return Cache(MemoryStore(clock=ManualClock()))


class Shop:
    """A class whose methods are cached."""

    def __init__(self, number: int) -> None:
        self.id = number
        self.calls = 0

    price: Any
    total: Any
    open: Any
    hello: Any


def shop(cache: Cache) -> type[Shop]:
    """Return a class with a cached method of each kind."""

    class Cached(Shop):
        """With cached methods."""

        @cache.cached("price:{self.id}:{item}")
        def price(self, item: str, *, net: bool = False) -> str:
            """Return what it costs."""
            self.calls += 1
            return f"{item} {net} {self.calls}"

        @cache.cached("total:{self.id}")
        async def total(self) -> int:
            """Return all."""
            self.calls += 1
            return self.calls

        @classmethod
        @cache.cached("open:{day}")
        def open(cls, day: int) -> list[int]:
            """Return when it is open."""
            return [day]

        @staticmethod
        @cache.cached("hello:{name}")
        def hello(name: str) -> list[str]:
            """Greet."""
            return [name]

    return Cached


def test_a_method_is_dropped_by_its_own_arguments(cache: Cache) -> None:
    """Of an object without saying which, of the class with it."""
    kind = shop(cache)
    one, other = kind(1), kind(2)
    for each in (one, other):
        assert each.price("tea") == each.price(item="tea") == "tea False 1"
    assert one.price.key("tea") == kind.price.key(one, "tea") == "price:1:tea"
    one.price.invalidate("tea")
    assert (one.price("tea"), other.price("tea")) == ("tea False 2", "tea False 1")
    kind.price.invalidate(one, item="tea")
    assert one.price("tea") == "tea False 3"
    one.price.expire("tea")
    assert one.price("tea") == "tea False 4"


def test_an_async_method_is_dropped_likewise(cache: Cache) -> None:
    """Awaited."""

    async def scenario() -> list[int]:
        one = shop(cache)(1)
        assert inspect.iscoroutinefunction(one.total)
        found = [await one.total(), await one.total()]
        await one.total.invalidate()
        found.append(await one.total())
        await one.total.expire()
        return [*found, await one.total()]

    assert asyncio.run(scenario()) == [1, 1, 2, 3]


def test_methods_of_a_class_are_dropped_likewise(cache: Cache) -> None:
    """Class methods and static ones, decorated below."""
    kind = shop(cache)
    assert (kind.open(1), kind(1).open(1), kind.hello("ada")) == ([1], [1], ["ada"])
    assert (kind.open.key(1), kind.hello.key("ada")) == ("open:1", "hello:ada")
    assert cache.get("open:1") == [1]
    kind.open.invalidate(1)
    kind.hello.invalidate("ada")
    assert (cache.get("open:1"), cache.get("hello:ada")) == (None, None)


def test_a_class_that_the_key_needs_is_asked_for(cache: Cache) -> None:
    """Python 3.13 does not tell `key` of a class method which class it was asked of; earlier ones do."""

    class Shop:
        @classmethod
        @cache.cached("{cls.__name__}:{day}")
        def open(cls, day: int = 1) -> list[int]:
            return [day]

    reached: Any = Shop.__dict__["open"].__func__
    assert Shop.open(2) == [2]
    assert reached.key(Shop, 2) == "Shop:2"
    assert reached.key(day=2, cls=Shop) == "Shop:2"
    for call in (reached.key, reached.invalidate, reached.expire):
        with pytest.raises(InvalidArgument, match="pass the class first"):
            call(2)
    if sys.version_info < (3, 13):
        assert Shop.open.key(2) == "Shop:2"


def test_a_cached_function_may_be_cached_again(cache: Cache) -> None:
    """Each layer has its own key, and its own store."""
    outer_cache = Cache(MemoryStore())
    calls: list[int] = []

    @outer_cache.cached("outer:{x}")
    @cache.cached("inner:{x}")
    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    assert (double(2), double(2), calls) == (4, 4, [2])
    assert (double.key(2), outer_cache.get("outer:2"), cache.get("inner:2")) == ("outer:2", 4, 4)
    double.invalidate(2)
    assert (outer_cache.get("outer:2"), cache.get("inner:2")) == (None, 4)
    assert repr(double).startswith("<cached KeyTemplate('outer:{x}'")
    assert inspect.unwrap(double).__name__ == "double"


def test_an_async_function_stays_one_for_whoever_asks(cache: Cache) -> None:
    """Frameworks and other decorators look before they call."""

    @cache.aio.cached("triple:{x}")
    async def triple(x: int) -> int:
        return 3 * x

    assert inspect.iscoroutinefunction(triple)
    assert list(inspect.signature(triple).parameters) == ["x"]
    assert asyncio.run(triple(2)) == 6

    @cache.cached("plain:{x}")
    def plain(x: int) -> int:
        return x

    assert not inspect.iscoroutinefunction(plain)


class Calls:
    """An object that can be called."""

    def __call__(self, x: int) -> int:
        """Return it."""
        return x


@pytest.mark.parametrize(
    "function",
    [functools.partial(max, 1), Calls(), staticmethod(abs), classmethod(lambda kind: kind), int],
)
def test_what_is_no_function_is_refused(cache: Cache, function: Callable[..., Any]) -> None:
    """When it is decorated, and nothing of its arguments is shown."""
    with pytest.raises(InvalidArgument, match="function must"):
        cache.cached("k")(function)


def test_lambdas_need_a_template(cache: Cache) -> None:
    """All of a module have one name, and so had their keys."""
    with pytest.raises(InvalidArgument, match="must have a name"):
        cache.cached(None)(lambda x: x)


def test_a_coroutine_is_no_value(cache: Cache) -> None:
    """A plain function around an async one is told so, instead of giving one coroutine to two callers."""

    async def real() -> int:
        return 1

    @functools.wraps(real)
    def around() -> Any:
        return real()

    with pytest.raises(InvalidArgument, match="returned a coroutine"):
        cache.cached("k")(around)()


class Right(IntFlag):
    """What somebody may do."""

    READ = 1


class Mode(Flag):
    """How."""

    FAST = 1


def test_flags_without_a_name_are_apart() -> None:
    """Values that no member has, and none."""
    key = KeyTemplate("k:{x}", lambda x: x).key
    values = [Right(0), Right(8), Right(16), Right.READ, Right.READ | Right(8), Mode(0), Mode.FAST]
    assert len({key((value,), {}) for value in values}) == len(values)
    assert key((Right.READ,), {}) == "k:!eRight.READ"


def test_what_cannot_be_copied_is_given_and_not_kept() -> None:
    """A read has what its loader brought, and the cache says that it keeps nothing; a write is refused."""
    told: list[Event] = []
    hooks = Hooks()
    hooks.add(told.append)
    cache = Cache(MemoryStore(), hooks=hooks)
    first = cache.get_or_load("lock", threading.Lock)
    assert cache.get_or_load("lock", threading.Lock) is not first
    assert [event for event in told if isinstance(event, events.NotStored)] == [
        events.NotStored("lock", "TypeError")
    ] * 2
    assert len(cache.get_or_load_many(["a"], lambda keys: {"a": threading.Lock()})) == 1
    assert cache.get("lock") is None
    with pytest.raises(NotEncodable, match="cannot be copied"):
        cache.set("lock", threading.Lock())
    shared = CachePolicy(sharing="shared")
    kept = cache.get_or_load("shared", threading.Lock, policy=shared)
    assert cache.get_or_load("shared", threading.Lock, policy=shared) is kept


def test_a_key_in_the_place_of_an_id_is_not_shown() -> None:
    """Whoever exchanges the two finds no secret in the log."""
    with pytest.raises(InvalidArgument) as caught:
        SealKeys.from_text("ab" * 32 + ":a1")
    assert "abab" not in str(caught.value)
