"""Versions as one process has read them: objects, so that whoever learns that one was replaced marks it dead for all."""

from __future__ import annotations


class Version:
    """The version of a namespace, a tag, or of all tags together, as this process has read it.

    Attributes:
        token: what entries carry.
        read: whether the second tier knows it; an invented one only lets entries die.
        alive: False once somebody has replaced it.
        until: seconds on the monotonic clock until which it counts while nobody tells of changes.
    """

    __slots__ = ("__weakref__", "alive", "read", "token", "until")

    def __init__(self, token: bytes, until: float, *, read: bool = True) -> None:
        self.token = token
        self.read = read
        self.alive = True
        self.until = until

    def counts(self, now: float, *, told: bool) -> bool:
        """Whether it may be loaded under at `now`; `told` where somebody tells of changes."""
        return self.read and now < self.until + (_ASKED_AGAIN_S if told else 0.0)


class Scope:
    """The versions that a load runs under; taken before it begins.

    Attributes:
        spelt: the tags as entries spell them, once somebody has.
    """

    __slots__ = ("epoch", "namespace", "spelt", "tags")

    def __init__(self, namespace: Version, epoch: Version, tags: dict[str, Version]) -> None:
        self.namespace = namespace
        self.epoch = epoch
        self.tags = tags
        self.spelt: bytes | None = None

    @property
    def alive(self) -> bool:
        """Whether none of them was replaced."""
        if not self.namespace.alive:
            return False
        for tag in self.tags.values():  # noqa: SIM110 - every fill looks here, and a generator costs thrice the loop
            if not tag.alive:
                return False
        return True

    @property
    def until(self) -> float:
        """Until when all of them count while nobody tells of changes."""
        return min([self.namespace.until, *[tag.until for tag in self.tags.values()]])


_ASKED_AGAIN_S = 60.0
"""Versions are asked for again so long after they ceased to count by themselves, although the channel tells of changes: nobody
tells of one that the server has evicted or lost, and processes that know different ones find nothing of each other's."""
