"""Making objects whole again in a forked child.

A fork copies locks in whatever state another thread left them, and sockets that parent and child would then
both write to. Whoever holds such things registers here, and is called in the child before any other code of
this library runs there. The registry is the house's one piece of module-level state: `os.register_at_fork` is
itself process-wide and offers no way to unregister. It holds its members weakly.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that must be made anew after a fork."""

    def after_fork_in_child(self) -> None:
        """Replace locks and connections; called once, in the child, while it has one thread."""
        ...


def remake_after_fork(member: Forkable) -> None:
    """Have `member.after_fork_in_child()` called in every forked child for as long as `member` lives."""
    _members.add(member)


_members: weakref.WeakSet[Forkable] = weakref.WeakSet()


def _remake_all() -> None:
    for member in list(_members):
        member.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_remake_all)
