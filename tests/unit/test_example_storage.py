"""The example's storage: one contract over SQLite in memory and in a file, and what the migrations make."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from examples.accounts.domain.errors import EmailTaken
from examples.accounts.domain.user import EmailAddress, NewUser, PersonName, User
from examples.accounts.settings import Settings
from examples.accounts.storage.database import SqlStorage
from examples.accounts.storage.migrate import CONFIG, downgrade, migrate
from examples.accounts.storage.tables import Base

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[SqlStorage]:
    """A storage in a file, which the migrations made."""
    url = f"sqlite:///{tmp_path / 'accounts.sqlite3'}"
    migrate(url)
    storage = SqlStorage(url)
    yield storage
    storage.close()


@pytest.fixture
def in_memory() -> Iterator[SqlStorage]:
    """A storage in memory, for one thread."""
    storage = SqlStorage("sqlite://")
    Base.metadata.create_all(storage.engine)
    yield storage
    storage.close()


@pytest.fixture(params=["migrated", "in_memory"])
def storage(request: pytest.FixtureRequest) -> SqlStorage:
    """Each storage in turn."""
    built: SqlStorage = request.getfixturevalue(request.param)
    return built


def somebody(email: str = "ada@example.org", created_at: datetime = NOON) -> NewUser:
    """A user to add."""
    return NewUser(email=EmailAddress(email), name=PersonName("Ada"), created_at=created_at)


def add(storage: SqlStorage, user: NewUser) -> User:
    """Add a user in a unit of work of its own."""
    with storage.unit() as unit:
        return unit.users.add(user)


def count(storage: SqlStorage) -> int:
    """Return how many users there are."""
    with storage.unit() as unit:
        return len(unit.users.after(0, limit=1_000))


def test_what_is_added_is_found_by_a_later_unit(storage: SqlStorage) -> None:
    """A unit of work keeps its changes when it ends."""
    user = add(storage, somebody())

    with storage.unit() as unit:
        assert unit.users.get(user.id) == user
        assert unit.users.after(0, limit=10) == [user]


def test_a_moment_comes_back_in_utc_wherever_it_was_written(storage: SqlStorage) -> None:
    """SQLite alone would forget the zone."""
    east = NOON.astimezone(timezone(timedelta(hours=5)))
    user = add(storage, somebody(created_at=east))

    with storage.unit() as unit:
        found = unit.users.get(user.id)

    assert found is not None
    assert (found.created_at, found.created_at.utcoffset()) == (NOON, timedelta(0))


def test_a_unit_that_raises_leaves_nothing_behind(storage: SqlStorage) -> None:
    """All of it or none."""
    with pytest.raises(RuntimeError, match="in the middle"), storage.unit() as unit:  # noqa: PT012
        unit.users.add(somebody("one@example.org"))
        unit.users.add(somebody("two@example.org"))
        raise RuntimeError("in the middle")

    assert count(storage) == 0


def test_a_taken_address_is_the_domains_error(storage: SqlStorage) -> None:
    """No exception of the database gets out."""
    add(storage, somebody())

    with pytest.raises(EmailTaken) as caught:
        add(storage, somebody())

    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_unit_goes_on_after_a_taken_address(storage: SqlStorage) -> None:
    """The refusal does not poison the transaction."""
    add(storage, somebody())

    with storage.unit() as unit:
        with pytest.raises(EmailTaken):
            unit.users.add(somebody())
        unit.users.add(somebody("other@example.org"))

    assert count(storage) == 2


@pytest.mark.parametrize("user_id", [-1, 0, 2, 2**63 - 1, 2**63, 10**30])
def test_any_integer_may_be_asked_for(storage: SqlStorage, user_id: int) -> None:
    """A driver that cannot send a large integer is no reason to fail."""
    add(storage, somebody())

    with storage.unit() as unit:
        assert unit.users.get(user_id) is None
        assert len(unit.users.after(user_id, limit=10)) == (user_id < 1)


def test_an_id_is_never_given_again(storage: SqlStorage) -> None:
    """Whoever held a deleted user's id must not meet somebody else under it."""
    first = add(storage, somebody("one@example.org"))
    with storage.engine.begin() as connection:
        connection.execute(text("DELETE FROM users"))

    assert add(storage, somebody("two@example.org")).id > first.id


def test_one_address_claimed_by_many_threads_at_once_goes_to_one(migrated: SqlStorage) -> None:
    """The database decides, so no window lies between a look and an insertion."""
    claimants = 16
    barrier = Barrier(claimants)

    def claim(_: int) -> str:
        barrier.wait()
        try:
            add(migrated, somebody())
        except EmailTaken:
            return "taken"
        return "won"

    with ThreadPoolExecutor(claimants) as threads:
        outcomes = sorted(threads.map(claim, range(claimants)))

    assert outcomes == ["taken"] * (claimants - 1) + ["won"]
    assert count(migrated) == 1


def test_writers_wait_for_each_other(migrated: SqlStorage) -> None:
    """A busy SQLite file makes nobody fail."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: add(migrated, somebody(f"u{n}@example.org")), range(100)))

    assert count(migrated) == 100


def test_the_migrations_make_what_the_tables_say(migrated: SqlStorage) -> None:
    """A change of the tables without a migration fails here."""
    with migrated.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_unique_constraint_has_the_name_that_migrations_use(migrated: SqlStorage) -> None:
    """Names by rule, in the migration as in the tables."""
    (constraint,) = inspect(migrated.engine).get_unique_constraints("users")

    assert constraint["name"] == "uq_users_email"


def test_migrating_twice_changes_nothing(migrated: SqlStorage) -> None:
    """Every deployment may run it."""
    add(migrated, somebody())

    migrate(str(migrated.engine.url))

    assert count(migrated) == 1


def test_migrations_can_be_taken_back(migrated: SqlStorage) -> None:
    """Down to nothing, and up again."""
    url = str(migrated.engine.url)

    downgrade(url, "base")

    assert "users" not in tables(migrated.engine)
    migrate(url)
    assert "users" in tables(migrated.engine)


@pytest.mark.parametrize(
    "command",
    [
        ["examples.accounts.storage.migrate"],
        ["alembic.config", "-c", str(CONFIG), "upgrade", "head"],
    ],
    ids=["ours", "alembic"],
)
def test_migrations_run_by_command_from_anywhere(tmp_path: Path, command: list[str]) -> None:
    """As the README says; the database comes from the environment."""
    url = f"sqlite:///{tmp_path / 'accounts.sqlite3'}"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={**os.environ, "ACCOUNTS_DATABASE_URL": url, "PYTHONPATH": path},
        check=True,
        capture_output=True,
    )

    storage = SqlStorage(url)
    assert "users" in tables(storage.engine)
    storage.close()


def tables(engine: Engine) -> list[str]:
    """Return the names of the tables there are."""
    return inspect(engine).get_table_names()


def test_an_unknown_database_is_refused_by_name() -> None:
    """Before the first request, not at it."""
    with pytest.raises(ValueError, match="must be postgresql or sqlite, got mysql"):
        SqlStorage("mysql+pymysql://localhost/accounts")


def test_nothing_is_opened_before_the_first_unit(tmp_path: Path) -> None:
    """A server may build the service and fork."""
    file = tmp_path / "accounts.sqlite3"

    SqlStorage(f"sqlite:///{file}")

    assert not file.exists()


def test_the_password_in_a_database_url_is_not_shown() -> None:
    """Settings end up in logs and tracebacks."""
    settings = Settings(database_url="postgresql+psycopg://ada:s3cret@db/accounts")

    assert "s3cret" not in f"{settings!r} {settings!s}"
