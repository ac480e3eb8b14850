"""The composition root: builds the features from one `Settings`, and closes what it has built. Knows no web."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from backendkit.core.clock import Clock, SystemClock
from backendkit.core.events import Hooks
from backendkit.core.health import Health, ping
from backendkit.core.metrics import Family, Metrics, of_stores
from backendkit.core.store import Reopening
from backendkit.errors import Errors
from backendkit.logging.access import AccessLog
from backendkit.logging.policy import AccessPolicy
from backendkit.settings import Settings

if TYPE_CHECKING:
    from backendkit.cache import Cache
    from backendkit.core.store import Store
    from backendkit.passwords import PasswordHasher
    from backendkit.ratelimit import RateLimiter
    from backendkit.ratelimit.face import Limits
    from backendkit.resilience import CircuitBreaker, CircuitRegistry
    from backendkit.tokens import OneTime, Tokens
    from backendkit.tokens.state import Loader


class Kit:
    """Everything that one application shares; safe to use from any thread and from any event loop.

    Nothing is opened before it is used. A store that the kit opened is closed by `close`, at the latest when
    the interpreter exits, and not with the kit alone: what was made with it may outlive it. One that was passed in
    belongs to whoever made it.

    Args:
        settings: None: the defaults; nothing is read from the environment (see `from_env`).
        store: a store to use instead of the one that the settings name.
        clock: None: the machine's.
        errors: a registry to use instead of the one that the settings describe: with a shape, translations, classes of its own.

    Attributes:
        settings: as above.
        errors: the registry of errors.
        access: writes the access line of each request.
        health: the checks of readiness. The store's is among them where one was passed or named.
        hooks: who is told of events.
        metrics: what is counted, for `http.metrics` or any other exporter.
        clock: as above.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        errors: Errors | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.clock: Clock = clock or SystemClock()
        self.hooks = Hooks()
        http = self.settings.http
        self.errors = errors or Errors(
            format=http.error_format, docs_url=http.docs_url, clock=self.clock
        )
        probed = (http.live_path, http.ready_path, http.metrics_path)
        pages = frozenset(path for path in probed if path)
        self.access = AccessLog(AccessPolicy(sample=http.access_sample, exclude=pages))
        self.health = Health(clock=self.clock, timeout=http.check_timeout)
        self._given = store
        if store is not None or "url" in self.settings.store.model_fields_set:
            self.health.add("store", self._reach_store)
        self._opened: Store | None = None
        self._quick: dict[float, Store] = {}
        self._closed = False
        self._breakers: CircuitRegistry | None = None
        self.metrics = Metrics()
        self.metrics.add(self._families)
        if http.metrics_path is not None:
            # Only then: where nobody listens, denials and the like make no records.
            self.hooks.add(self.metrics.count)
        self._hashers: list[PasswordHasher] = []
        self._caches: list[Cache] = []
        self._at_exit: list[partial[None]] = []
        self._lock = threading.Lock()

    @classmethod
    def from_env(
        cls,
        *,
        env_file: str | os.PathLike[str] | None = ".env",
        secrets_dir: str | os.PathLike[str] | None = None,
        store: Store | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Build a kit from environment, `.env` and secret files; see `Settings.from_env` for arguments and errors."""
        settings = Settings.from_env(env_file=env_file, secrets_dir=secrets_dir)
        return cls(settings, store=store, clock=clock)

    @property
    def store(self) -> Store:
        """The shared store, opened on first use.

        Raises:
            MissingExtra: the URL wants Redis, and redis-py is not installed.
            InvalidArgument: the URL cannot be read.
        """
        if self._given is not None:
            return self._given
        if self._closed:
            self.open()
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open()
        return self._opened

    def limiter(self, limits: Limits, *, name: str = "default", **options: Any) -> RateLimiter:
        """Return a rate limiter on the store, as the settings `ratelimit` say.

        Args:
            limits: as for `RateLimiter`.
            name: as for `RateLimiter`; routes that share a limit share the limiter, or its name.
            options: as for `RateLimiter`; they win over the settings.
        """
        from backendkit.ratelimit import RateLimiter  # noqa: PLC0415 - an application without limits loads none

        wanted = self.settings.ratelimit
        settings: dict[str, Any] = {
            "timeout": wanted.timeout,
            "nodes": wanted.nodes,
            "deny_cache_max": wanted.deny_cache_max,
            "hooks": self.hooks,
            "clock": self.clock,
        }
        return RateLimiter(
            self._quick_store(wanted.timeout), limits, name=name, **{**settings, **options}
        )

    def cache(self, **options: Any) -> Cache:
        """Return a cache on the store, as the settings `cache` say; `close` ends its thread. Make it once, and share it.

        Keep the kit as long as the cache: with the kit goes the store that it opened. Values are kept as JSON, unless a `codec` is passed.

        Args:
            options: as for `Cache`; they win over the settings.
        """
        from backendkit.cache import L1, Cache, CachePolicy, Coherence, JsonCodec  # noqa: PLC0415 - as above

        wanted = self.settings.cache
        settings: dict[str, Any] = {
            "namespace": wanted.namespace,
            "l1": L1(wanted.max_items, wanted.max_bytes, clock=self.store.clock),
            "codec": JsonCodec(),
            "policy": CachePolicy(ttl=wanted.ttl, max_stale=wanted.max_stale),
            "coherence": Coherence(max_l1_staleness=wanted.max_l1_staleness),
            "hooks": self.hooks,
        }
        cache = Cache(self.store, **{**settings, **options})
        with self._lock:
            self._caches.append(cache)
        return cache

    def tokens(self, *, loader: Loader | None = None, **options: Any) -> Tokens:
        """Return tokens with sessions in the store, as the settings `tokens` say. Make them once, and share them.

        Args:
            loader: as for `Tokens`.
            options: as for `Tokens`; they win over the settings.

        Raises:
            SettingsError: keys, secrets, issuer or audience are neither set nor passed.
        """
        from backendkit.tokens import Tokens  # noqa: PLC0415 - an application without tokens loads no cryptography

        wanted = self.settings.tokens
        made: dict[str, Any] = {
            "loader": loader, "store": self.store, "hooks": self.hooks, "clock": self.clock, **options,
        }  # fmt: skip
        if not {"issuer", "audience"} <= options.keys():
            issuer, audience = wanted.names()
            made = {"issuer": issuer, "audience": audience, **made}
        for name, make in (
            ("keys", wanted.key_ring),
            ("secret", wanted.secret_ring),
            ("policy", wanted.policy),
        ):
            if name not in options:
                made[name] = make()
        return Tokens(**made)

    def one_time(self, purpose: str, **options: Any) -> OneTime:
        """Return one-time tokens for a purpose, on the store, with secrets and issuer of the settings `tokens`.

        Args:
            purpose: as for `OneTime`.
            options: as for `OneTime`; they win over the settings.

        Raises:
            SettingsError: as for `tokens`.
        """
        from backendkit.tokens import OneTime  # noqa: PLC0415 - as above

        made: dict[str, Any] = {"store": self.store, "clock": self.clock, **options}
        if "secret" not in made:
            made["secret"] = self.settings.tokens.secret_ring()
        if "issuer" not in made:
            made["issuer"] = self.settings.tokens.names()[0]
        return OneTime(purpose, **made)

    def passwords(self, **options: Any) -> PasswordHasher:
        """Return a hasher as the settings `passwords` say; `close` ends its threads. Make it once, and share it.

        Args:
            options: as for `PasswordHasher`; they win over the settings.
        """
        from backendkit.passwords import PasswordHasher, Profile  # noqa: PLC0415 - as above

        wanted = self.settings.passwords
        settings: dict[str, Any] = {
            "profile": Profile(
                memory_kib=wanted.memory_mib << 10,
                iterations=wanted.iterations,
                parallelism=wanted.parallelism,
            ),
            "peppers": wanted.pepper_ring(),
            "legacy": wanted.schemes(),
            "failure_time": wanted.failure_time,
            "workers": wanted.workers,
            "max_pending": wanted.max_pending,
            "queue_timeout": wanted.queue_timeout,
            "hooks": self.hooks,
            "clock": self.clock,
        }
        hasher = PasswordHasher(**{**settings, **options})
        with self._lock:
            self._hashers.append(hasher)
        return hasher

    @property
    def breakers(self) -> CircuitRegistry:
        """The circuit breakers, by name and host, as the settings `resilience` say; shared through the store."""
        if self._breakers is None:
            from backendkit.resilience import CircuitRegistry  # noqa: PLC0415 - as above

            wanted, store = self.settings.resilience, self._circuit_store()
            with self._lock:
                if self._breakers is None:
                    self._breakers = CircuitRegistry(
                        max_size=wanted.max_circuits,
                        max_open_share=wanted.max_open_share,
                        coalesce=wanted.coalesce,
                        store=store,
                        hooks=self.hooks,
                        clock=self.clock,
                    )
        return self._breakers

    def breaker(self, name: str, host: str | None = None, **options: Any) -> CircuitBreaker:
        """Return the circuit breaker of a name, or of a host under it.

        Args:
            name: as for `CircuitBreaker`.
            host: None: of the name itself.
            options: as for `CircuitBreaker`; they hold for the name and all its hosts from now on.
        """
        if options:
            self.breakers.configure(name, **options)
        return self.breakers.get(name, host)

    def open(self) -> None:
        """Undo `close`: what was made with the kit's stores works again. An application's lifespan calls it first."""
        with self._lock:
            if not self._closed:
                return
            self._closed = False
            opened: list[object] = [self._opened, *self._quick.values()]
            for store in opened:
                if isinstance(store, Reopening):
                    store.reopen()
                    self._register(store)

    def close(self) -> None:
        """Close what this kit has opened; again, or before anything was, does nothing.

        What was made with it raises `StoreClosed` from then on, until `open` is called or `store` is asked for.
        """
        self._close_parts()
        for store in self._release():
            store.close()

    async def aclose(self) -> None:
        """Close as `close` does, from an event loop: connections of that loop are closed in order."""
        self._close_parts()
        for store in self._release():
            await store.aio.close()
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _close_parts(self) -> None:
        for hasher in self._hashers:
            hasher.close()
        for cache in self._caches:
            cache.close()

    def _reach_store(self) -> None:
        """Raise unless the store carries out an operation; one without effect."""
        self.store.run(ping())

    def _quick_store(self, timeout: float) -> Store:
        """Return the store for what every request asks: its operations may take less time than others."""
        if self._given is not None or self._is_memory():
            return self.store
        with self._lock:
            if timeout not in self._quick:
                self._quick[timeout] = self._open(timeout=timeout)
            return self._quick[timeout]

    def _circuit_store(self) -> Store | None:
        """Return the store that circuits share, if there is one: memory is shared with nobody, and one's own is quicker."""
        wanted = self.settings.resilience
        if not wanted.shared or (self._given is None and self._is_memory()):
            return None
        return self._quick_store(wanted.timeout)

    def _is_memory(self) -> bool:
        return self.settings.store.url.get_secret_value().startswith("memory:")

    def _families(self) -> list[Family]:
        with self._lock:
            opened, breakers = [self._given or self._opened, *self._quick.values()], self._breakers
        stores = [store for store in opened if store is not None]
        found = of_stores(stores) if stores else []
        if breakers is not None:
            from backendkit.resilience.counts import families  # noqa: PLC0415 - as above

            found += families(breakers)
        return found

    def _open(self, **more: float) -> Store:
        from backendkit.stores import connect  # noqa: PLC0415 - an application without shared state loads no store

        wanted = self.settings.store
        url = wanted.url.get_secret_value()
        memory = url.startswith("memory:")
        names = ("max_entries", "max_bytes") if memory else ("timeout", "connect_timeout")
        # Only what was set: an option that is passed wins over one in the URL, a default should not.
        set_ = {name: getattr(wanted, name) for name in names if name in wanted.model_fields_set}
        options: dict[str, Any] = {**set_, **more}
        store = connect(url, clock=self.clock, hooks=self.hooks, **options)
        self._register(store)
        return store

    def _release(self) -> list[Store]:
        with self._lock:
            stores = [store for store in (self._opened, *self._quick.values()) if store is not None]
            self._closed = True
            for closing in self._at_exit:
                atexit.unregister(closing)
            self._at_exit = []
        return stores

    def _register(self, store: object) -> None:
        closing = partial(_close, weakref.ref(store))
        atexit.register(closing)
        self._at_exit.append(closing)


def _close(store: weakref.ref[Any]) -> None:
    """Close a store that somebody still uses as the interpreter exits."""
    found = store()
    if found is not None:
        found.close()
