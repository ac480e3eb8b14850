"""S3-FIFO as slow and plain as it can be said: lists, and everything looked for anew."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.cache.ghosts import Ghosts
from backendkit.cache.l1 import ENTRY_BYTES


@dataclass
class Held:
    """An entry, or an empty place where `size` is None."""

    key: str
    size: int | None
    deadline: float
    visited: bool = False

    @property
    def bytes(self) -> int:
        """What it counts."""
        return 0 if self.size is None else self.size + ENTRY_BYTES


class Oracle:
    """What an L1 must hold after the same history."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.now = 0.0
        self.trusted_until = float("inf")
        self.small: list[Held] = []
        self.main: list[Held] = []
        self.ghosts = Ghosts(max_items - max_items // 5)
        self.evictions = 0
        self.rejections = 0

    @property
    def all(self) -> list[Held]:
        """All places."""
        return self.small + self.main

    @property
    def bytes(self) -> int:
        """All bytes."""
        return sum(held.bytes for held in self.all)

    def find(self, key: str) -> Held | None:
        """Return the place of a key."""
        return next((held for held in self.all if held.key == key), None)

    def get(self, key: str) -> int | None:
        """Return the size under which a key is readable."""
        held = self.find(key)
        if held is None:
            return None
        held.visited = True
        if held.size is None or self.now >= min(held.deadline, self.trusted_until):
            return None
        return held.size

    def set(self, key: str, size: int, deadline: float) -> None:
        """Store."""
        if size > self.max_bytes // 8 or not self._room(key, size + ENTRY_BYTES):
            self.rejections += 1
            self.drop(key)
            return
        held = self.find(key)
        if held is not None:
            held.size, held.deadline = size, deadline
        elif self.ghosts.take(key, max(1, len(self.all))):
            self.main.append(Held(key, size, deadline))
        else:
            self.small.append(Held(key, size, deadline))

    def drop(self, key: str) -> None:
        """Delete."""
        held = self.find(key)
        if held is not None:
            held.size = None

    def evict(self) -> Held:
        """Push one out."""
        while True:
            small_is_over = (
                len(self.small) > self.max_items / 5
                or sum(held.bytes for held in self.small) > self.max_bytes / 5
            )
            from_small = bool(self.small) and (small_is_over or not self.main)
            held = (self.small if from_small else self.main).pop(0)
            if held.visited and held.size is not None and self.now < held.deadline:
                held.visited = False
                self.main.append(held)
                continue
            if from_small:
                self.ghosts.add(held.key)
            self.evictions += held.size is not None
            return held

    def _room(self, key: str, size: int) -> bool:
        while True:
            held = self.find(key)
            missing = self.bytes - (held.bytes if held else 0) + size - self.max_bytes
            if missing <= 0 and (held is not None or len(self.all) < self.max_items):
                return True
            self.evict()
