"""The example's domain needs no database and no framework, and holds its rules by itself."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.errors import EmailTaken, UserNotFound
from examples.accounts.domain.ports import Credential
from examples.accounts.domain.user import (
    EmailAddress,
    NewUser,
    PersonName,
    User,
    parse_email,
    parse_name,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)


class ListedUsers:
    """The port `Users`, on a list: enough to show that the domain asks for no more."""

    def __init__(self) -> None:
        self.rows: list[User] = []

    def add(self, user: NewUser) -> User:
        """Append, unless somebody has the address."""
        if any(row.email == user.email for row in self.rows):
            raise EmailTaken
        row = User(
            id=len(self.rows) + 1, email=user.email, name=user.name, created_at=user.created_at
        )
        self.rows.append(row)
        return row

    def get(self, user_id: int) -> User | None:
        """Look through all."""
        return next((row for row in self.rows if row.id == user_id), None)

    def after(self, user_id: int, *, limit: int) -> list[User]:
        """Look through all."""
        return [row for row in self.rows if row.id > user_id][:limit]


class ListedCredentials:
    """The port `Credentials`, on a dict."""

    def __init__(self, users: ListedUsers) -> None:
        self._users = users
        self.rows: dict[int, Credential] = {}

    def of(self, email: str) -> Credential | None:
        """Look through all."""
        return next((self.rows.get(row.id) for row in self._users.rows if row.email == email), None)

    def get(self, user_id: int) -> Credential | None:
        """Look up."""
        return self.rows.get(user_id)

    def put(self, user_id: int, hashed: str) -> None:
        """Keep the roles, and replace the hash."""
        old = self.rows.get(user_id)
        self.rows[user_id] = Credential(user_id, hashed, old.roles if old else ())


class ListedUnit:
    """The port `UnitOfWork`, without transactions."""

    def __init__(self) -> None:
        self.users = ListedUsers()
        self.credentials = ListedCredentials(self.users)


class ListedStorage:
    """The port `Storage`, with one unit for all."""

    def __init__(self) -> None:
        self._unit = ListedUnit()

    @contextmanager
    def unit(self) -> Iterator[ListedUnit]:
        """Hand the unit out."""
        yield self._unit


@pytest.fixture
def accounts() -> Accounts:
    """Accounts on a list, at noon."""
    return Accounts(ListedStorage(), now=lambda: NOON)


def register(accounts: Accounts, count: int) -> list[User]:
    """Register `count` users."""
    return [
        accounts.register(EmailAddress(f"u{n}@example.org"), PersonName(f"User {n}"))
        for n in range(count)
    ]


def test_a_registered_user_can_be_read_back(accounts: Accounts) -> None:
    """Reading gives what registering gave."""
    user = accounts.register(EmailAddress("ada@example.org"), PersonName("Ada"))

    assert accounts.get(user.id) == user


def test_the_time_of_registration_is_kept_in_whole_seconds(accounts: Accounts) -> None:
    """What clients see is exactly what is stored."""
    (user,) = register(accounts, 1)

    assert user.created_at == datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_an_unknown_user_is_an_error_that_names_the_id(accounts: Accounts) -> None:
    """The id is no personal data: the message may name it."""
    with pytest.raises(UserNotFound) as caught:
        accounts.get(4711)

    assert caught.value.status == 404
    assert caught.value.text == "There is no user 4711"


def test_a_taken_address_is_an_error_that_does_not_name_it(accounts: Accounts) -> None:
    """The address is personal data: neither message nor log line shows it."""
    register(accounts, 1)

    with pytest.raises(EmailTaken) as caught:
        register(accounts, 1)

    assert caught.value.status == 409
    assert "u0@" not in f"{caught.value!s} {caught.value.text} {caught.value!r}"


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
def test_pages_hold_everybody_once_in_order(accounts: Accounts, limit: int) -> None:
    """Following `next_after` from the start meets every user, whatever the size of a page."""
    users = register(accounts, 4)

    met: list[User] = []
    after: int | None = 0
    while after is not None:
        page = accounts.page(after=after, limit=limit)
        assert len(page.users) <= limit
        met += page.users
        after = page.next_after

    assert met == users


def test_an_exactly_full_last_page_has_no_next(accounts: Accounts) -> None:
    """No client is sent to fetch an empty page."""
    register(accounts, 2)

    assert accounts.page(limit=2).next_after is None


def test_somebody_who_joins_between_two_pages_shifts_nobody(accounts: Accounts) -> None:
    """A page begins after an id, not after a number of rows."""
    register(accounts, 3)
    first = accounts.page(limit=2)
    accounts.register(EmailAddress("late@example.org"), PersonName("Late"))

    assert first.next_after is not None
    second = accounts.page(after=first.next_after, limit=2)
    assert [user.id for user in second.users] == [3, 4]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  Ada@Example.ORG ", "ada@example.org"),
        ("o'neil+tag@mail.example.co.uk", "o'neil+tag@mail.example.co.uk"),
    ],
)
def test_an_address_has_one_spelling(text: str, address: str) -> None:
    """Two spellings of one address must not make two users."""
    assert parse_email(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@localhost",
        "ada@@example.org",
        "ada@exa mple.org",
        "ada@-example.org",
        "ada@example.org\nbcc: all@example.org",
        "ada@example.org\x00",
        "a" * 65 + "@example.org",
        "ada@" + "a" * 250 + ".org",
        "ada@\ud800.org",
    ],
)
def test_what_has_not_the_shape_of_an_address_is_refused(text: str) -> None:
    """Shape only: whether mail arrives, a confirmation mail tells."""
    with pytest.raises(ValueError, match="valid e-mail address"):
        parse_email(text)


def test_an_address_is_parsed_in_time_that_grows_with_its_length_only() -> None:
    """No input makes the pattern backtrack for ever; the suite's timeout would tell."""
    with pytest.raises(ValueError, match="valid e-mail address"):
        parse_email("a" * 64 + "@" + "a-" * 100_000)


@pytest.mark.parametrize("text", ["", "   ", "x" * 101, "a\x00b", "a\nb", "a\u2028b", "\x1b[31m"])
def test_a_name_that_no_page_could_show_is_refused(text: str) -> None:
    """Control characters break logs and databases."""
    with pytest.raises(ValueError, match="Must"):
        parse_name(text)


@pytest.mark.parametrize("text", ["Ada", " Ada ", "李", "O'Neil-Smith Jr.", "x" * 100])
def test_a_name_is_kept_as_its_owner_writes_it(text: str) -> None:
    """Only the white space around it goes."""
    assert parse_name(text) == text.strip()


def test_the_domain_loads_no_framework_and_no_database() -> None:
    """Whoever copies the domain gets to choose both."""
    script = (
        "import sys, examples.accounts.domain.accounts as _\n"
        "print(*sorted({'sqlalchemy', 'alembic', 'fastapi', 'starlette', 'flask', 'werkzeug',"
        " 'pydantic', 'redis'} & sys.modules.keys()))"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == ""
