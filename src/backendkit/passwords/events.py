"""What the passwords feature tells. No password, no hash."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core.events import Event


@dataclass(frozen=True, slots=True)
class PasswordHashed(Event):
    """A hash was computed, in `hash_us`, after waiting `queue_us` for room."""

    hash_us: int
    queue_us: int = 0


@dataclass(frozen=True, slots=True)
class PasswordVerified(Event):
    """A password was checked against a hash of `scheme`; `upgrade` tells whether a better hash was made of it."""

    scheme: str
    ok: bool
    upgrade: bool
    hash_us: int


@dataclass(frozen=True, slots=True)
class StoredHashRefused(Event):
    """A stored hash was not worked on: unreadable, over the caps, another process's test hash; see `reason`."""

    scheme: str
    reason: str


@dataclass(frozen=True, slots=True)
class UndeclaredScheme(Event):
    """A stored hash has a scheme that `legacy` does not declare: the time of its failures may show that."""

    scheme: str


@dataclass(frozen=True, slots=True)
class HashingOverloaded(Event):
    """A caller was turned away: `queued` others wait already, or waiting took too long."""

    queued: int


@dataclass(frozen=True, slots=True)
class BreachCheckFailed(Event):
    """The list of breached passwords could not be asked; `accepted` tells whether the password passed for that."""

    reason: str
    accepted: bool
