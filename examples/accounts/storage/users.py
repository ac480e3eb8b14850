"""The users, in the table `users`."""

from collections.abc import Callable, Mapping

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from examples.accounts.domain.errors import EmailTaken
from examples.accounts.domain.user import EmailAddress, NewUser, PersonName, User
from examples.accounts.storage.tables import MAX_ID, Base, UserRow

INSERTS: Mapping[str, Callable[[type[Base]], postgresql.Insert | sqlite.Insert]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}
"""By dialect: the `INSERT` that knows `ON CONFLICT`."""


class SqlUsers:
    """The domain's `Users`, within one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, user: NewUser) -> User:
        """Insert a row, unless the unique constraint on the address objects.

        `ON CONFLICT DO NOTHING` rather than catching an IntegrityError: the transaction stays usable, no other
        constraint is mistaken for this one, and no exception carries the address into a log.
        """
        insert = INSERTS[self._session.get_bind().dialect.name]
        row_id = self._session.scalar(
            insert(UserRow)
            .values(email=user.email, name=user.name, created_at=user.created_at)
            .on_conflict_do_nothing(index_elements=[UserRow.email])
            .returning(UserRow.id)
        )
        if row_id is None:
            raise EmailTaken
        return User(id=row_id, email=user.email, name=user.name, created_at=user.created_at)

    def get(self, user_id: int) -> User | None:
        """Return the user of the row with this id, or None."""
        if not 0 < user_id <= MAX_ID:
            return None
        row = self._session.get(UserRow, user_id)
        return None if row is None else _user(row)

    def after(self, user_id: int, *, limit: int) -> list[User]:
        """Walk the primary key from `user_id` on."""
        if user_id > MAX_ID:
            return []
        rows = select(UserRow).where(UserRow.id > user_id).order_by(UserRow.id).limit(limit)
        return [_user(row) for row in self._session.scalars(rows)]


def _user(row: UserRow) -> User:
    return User(
        id=row.id,
        email=EmailAddress(row.email),
        name=PersonName(row.name),
        created_at=row.created_at,
    )
