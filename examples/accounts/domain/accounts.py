"""What users of the service can do: register, look somebody up, go through all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from examples.accounts.domain.errors import UserNotFound
from examples.accounts.domain.ports import Storage
from examples.accounts.domain.user import EmailAddress, NewUser, PersonName, User


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Page:
    """Some users, and where the next ones begin.

    Attributes:
        users: in the order of their ids.
        next_after: the `after` of the next page; None on the last one.
    """

    users: tuple[User, ...]
    next_after: int | None


class Accounts:
    """The users, and the rules about them. Safe to share between threads.

    Args:
        storage: where they are kept.
        now: the present moment in UTC; tests hand in their own.
    """

    def __init__(self, storage: Storage, *, now: Callable[[], datetime] = utc_now) -> None:
        self._storage = storage
        self._now = now

    def register(self, email: EmailAddress, name: PersonName) -> User:
        """Add a user.

        There is no look at whether the address is free: between a look and the insertion another process could
        take it. The storage decides, in one step.

        Raises:
            EmailTaken: the address is registered.
        """
        created_at = self._now().replace(microsecond=0)
        with self._storage.unit() as unit:
            return unit.users.add(NewUser(email=email, name=name, created_at=created_at))

    def get(self, user_id: int) -> User:
        """Return one user.

        Raises:
            UserNotFound: there is none with this id.
        """
        with self._storage.unit() as unit:
            user = unit.users.get(user_id)
        if user is None:
            raise UserNotFound(user_id=user_id)
        return user

    def page(self, *, after: int = 0, limit: int) -> Page:
        """Return up to `limit` users whose ids are above `after`.

        A page is found by the last id of the page before, not by counting rows: page 10,000 costs what page 1
        costs, and users who join meanwhile shift nobody from one page to another.
        """
        with self._storage.unit() as unit:
            # One more than asked for tells whether there is a next page, without counting.
            found = unit.users.after(after, limit=limit + 1)
        users = tuple(found[:limit])
        return Page(users, next_after=users[-1].id if len(found) > limit else None)
