"""What a login takes and gives: the body that clients send, what the application is asked, and what it answers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from backendkit.core.errors import Unauthorized
from backendkit.tokens import Client


class LoginRefused(Unauthorized):
    """Nobody is known by this name and password; never says which of the two was wrong."""

    code = "LOGIN_REFUSED"
    message = "The credentials are wrong"


class SecondFactorRequired(Unauthorized):
    """The password is right, and a `code` is needed as well; raised by an `authenticate`, after the password."""

    code = "SECOND_FACTOR_REQUIRED"
    message = "A second factor is required"


class Unpickled:
    """What holds a secret on its way, and goes into no pickle: neither a queue's nor a cache's."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} does not pickle: it may hold a secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login(Unpickled):
    """What somebody sent who wants to log in.

    Attributes:
        username: a name, an address: whatever the application knows users by.
        password: as typed.
        code: of a second factor; None: none was sent.
        client: who is at the other end.
        more: members of the body that the library does not know.
    """

    username: str
    password: str = field(repr=False)
    code: str | None = field(default=None, repr=False)
    client: Client = field(default_factory=Client)
    more: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who has proved to be who; arguments of `Tokens.issue`."""

    subject: str
    roles: Iterable[str] = ()
    scopes: Iterable[str] = ()
    claims: Mapping[str, Any] = field(default_factory=dict[str, Any])
    methods: Iterable[str] = ("pwd",)


Authenticate: TypeAlias = Callable[[Login], "Identity | Awaitable[Identity | None] | None"]
"""Tells who logs in; None: nobody. As slow for names that are unknown: `hasher.verify(None, password)`.

May raise: `SecondFactorRequired`, `RateLimited`, errors of the application's own.
"""


def awaits(authenticate: Authenticate) -> bool:
    """Tell whether a function, or an object that is called like one, is an `async def`."""
    called = getattr(authenticate, "__call__", None)  # noqa: B004 - of an object, its own
    return inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(called)


class LoginBody(Unpickled, BaseModel):
    """Logs in."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    username: str = Field(min_length=1, max_length=1_024)
    password: str = Field(
        min_length=1, max_length=8_192, repr=False, json_schema_extra={"format": "password"}
    )
    code: str | None = Field(
        default=None, max_length=64, repr=False, description="Of a second factor."
    )
    device: str = Field(default="", max_length=256, description="A name for the list of sessions.")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave out members that are not known: they may be as secret as those that are."""
        return [("username", self.username), ("device", self.device)]


class RefreshBody(Unpickled, BaseModel):
    """Carries a refresh token."""

    model_config = ConfigDict(hide_input_in_errors=True)

    refresh_token: str = Field(min_length=1, max_length=8_192, repr=False)
