"""The tables. A change here needs a migration beside it; a test compares the two."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from examples.accounts.domain.user import MAX_EMAIL, MAX_NAME

MAX_ID = 2**63 - 1
"""The largest id that a column holds; drivers raise on larger ones."""

RowId = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere: SQLite's INTEGER has them, and counts up by itself under no other name."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, in UTC on both sides; SQLite alone would forget the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the program holds into what the driver takes."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn what the driver gives into what the program holds."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The root of all rows. Constraints get names by rule, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UserRow(Base):
    """One user."""

    __tablename__ = "users"
    # Without it SQLite gives the id of a deleted last row to the next one.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012  # SQLAlchemy's own form

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    email: Mapped[str] = mapped_column(String(MAX_EMAIL), unique=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CredentialRow(Base):
    """What a user logs in with."""

    __tablename__ = "credentials"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    hashed: Mapped[str] = mapped_column(String(1024))
    roles: Mapped[str] = mapped_column(String(200), default="")


class ApiKeyRow(Base):
    """One API key: of its secret there is only the digest. Times in microseconds since 1970."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    owner: Mapped[str] = mapped_column(String(32), index=True)
    scopes: Mapped[str] = mapped_column(String(500))
    name: Mapped[str] = mapped_column(String(100))
    created_us: Mapped[int] = mapped_column(BigInteger)
    expires_us: Mapped[int | None] = mapped_column(BigInteger)
    used_us: Mapped[int | None] = mapped_column(BigInteger)


class FactorRow(Base):
    """A user's second factor."""

    __tablename__ = "factors"

    user: Mapped[str] = mapped_column(String(32), primary_key=True)
    seed: Mapped[bytes] = mapped_column(LargeBinary(256))
    confirmed: Mapped[bool]
    last_step: Mapped[int] = mapped_column(BigInteger)
    attempts: Mapped[int]
    paused_until_us: Mapped[int] = mapped_column(BigInteger)
    recovery: Mapped[str] = mapped_column(String(1000))
    version: Mapped[int]
