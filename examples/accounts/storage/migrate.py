"""Bring a database up to date, from a program or by command.

    python -m examples.accounts.storage.migrate [REVISION]

Reads `ACCOUNTS_DATABASE_URL`. To draft a migration after a change of the tables:

    alembic -c examples/accounts/alembic.ini revision --autogenerate -m "add roles"
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from examples.accounts.settings import Settings

CONFIG = Path(__file__).parents[1] / "alembic.ini"


def migrate(url: str, revision: str = "head") -> None:
    """Apply what a database lacks, up to `revision`. Run it once per deployment, before the servers start."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take back what lies above `revision`; `base` takes back all, and the data with it."""
    command.downgrade(_config(url), revision)


def _config(url: str) -> Config:
    config = Config(CONFIG)
    config.attributes["url"] = url
    return config


if __name__ == "__main__":
    migrate(Settings().database_url, *sys.argv[1:2])
