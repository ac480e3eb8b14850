"""How long tokens live and how sessions are checked: frozen options, checked when built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from backendkit.core import checks
from backendkit.core.checks import Duration
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument

CheckMode: TypeAlias = Literal["stateless", "epoch", "session"]
"""What `verify` asks the store.

`stateless`: nothing; a revoked access token works on until it expires.
`epoch`: whether all of the user's sessions were ended, at most every `epoch_ttl`.
`session`: whether this very session lives, each time.
"""

_DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """The options of `Tokens`; durations are a `timedelta` or seconds.

    Attributes:
        access: life of an access token, 1 s to a day (15 minutes; RFC 9068 leaves it open, ASVS 5.0 wants it short).
        idle: a session that is not refreshed for so long ends, from `access` (7 days).
        absolute: and however often it is refreshed, it ends after so long, from `idle` (30 days).
        grace: for how long a spent refresh token still gives the same successor, 0 to 60 s (10 s).
        max_sessions: per user, 1..200; the oldest gives way (50).
        check: see `CheckMode`; None: `epoch` with a store, `stateless` without.
        epoch_ttl: for how long `epoch` mode trusts what it knows, 0 to 300 s (5 s).
        max_stale: with the store down, for how long what is known of a user still lets their tokens pass;
            None: not at all, the store's error goes through.
    """

    access: Duration = 900
    idle: Duration = 7 * _DAY_S
    absolute: Duration = 30 * _DAY_S
    grace: Duration = 10
    max_sessions: int = 50
    check: CheckMode | None = None
    epoch_ttl: Duration = 5
    max_stale: Duration | None = None

    def __post_init__(self) -> None:
        if not SECOND_US <= self.access_us <= _DAY_S * SECOND_US:
            raise InvalidArgument("access", "must be in 1..86400 seconds", self.access)
        if self.idle_us < self.access_us:
            raise InvalidArgument("idle", "must not be shorter than access", self.idle)
        if self.absolute_us < self.idle_us:
            raise InvalidArgument("absolute", "must not be shorter than idle", self.absolute)
        if self.grace_us > 60 * SECOND_US:
            raise InvalidArgument("grace", "must be in 0..60 seconds", self.grace)
        if self.epoch_ttl_us > 300 * SECOND_US:
            raise InvalidArgument("epoch_ttl", "must be in 0..300 seconds", self.epoch_ttl)
        checks.whole("max_sessions", self.max_sessions, least=1, most=200)
        if self.check not in (None, "stateless", "epoch", "session"):
            raise InvalidArgument("check", "must be stateless, epoch or session", self.check)
        _ = self.max_stale_us

    @property
    def access_us(self) -> int:
        """`access` in microseconds."""
        return checks.duration_us("access", self.access)

    @property
    def idle_us(self) -> int:
        """`idle` in microseconds."""
        return checks.duration_us("idle", self.idle)

    @property
    def absolute_us(self) -> int:
        """`absolute` in microseconds."""
        return checks.duration_us("absolute", self.absolute)

    @property
    def grace_us(self) -> int:
        """`grace` in microseconds."""
        return checks.duration_us("grace", self.grace, least_us=0)

    @property
    def epoch_ttl_us(self) -> int:
        """`epoch_ttl` in microseconds."""
        return checks.duration_us("epoch_ttl", self.epoch_ttl, least_us=0)

    @property
    def max_stale_us(self) -> int | None:
        """`max_stale` in microseconds, or None."""
        return None if self.max_stale is None else checks.duration_us("max_stale", self.max_stale)
