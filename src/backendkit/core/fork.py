"""Keeping objects whole across a fork.

A fork copies locks in whatever state another thread left them, state that another thread is in the middle of
changing, and sockets that parent and child would then both write to. Whoever holds a connection registers to be
made anew in the child. Whoever holds state registers its lock: it is taken before the fork and released on both
sides after it, so that no change is cut in two.

The registries are the house's one piece of module-level state: `os.register_at_fork` is itself process-wide and
offers no way to unregister. They hold their members weakly.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol, TypeVar

T = TypeVar("T")


class Forkable(Protocol):
    """Something that must be made anew after a fork."""

    def after_fork_in_child(self) -> None:
        """Replace locks and connections; called once, in the child, while it has one thread."""
        ...


class Lock(Protocol):
    """A lock, of either kind."""

    def acquire(self) -> bool:
        """Take it."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


class Lockable(Protocol):
    """Something whose state changes only under one lock, within which nothing waits and no other lock is taken."""

    @property
    def fork_lock(self) -> Lock:
        """The lock."""
        ...


def remake_after_fork(member: Forkable) -> None:
    """Have `member.after_fork_in_child()` called in every forked child for as long as `member` lives."""
    _remade.add(member)


def hold_during_fork(member: Lockable) -> None:
    """Have `member.fork_lock` held while the process forks, for as long as `member` lives."""
    _still.add(member)


class Still:
    """Has a lock held during forks for as long as this object lives, whose owner cannot be registered: it has no hash."""

    __slots__ = ("__weakref__", "fork_lock")

    def __init__(self, lock: Lock) -> None:
        self.fork_lock = lock
        hold_during_fork(self)


_remade: weakref.WeakSet[Forkable] = weakref.WeakSet()
_still: weakref.WeakSet[Lockable] = weakref.WeakSet()
_held: list[Lock] = []
_turn = threading.Lock()
"""Two threads may fork at once: who forks second would release what the first still holds, or wait for it crosswise."""


def _before() -> None:
    _turn.acquire()
    for lock in {member.fork_lock for member in _members(_still)}:
        lock.acquire()
        _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    _turn.release()


def _after_in_child() -> None:
    _after_in_parent()  # a lock knows no owner: the copies that were taken before are released here
    for member in _members(_remade):
        member.after_fork_in_child()


def _members(registry: weakref.WeakSet[T]) -> list[T]:
    """Return the members, also while another thread adds one."""
    while True:
        try:
            return list(registry)
        except RuntimeError:  # the set changed its size
            continue


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
