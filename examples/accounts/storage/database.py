"""The connection to the database, and the units of work that run on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.orm import Session

from examples.accounts.storage.credentials import SqlCredentials
from examples.accounts.storage.users import INSERTS, SqlUsers

BUSY_TIMEOUT_MS = 5_000
"""How long a SQLite writer waits for another one before it gives up."""


class SqlUnitOfWork:
    """The repositories within one transaction."""

    def __init__(self, session: Session) -> None:
        self.users = SqlUsers(session)
        self.credentials = SqlCredentials(session)


class SqlStorage:
    """The domain's `Storage`, on a database.

    Opens nothing before the first unit of work, so that it may be built before a server forks. Safe to share
    between threads.

    Args:
        url: SQLAlchemy's notation: `sqlite:///accounts.sqlite3`, `postgresql+psycopg://user:password@host/name`.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)

    @contextmanager
    def unit(self) -> Iterator[SqlUnitOfWork]:
        """Open a unit of work: all of its changes are kept when the block ends, none if it raises."""
        with Session(self.engine) as session, session.begin():
            yield SqlUnitOfWork(session)

    def ping(self) -> None:
        """Ask the database for nothing: whether it can be reached at all.

        Raises:
            SQLAlchemyError: it cannot.
        """
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections that no unit of work holds; the next unit opens new ones."""
        self.engine.dispose()


def open_engine(url: str) -> Engine:
    """Return an engine with this service's habits; connects to nothing yet.

    Raises:
        ValueError: `url` names a database that this service has no dialect for.
    """
    backend = make_url(url).get_backend_name()
    if backend not in INSERTS:
        raise ValueError(f"the database must be {' or '.join(sorted(INSERTS))}, got {backend}")
    # Parameters are what people typed: an exception shall not carry them into a log.
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Let readers go on while one writes, let writers queue, and mind foreign keys."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
