"""What the service lets through: per address on everything, per user on writes, per name on logins that fail.

The addresses' limit is generous, and says nothing in headers; the writers' says all. Clients name their user in
`X-User`; whoever names none is limited by address alone. What becomes of logins is said in `domain.door`.
"""

from dataclasses import dataclass
from typing import Self

from backendkit.http import LimitRule, by_address, by_header
from backendkit.kit import Kit
from backendkit.ratelimit import Limit, RateLimiter

USER = "X-User"
"""The header in which a client says who it acts for."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The service's limits, for either front.

    Attributes:
        everything: for every request, unknown paths as well.
        writes: for requests that change something.
        logins: for attempts at a password.
    """

    everything: LimitRule
    writes: LimitRule
    logins: RateLimiter

    @classmethod
    def of(cls, kit: Kit) -> Self:
        """Build them on the kit's store."""
        everything = kit.limiter(Limit("address", "600/minute"), name="everything")
        writes = kit.limiter(
            [Limit("burst", "3/second"), Limit("hourly", "100/hour")], name="writes"
        )
        return cls(
            everything=LimitRule(limiter=everything, key=by_address(), headers="off"),
            writes=LimitRule(limiter=writes, key=by_header(USER), methods=frozenset({"POST"})),
            logins=kit.limiter(Limit("login", "5/minute"), name="logins"),
        )
