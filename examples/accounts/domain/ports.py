"""What the domain asks of others.

Of a storage: `examples.accounts.storage` answers with SQLAlchemy. Of another service: `examples.accounts.upstream`.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from examples.accounts.domain.user import EmailAddress, NewUser, User


class Users(Protocol):
    """The collection of all users."""

    def add(self, user: NewUser) -> User:
        """Keep a new user and give it an id.

        Raises:
            EmailTaken: another user has the address, even one that is being added at this very moment.
        """
        ...

    def get(self, user_id: int) -> User | None:
        """Return the user with this id, or None; any `int` may be asked for."""
        ...

    def after(self, user_id: int, *, limit: int) -> list[User]:
        """Return the first `limit` users whose ids are above `user_id`, in the order of their ids."""
        ...


@dataclass(frozen=True, slots=True)
class Credential:
    """What a user logs in with, and what they may do.

    Attributes:
        user_id: whose.
        hashed: the stored hash of the password.
        roles: names of roles.
    """

    user_id: int
    hashed: str = field(repr=False)
    roles: tuple[str, ...] = ()


class Credentials(Protocol):
    """Passwords and roles, by user. Who registered without a password has none."""

    def of(self, email: str) -> Credential | None:
        """Return what belongs to an address in its stored spelling, or None; any text may be asked for."""
        ...

    def get(self, user_id: int) -> Credential | None:
        """Return what belongs to a user, or None."""
        ...

    def put(self, user_id: int, hashed: str) -> None:
        """Store a hash; roles stay as they are, none for a user who had no password."""
        ...


class UnitOfWork(Protocol):
    """The repositories, as one transaction sees them. Later features add theirs here."""

    @property
    def users(self) -> Users:
        """The users."""
        ...

    @property
    def credentials(self) -> Credentials:
        """What they log in with."""
        ...


class Storage(Protocol):
    """Where accounts are kept."""

    def unit(self) -> AbstractContextManager[UnitOfWork]:
        """Open a unit of work: all of its changes are kept when the block ends, none if it raises."""
        ...


class Payments(Protocol):
    """Who keeps payments."""

    def status(self, payment: int) -> str:
        """Return how a payment stands.

        Raises:
            UpstreamError: whoever keeps them has failed.
            UpstreamTimeout: or has not answered in time.
        """
        ...


class Scores(Protocol):
    """Who keeps scores, by name."""

    def of(self, name: str) -> int:
        """Return the score of whoever has this name.

        Raises:
            UpstreamError: it has failed.
            UpstreamTimeout: it has not answered in time.
        """
        ...


class Plans(Protocol):
    """Who keeps the plans that can be subscribed to."""

    def all(self) -> list[dict[str, Any]]:
        """Return all plans, `name` and `price` of each.

        Raises:
            UpstreamError: it has failed.
            UpstreamTimeout: it has not answered in time.
        """
        ...

    def reprice(self, name: str, price: int) -> None:
        """Change a price.

        Raises:
            PlanNotFound: there is no such plan.
            UpstreamError: it has failed.
            UpstreamTimeout: it has not answered in time.
        """
        ...


class Mail(Protocol):
    """Who delivers mail."""

    def send(self, to: EmailAddress, text: str) -> None:
        """Send a text, some time soon."""
        ...
