"""Logins as clients send them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from examples.accounts.wire.reply import Reply

PATH = "/logins"
"""Where operators log in."""


class Login(BaseModel):
    """The body of `POST /logins`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    password: Annotated[str, Field(min_length=1, max_length=1_000, repr=False)]


class Welcome(BaseModel):
    """The answer to the right password."""

    name: str


def welcomed(login: Login) -> Reply:
    """Answer the right password."""
    return Reply(200, Welcome(name=login.name).model_dump_json().encode())
