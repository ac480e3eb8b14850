"""What an administrator may ask of a namespace in a running Redis, without the codec of the application.

Invalidating and clearing go by the same operations as an application's: every process hears of them.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from backendkit.cache.codecs import JsonCodec
from backendkit.cache.decide import tier, versions
from backendkit.cache.decide.survey import survey
from backendkit.cache.face import Cache
from backendkit.cache.names import Names
from backendkit.cache.policy import Coherence
from backendkit.core.clock import SECOND_US
from backendkit.core.store import Store


class Survey(NamedTuple):
    """What a namespace has.

    Attributes:
        entries: keys of entries, those included that nobody can read any more.
        leases: keys of leases, held or just over.
    """

    entries: int
    leases: int


class Inspection(NamedTuple):
    """What lies under a key.

    Attributes:
        state: `fresh`, `stale`, `dropped` (by one of its tags) or `absent`, which it is
            after a `clear` as well.
        bytes: of the encoded value.
        fresh_s: seconds for which it is fresh; negative: since when it is not.
        stale_s: seconds for which it may serve in an emergency.
        load_s: seconds that its load took.
        tags: by which it can be dropped.
    """

    state: str
    bytes: int = 0
    fresh_s: float = 0.0
    stale_s: float = 0.0
    load_s: float = 0.0
    tags: tuple[str, ...] = ()


class CacheAdmin:
    """Looks into one namespace, and drops from it.

    Args:
        store: a Redis store.
        namespace: the cache's.
    """

    __slots__ = ("_names", "_namespace", "_store")

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace
        self._names = Names(namespace)

    def stats(self) -> Survey:
        """Count keys by `SCAN`: on Cluster those of one server. Cost: a round trip for 500 keys of the server."""
        key = self._names.versions(())[0]
        head = self._names.keys("k")[0].partition(b"{")[0] + b"{"
        cursor = entries = leases = 0
        while True:
            step = self._store.run(survey(key, head, cursor))
            entries, leases, cursor = entries + step.entries, leases + step.leases, step.cursor
            if not cursor:
                return Survey(entries, leases)

    def inspect(self, key: str) -> Inspection:
        """Return what lies under a key; two round trips, and nothing of the value."""
        version = self._versions(())[0]
        answer = self._store.run(tier.read(self._names.keys(key), version))
        entry = answer.entry
        if entry is None:
            return Inspection("absent")
        tags = tuple(name for name, _ in entry.tags)
        if [version for _, version in entry.tags] != self._versions(tags)[2:]:
            state = "dropped"
        else:
            state = "fresh" if answer.now < entry.fresh else "stale"
        return Inspection(
            state,
            len(entry.payload),
            (entry.fresh - answer.now) / SECOND_US,
            (entry.stale - answer.now) / SECOND_US,
            entry.cost / SECOND_US,
            tags,
        )

    def invalidate(self, *keys: str, tags: tuple[str, ...] = ()) -> None:
        """Remove entries, by key and by tag."""
        cache = self._cache()
        try:
            if keys:
                cache.invalidate(*keys)
            if tags:
                cache.invalidate_tags(*tags)
        finally:
            cache.close()

    def clear(self) -> None:
        """Remove all entries of the namespace."""
        cache = self._cache()
        try:
            cache.clear()
        finally:
            cache.close()

    def _cache(self) -> Cache:
        return Cache(
            self._store,
            namespace=self._namespace,
            codec=JsonCodec(),
            coherence=Coherence(channel=False),
        )

    def _versions(self, tags: tuple[str, ...]) -> list[bytes]:
        keys = self._names.versions(tags)
        return self._store.run(versions.look(keys, [secrets.token_hex(8).encode() for _ in keys]))
