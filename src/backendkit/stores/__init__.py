"""Floor 1: the two stores, and the guard around them; `connect` makes one from a URL.

These are the only rooms in the house that know both a colour and a backend.
"""

from __future__ import annotations

from backendkit.core.store import AsyncStore, Store, StoreStats
from backendkit.stores.circuit import FailurePolicy, StoreDown, StoreUp
from backendkit.stores.connect import connect
from backendkit.stores.guarded import Guarded
from backendkit.stores.memory import MemoryStore

__all__ = [
    "AsyncStore",
    "FailurePolicy",
    "Guarded",
    "MemoryStore",
    "Store",
    "StoreDown",
    "StoreStats",
    "StoreUp",
    "connect",
]
