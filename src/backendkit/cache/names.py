"""What things are called in Redis, and the messages by which processes tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from backendkit.cache.decide.tier import Keys, Post
from backendkit.core.keys import KeySpace, escape, escape_all


class Names:
    """Keys and messages of one namespace.

    A message is a letter, the process it comes from, its own number, and what it is about.
    """

    __slots__ = (
        "_given_up",
        "_head",
        "_lost_up_to",
        "_numbers",
        "_space",
        "_tail",
        "_tail_lease",
        "channel",
        "namespace",
        "origin",
    )

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        space = KeySpace("cache", version=1, kind="entry", namespace=namespace)
        self._head, self._tail = space.around()
        self._tail_lease = space.around("l")[1]
        self._space = KeySpace("cache", version=1, kind="version", namespace=namespace)
        self.channel = KeySpace("cache", version=1, kind="channel", namespace=namespace).key("all")
        self.renew()

    def renew(self) -> None:
        """Be another process from now on."""
        self.origin = os.urandom(8)
        self._numbers = count(1)
        self._given_up: set[bytes] = set()
        self._lost_up_to = b""

    def keys(self, key: str) -> Keys:
        """Return the second tier's keys of an entry and its lease."""
        tag = self._head + escape(key)
        return tag + self._tail, tag + self._tail_lease

    def entries(self, keys: Sequence[str]) -> list[bytes]:
        """Return the second tier's keys of entries."""
        head, tail = self._head, self._tail
        return [head + part + tail for part in escape_all(keys)]

    def versions(self, tags: Iterable[str]) -> tuple[bytes, ...]:
        """Return the keys of the namespace's version, the tags' epoch, and the tags' versions; one slot."""
        key = self._space.key
        return (key("all"), key("all", of=("e",)), *(key("all", of=("t", tag)) for tag in tags))

    def post(self, kind: bytes, about: str) -> Post:
        """Return the channel, and a message for it."""
        return self.channel, kind + self.origin + self._number() + about.encode(*_TEXT)

    def again(self, raw: bytes) -> bytes:
        """Return a message under a number of its own: a Cluster's listeners know those that they have heard."""
        return raw[:1] + self.origin + self._number() + raw[17:]

    def give_up(self, raw: bytes) -> None:
        """Note that nobody waits for what has this message: should it run later, it is news to this process too."""
        self._given_up.add(raw[9:17])
        if len(self._given_up) > _MOST_GIVEN_UP:
            self._lost_up_to, self._given_up = max(self._given_up), set()

    def is_done(self, message: Message) -> bool:
        """Whether a message is this process's own, and whoever sent it does here what it says, or has done so."""
        if message.origin != self.origin:
            return False
        return message.number not in self._given_up and message.number > self._lost_up_to

    def _number(self) -> bytes:
        return next(self._numbers).to_bytes(8, "big")


class Message(NamedTuple):
    """A message as it came."""

    kind: bytes
    origin: bytes
    number: bytes
    about: str


def read_message(raw: bytes) -> Message | None:
    """Return a message, or None for bytes that are none."""
    if len(raw) < 17:
        return None
    try:
        return Message(raw[:1], raw[1:9], raw[9:17], raw[17:].decode(*_TEXT))
    except UnicodeDecodeError:
        return None


DROP, SOFTEN, WAKE, TAGS, CLEAR = b"k", b"x", b"w", b"t", b"n"
"""What a message says: a key was invalidated or set, expired, its load has ended; tags were invalidated; all was."""


_TEXT = ("utf-8", "surrogatepass")
"""Keys and tags may be any text, even half of a pair."""

_MOST_GIVEN_UP = 10_000
"""Numbers that are kept; beyond it all messages of this process up to the latest of them are handled like another's."""
