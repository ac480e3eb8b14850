"""Logins, passwords, keys and second factors as clients send and see them."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from backendkit.tokens import ApiKeyRecord
from backendkit.tokens.totp import Enrolment
from examples.accounts.domain.user import (
    MAX_EMAIL,
    EmailAddress,
    PersonName,
    User,
    parse_email,
    parse_name,
)
from examples.accounts.wire.reply import Reply
from examples.accounts.wire.users import PATH as USERS
from examples.accounts.wire.users import created, view

SIGN_UP = "/signup"
ME = "/me"
PASSWORD = ME + "/password"
FACTOR = ME + "/factor"
KEYS = ME + "/keys"
RESET = "/password-reset"
ACCOUNT = USERS + "/{user_id}/account"
ADMIN = "/admin/users"
MACHINE = "/machine"

API_KEY = "X-API-Key"
"""The header that carries an API key."""

NO_STORE = {"Cache-Control": "no-store"}

Password = Annotated[SecretStr, Field(min_length=1, max_length=8_192)]


class SignUp(BaseModel):
    """The body of `POST /signup`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: Annotated[EmailAddress, Field(max_length=2 * MAX_EMAIL), AfterValidator(parse_email)]
    name: Annotated[PersonName, Field(max_length=1_000), AfterValidator(parse_name)]
    password: Password


class PasswordChange(BaseModel):
    """The body of `POST /me/password`."""

    current: Password
    new: Password


class ResetRequest(BaseModel):
    """The body of `POST /password-reset`."""

    email: Annotated[str, Field(max_length=2 * MAX_EMAIL)]


class Reset(BaseModel):
    """The body of `POST /password-reset/confirm`."""

    token: Annotated[SecretStr, Field(max_length=8_192)]
    new: Password


class Code(BaseModel):
    """The body of `POST /me/factor/confirm`."""

    code: Annotated[str, Field(max_length=16)]


class NewKey(BaseModel):
    """The body of `POST /me/keys`."""

    name: Annotated[str, Field(max_length=100)] = ""


class Account(BaseModel):
    """What a user, and an administrator, see of an account."""

    id: int
    email: str
    name: str
    roles: list[str]


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: str
    name: str
    used: bool


def signed_up(user: User) -> Reply:
    """Answer a sign-up."""
    return created(user)


def me(user: User) -> Reply:
    """Answer with who asks."""
    return Reply(200, view(user).model_dump_json(by_alias=True).encode(), NO_STORE)


def account(user: User, roles: list[str]) -> Reply:
    """Answer with an account."""
    shown = Account(id=user.id, email=user.email, name=user.name, roles=roles)
    return Reply(200, shown.model_dump_json().encode(), NO_STORE)


def done() -> Reply:
    """Answer that it is done."""
    return Reply(204, b"", NO_STORE)


def asked() -> Reply:
    """Answer a request for a reset: the same whether there is such a user or not."""
    return Reply(202, b'{"sent":"if there is such an account"}', NO_STORE)


def enrolled(enrolment: Enrolment) -> Reply:
    """Answer with what is shown once."""
    return _once({"uri": enrolment.uri, "recovery_codes": list(enrolment.recovery_codes)})


def key(text: str, record: ApiKeyRecord) -> Reply:
    """Answer with a key, which is shown once."""
    return _once({"key": text, "id": record.id})


def keys(records: list[ApiKeyRecord]) -> Reply:
    """Answer with a list of keys."""
    shown = [KeyView(id=one.id, name=one.name, used=one.used_us is not None) for one in records]
    return Reply(200, _Keys(keys=shown).model_dump_json().encode(), NO_STORE)


def machine(record: ApiKeyRecord) -> Reply:
    """Answer a machine with whom it works for."""
    return Reply(200, _Machine(owner=record.owner).model_dump_json().encode(), NO_STORE)


class _Keys(BaseModel):
    keys: list[KeyView]


class _Machine(BaseModel):
    owner: str


class _Once(BaseModel):
    model_config = ConfigDict(extra="allow")


def _once(members: dict[str, object]) -> Reply:
    return Reply(201, _Once(**members).model_dump_json().encode(), NO_STORE)
