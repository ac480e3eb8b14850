"""Functions whose results are cached: `@cache.cached("user:{user_id}")`, for `def` and `async def` alike."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from backendkit.cache.key_template import KeyTemplate
from backendkit.cache.loading import check_tags, tags_of
from backendkit.cache.policy import CachePolicy, lifetime_us
from backendkit.core.checks import Duration
from backendkit.core.errors import InvalidArgument

if TYPE_CHECKING:
    from backendkit.cache.face import Cache
    from backendkit.cache.face_async import AsyncCache

P = ParamSpec("P")
R = TypeVar("R")


class Cached(Generic[P, R]):
    """A function and its cache. Called, it answers from the cache, and runs where the cache has nothing.

    Attributes:
        function: what runs.
        template: what makes keys of its arguments.
    """

    def __init__(
        self,
        cache: Cache | AsyncCache,
        function: Callable[P, R],
        template: str | None,
        *,
        ttl: Duration | None,
        tags: Iterable[str],
        policy: CachePolicy | None,
    ) -> None:
        if ttl is not None:
            lifetime_us("ttl", ttl)
        update_wrapper(
            self, function
        )  # first: of a function that is cached itself it brings all that follows
        self.function = function
        self.template = KeyTemplate(template, function)
        self._cache: Any = cache
        self._key = self.template.key
        self._of_class = self.template.first == "cls"
        self._find = cache._find  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a part of the face
        self._local = cache._local  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a part of the face
        self._tags = [_tag(each, function) for each in tags]
        self._options: dict[str, Any] = {"ttl": ttl, "policy": policy}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Answer from the cache, or run the function."""
        key = self._key(args, kwargs)
        try:
            record: Any = self._find(key)
            if record is not None and record.era is self._local.era:
                value = record.value if record.thaw is None else record.thaw(record.value)
                self._local.hits += 1
                return cast("R", value)
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        load = partial(self._run, *args, **kwargs)
        tags = [tag if isinstance(tag, str) else tag.key(args, kwargs) for tag in self._tags]
        return cast("R", self._cache.get_or_load(key, load, tags=tags, **self._options))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind to an instance, as a function does; a key must then name what of `self` matters."""
        return self if instance is None else BoundCached(cast("Callable[..., Any]", self), instance)

    def _run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        value = self.function(*args, **kwargs)
        if inspect.iscoroutine(value):  # a plain function around an async one
            value.close()
            fix = "cache the async def itself, below what wraps it."
            rule = "must return a value, and returned a coroutine"
            raise InvalidArgument("function", rule, self.function, fix)
        return value

    def __repr__(self) -> str:
        return f"<cached {self.template!r}>"

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call with these arguments."""
        return self._key(self._with_class(args, kwargs), kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Remove what a call with these arguments has cached; to be awaited where the function is."""
        return self._cache.invalidate(self.key(*args, **kwargs))

    def expire(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Make stale what a call with these arguments has cached; to be awaited where the function is."""
        return self._cache.expire(self.key(*args, **kwargs))

    def _with_class(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments with a class before them where one is missing: `classmethod` of Python 3.13 binds calls alone."""
        if not self._of_class or "cls" in kwargs or (args and isinstance(args[0], type)):
            return args
        if self.template.reads("cls"):
            fix = "pass the class first, or leave it out of the template."
            raise InvalidArgument("cls", "must be given, as the template names it", args[:1], fix)
        return (None, *args)


class BoundCached(partial[Any]):
    """A cached method of one object, or of one class: what is called, and what removes, without `self`."""

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call with these arguments."""
        return str(self._cached.key(*self.args, *args, **kwargs))

    def invalidate(self, *args: Any, **kwargs: Any) -> Any:
        """Remove what a call with these arguments has cached; to be awaited where the function is."""
        return self._cached.invalidate(*self.args, *args, **kwargs)

    def expire(self, *args: Any, **kwargs: Any) -> Any:
        """Make stale what a call with these arguments has cached; to be awaited where the function is."""
        return self._cached.expire(*self.args, *args, **kwargs)

    @property
    def _cached(self) -> Any:
        return self.func


class AsyncCached(Cached[P, Awaitable[R]], Generic[P, R]):
    """A `Cached` of an `async def`, which whoever asks by `inspect.iscoroutinefunction` takes for one."""

    def __init__(
        self,
        cache: Cache | AsyncCache,
        function: Callable[P, Awaitable[R]],
        template: str | None,
        **options: Any,
    ) -> None:
        super().__init__(cache, function, template, **options)
        # What makes an object look like a function to `inspect`, in all releases: its mark came with Python 3.12.
        own = type(self).__call__
        vars(self).update(
            __code__=own.__code__, __defaults__=own.__defaults__, __kwdefaults__=own.__kwdefaults__
        )

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # pyright: ignore[reportIncompatibleMethodOverride]  # a coroutine is awaitable
        """Answer from the cache, or run the function."""
        key = self._key(args, kwargs)
        try:
            record: Any = self._find(key)
            if record is not None and record.era is self._local.era:
                value = record.value if record.thaw is None else record.thaw(record.value)
                self._local.hits += 1
                return cast("R", value)
        except Exception:  # noqa: BLE001, S110 - an unhashable key, or a value that cannot be made: the flow tells which
            pass
        load = partial(self.function, *args, **kwargs)
        tags = [tag if isinstance(tag, str) else tag.key(args, kwargs) for tag in self._tags]
        return cast("R", await self._cache.get_or_load(key, load, tags=tags, **self._options))


def cached(
    cache: Cache,
    template: str | None,
    *,
    ttl: Duration | None,
    tags: Iterable[str],
    policy: CachePolicy | None,
) -> Callable[[Callable[P, R]], Cached[P, R]]:
    """Return the decorator; see `Cache.cached`."""
    wanted = tags_of(tags)

    def decorate(function: Callable[P, R]) -> Cached[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidArgument("function", "must return a value, and is a generator", function)
        if inspect.iscoroutinefunction(function):
            made: Any = AsyncCached(
                cache.aio, function, template, ttl=ttl, tags=wanted, policy=policy
            )
            return cast("Cached[P, R]", made)
        return Cached(cache, function, template, ttl=ttl, tags=wanted, policy=policy)

    return decorate


def _tag(tag: str, function: Callable[..., Any]) -> str | KeyTemplate:
    if "{" in tag:
        return KeyTemplate(tag, function)
    return check_tags((tag,))[0]
