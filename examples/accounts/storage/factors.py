"""What the library keeps in the database of an application: API keys and second factors."""

from dataclasses import asdict, fields

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from backendkit.tokens import ApiKeyRecord
from backendkit.tokens.totp import Factor
from examples.accounts.storage.tables import ApiKeyRow, FactorRow


class SqlApiKeys:
    """The library's `ApiKeyRepository`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, record: ApiKeyRecord) -> None:
        """Insert a row."""
        with Session(self._engine) as session, session.begin():
            session.add(ApiKeyRow(**_columns(record)))

    def get(self, key_id: str) -> ApiKeyRecord | None:
        """Return the record of a row, or None."""
        with Session(self._engine) as session:
            row = session.get(ApiKeyRow, key_id)
            return None if row is None else _record(row)

    def of(self, owner: str) -> list[ApiKeyRecord]:
        """Return all of an owner's, oldest first."""
        mine = select(ApiKeyRow).where(ApiKeyRow.owner == owner).order_by(ApiKeyRow.created_us)
        with Session(self._engine) as session:
            return [_record(row) for row in session.scalars(mine)]

    def update(self, record: ApiKeyRecord) -> None:
        """Change a row."""
        with Session(self._engine) as session, session.begin():
            session.execute(
                update(ApiKeyRow).where(ApiKeyRow.id == record.id).values(**_columns(record))
            )

    def remove(self, key_id: str) -> bool:
        """Delete a row; tell whether it was there."""
        with Session(self._engine) as session, session.begin():
            gone = session.scalar(
                delete(ApiKeyRow).where(ApiKeyRow.id == key_id).returning(ApiKeyRow.id)
            )
        return gone is not None


class SqlFactors:
    """The library's `FactorRepository`: compare-and-set by a version."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, user: str) -> Factor | None:
        """Return the factor of a row, or None."""
        with Session(self._engine) as session:
            row = session.get(FactorRow, user)
            if row is None:
                return None
            held = {one.name: getattr(row, one.name) for one in fields(Factor)}
            return Factor(**{**held, "recovery": frozenset(row.recovery.split())})

    def put(self, factor: Factor, *, if_version: int | None) -> bool:
        """Write a row if it has still the version that was read; tell whether it had."""
        values = {**asdict(factor), "recovery": " ".join(sorted(factor.recovery))}
        try:
            with Session(self._engine) as session, session.begin():
                if if_version is None:
                    session.merge(FactorRow(**values))
                    return True
                old = (FactorRow.user == factor.user) & (FactorRow.version == if_version)
                written = update(FactorRow).where(old).values(**values).returning(FactorRow.user)
                return session.scalar(written) is not None
        except IntegrityError:  # another request has enrolled at this very moment
            return False

    def remove(self, user: str) -> bool:
        """Delete a row; tell whether it was there."""
        with Session(self._engine) as session, session.begin():
            gone = session.scalar(
                delete(FactorRow).where(FactorRow.user == user).returning(FactorRow.user)
            )
        return gone is not None


def _columns(record: ApiKeyRecord) -> dict[str, object]:
    held = {one.name: getattr(record, one.name) for one in fields(ApiKeyRecord)}
    return {**held, "scopes": " ".join(record.scopes)}


def _record(row: ApiKeyRow) -> ApiKeyRecord:
    held = {one.name: getattr(row, one.name) for one in fields(ApiKeyRecord)}
    return ApiKeyRecord(**{**held, "scopes": tuple(row.scopes.split())})
