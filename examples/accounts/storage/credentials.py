"""Passwords and roles, in the table `credentials`."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from examples.accounts.domain.ports import Credential
from examples.accounts.storage.tables import MAX_ID, CredentialRow, UserRow


class SqlCredentials:
    """The domain's `Credentials`, within one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, email: str) -> Credential | None:
        """Return the row of the user who has an address."""
        mine = CredentialRow.user_id == UserRow.id
        return _credential(
            self._session.scalar(
                select(CredentialRow).join(UserRow, mine).where(UserRow.email == email)
            )
        )

    def get(self, user_id: int) -> Credential | None:
        """Return the row of a user."""
        if not 0 < user_id <= MAX_ID:
            return None
        return _credential(self._session.get(CredentialRow, user_id))

    def put(self, user_id: int, hashed: str, roles: str | None = None) -> None:
        """Insert or update a row; `roles` None: as they are."""
        row = self._session.get(CredentialRow, user_id)
        if row is None:
            self._session.add(CredentialRow(user_id=user_id, hashed=hashed, roles=roles or ""))
            return
        row.hashed = hashed
        row.roles = row.roles if roles is None else roles


def _credential(row: CredentialRow | None) -> Credential | None:
    return None if row is None else Credential(row.user_id, row.hashed, tuple(row.roles.split()))
