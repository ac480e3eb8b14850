"""Alembic's entry: runs migrations against the database that the caller or the environment names."""

from alembic import context

from examples.accounts.settings import Settings
from examples.accounts.storage.database import open_engine
from examples.accounts.storage.tables import Base


def run() -> None:
    """Migrate over one connection of its own."""
    engine = open_engine(context.config.attributes.get("url") or Settings().database_url)
    try:
        with engine.connect() as connection:
            # SQLite changes a column by copying its table; batches let Alembic do that.
            context.configure(connection, target_metadata=Base.metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run()
