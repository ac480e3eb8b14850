"""Users as clients send and see them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from examples.accounts.domain.accounts import Page
from examples.accounts.domain.user import (
    MAX_EMAIL,
    EmailAddress,
    PersonName,
    User,
    parse_email,
    parse_name,
)
from examples.accounts.wire.reply import Reply

PATH = "/users"
"""Where users live."""

MAX_ID = 2**53 - 1
"""The largest id that clients in JavaScript read without loss."""

Moment = Annotated[datetime, PlainSerializer(lambda at: f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")]
"""A moment in the spelling that the error envelope has, too."""

UserId = Annotated[int, Field(ge=1, le=MAX_ID)]
"""A user's id, as a part of a path."""


class Registration(BaseModel):
    """The body of `POST /users`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # The loose bounds spare the parsers a megabyte; the rule itself is the domain's.
    email: Annotated[EmailAddress, Field(max_length=2 * MAX_EMAIL), AfterValidator(parse_email)]
    name: Annotated[PersonName, Field(max_length=1_000), AfterValidator(parse_name)]


class UserPath(BaseModel):
    """The variable part of `/users/{user_id}`."""

    user_id: UserId


class PageQuery(BaseModel):
    """The query of `GET /users`."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=MAX_ID, description="The last id of the page before")
    limit: int = Field(default=20, ge=1, le=100, description="Users on a page, at most")


class UserView(BaseModel):
    """A user, as clients see one."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: int
    email: str
    name: str
    created_at: Moment


class PageView(BaseModel):
    """Some users, and the address of the next ones; null on the last page."""

    items: list[UserView]
    next: str | None


def created(user: User) -> Reply:
    """Answer a registration."""
    return Reply(201, _json(view(user)), {"Location": f"{PATH}/{user.id}"})


def shown(user: User) -> Reply:
    """Answer with one user."""
    return Reply(200, _json(view(user)))


def listed(page: Page, query: PageQuery) -> Reply:
    """Answer with a page of users."""
    more = (
        None if page.next_after is None else f"{PATH}?after={page.next_after}&limit={query.limit}"
    )
    return Reply(200, _json(PageView(items=[view(user) for user in page.users], next=more)))


def view(user: User) -> UserView:
    """Return what clients may see of a user."""
    return UserView(id=user.id, email=user.email, name=user.name, created_at=user.created_at)


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json(by_alias=True).encode()
