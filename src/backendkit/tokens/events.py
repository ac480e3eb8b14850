"""What the tokens feature tells: who logged in, what was refused and why, what looks like theft. No token, no key."""

from __future__ import annotations

from dataclasses import dataclass

from backendkit.core.events import Event


@dataclass(frozen=True, slots=True)
class TokenRefused(Event):
    """A token was not accepted; `reason` is the word that the public message leaves out, `kind` what it was meant as."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionStarted(Event):
    """Somebody logged in; `displaced` older sessions gave way to the bound of sessions per user."""

    subject: str
    session_id: str
    displaced: int = 0


@dataclass(frozen=True, slots=True)
class SessionRotated(Event):
    """A refresh token was exchanged; `generation` is the new one's."""

    subject: str
    session_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class RefreshReplayed(Event):
    """A spent refresh token came again within the grace time: two tabs, a lost response, or a thief at their heels.

    `first_address` refreshed before, `address` does now.
    """

    subject: str
    session_id: str
    generation: int
    first_address: str
    address: str


@dataclass(frozen=True, slots=True)
class RefreshReused(Event):
    """A refresh token came that was spent long ago: somebody else holds the family, which is now revoked."""

    subject: str
    session_id: str
    presented: int
    generation: int
    first_address: str
    address: str


@dataclass(frozen=True, slots=True)
class StoreRolledBack(Event):
    """A valid refresh token was one generation ahead of the store, which has lost a write; the session went on."""

    subject: str
    session_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class SessionsRevoked(Event):
    """Sessions were ended: one, by its id, whose user is not looked up; or all of a user's."""

    subject: str | None
    session_id: str | None
    count: int


@dataclass(frozen=True, slots=True)
class KeySetFailed(Event):
    """A remote key set could not be fetched; `stale` tells whether an older one goes on serving."""

    url: str
    reason: str
    stale: bool
