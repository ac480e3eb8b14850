"""Signing up, passwords, keys and second factors on FastAPI; logging in is the library's router."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response, Security

from backendkit.fastapi import raises
from backendkit.fastapi.tokens import Guard
from backendkit.passwords import PasswordRefused
from backendkit.tokens import (
    AccessDenied,
    InvalidToken,
    NotAuthenticated,
    Principal,
    fresh,
    has_roles,
    owner_or_roles,
    require,
)
from examples.accounts.composition import Services
from examples.accounts.domain.errors import EmailTaken, KeyNotFound, WrongCode, WrongPassword
from examples.accounts.domain.logins import ADMIN
from examples.accounts.fronts.fastapi_routes.respond import respond
from examples.accounts.wire import logins as wire
from examples.accounts.wire.users import PageQuery, PageView, UserId, UserView, listed

SELF_OR_ADMIN = owner_or_roles(lambda _, user_id: user_id, ADMIN)


def logins_router(parts: Services) -> APIRouter:
    """Return the routes of those who are logged in, and of those who would be."""
    router = APIRouter(tags=["logins"])
    logins, accounts = parts.logins, parts.accounts
    current = Guard(parts.tokens)
    admins = Guard(parts.tokens, has_roles(ADMIN))

    @router.post(
        wire.SIGN_UP, status_code=201, response_model=UserView, responses=raises(EmailTaken, PasswordRefused)
    )  # fmt: skip
    def sign_up(body: wire.SignUp) -> Response:
        """Sign up with a password."""
        return respond(
            wire.signed_up(logins.sign_up(body.email, body.name, body.password.get_secret_value()))
        )

    @router.get(wire.ME, response_model=UserView, responses=raises(NotAuthenticated))
    def me(user: Annotated[Principal, Security(current)]) -> Response:
        """Return who asks."""
        return respond(wire.me(accounts.get(int(user.subject))))

    @router.get(
        wire.ACCOUNT, response_model=wire.Account, responses=raises(NotAuthenticated, AccessDenied)
    )
    def account(user_id: UserId, user: Annotated[Principal, Security(current)]) -> Response:
        """Return an account to its owner and to administrators."""
        require(user, SELF_OR_ADMIN, thing=user_id)
        return respond(wire.account(accounts.get(user_id), [*logins.roles_of(user_id)]))

    @router.get(wire.ADMIN, response_model=PageView, dependencies=[Security(admins)])
    def all_users(query: Annotated[PageQuery, Query()]) -> Response:
        """List users, for administrators."""
        return respond(listed(accounts.page(after=query.after, limit=query.limit), query))

    _add_proofs(router, parts, current)
    _add_keys(router, parts, current)
    return router


def _add_proofs(router: APIRouter, parts: Services, current: Guard) -> None:
    logins = parts.logins
    recent = Guard(parts.tokens, fresh(600, clock=parts.kit.clock))

    @router.post(wire.PASSWORD, status_code=204, responses=raises(WrongPassword, PasswordRefused))
    def change(
        body: wire.PasswordChange, user: Annotated[Principal, Security(current)]
    ) -> Response:
        """Change the password; ends all sessions."""
        current, new = body.current.get_secret_value(), body.new.get_secret_value()
        logins.change_password(int(user.subject), current, new)
        return respond(wire.done())

    @router.post(wire.RESET, status_code=202)
    def ask_reset(body: wire.ResetRequest) -> Response:
        """Mail a link that resets the password."""
        logins.ask_reset(body.email)
        return respond(wire.asked())

    @router.post(
        wire.RESET + "/confirm", status_code=204, responses=raises(InvalidToken, PasswordRefused)
    )
    def reset(body: wire.Reset) -> Response:
        """Set a new password by a link's token."""
        logins.reset_password(body.token.get_secret_value(), body.new.get_secret_value())
        return respond(wire.done())

    @router.post(wire.FACTOR, status_code=201)
    def enrol(user: Annotated[Principal, Security(recent)]) -> Response:
        """Begin with a second factor; wants a login of the last ten minutes."""
        return respond(wire.enrolled(logins.enrol_factor(int(user.subject))))

    @router.post(wire.FACTOR + "/confirm", status_code=204, responses=raises(WrongCode))
    def confirm(body: wire.Code, user: Annotated[Principal, Security(current)]) -> Response:
        """Confirm it by a code."""
        logins.confirm_factor(int(user.subject), body.code)
        return respond(wire.done())


def _add_keys(router: APIRouter, parts: Services, current: Guard) -> None:
    @router.post(wire.KEYS, status_code=201)
    def add(body: wire.NewKey, user: Annotated[Principal, Security(current)]) -> Response:
        """Make an API key."""
        return respond(wire.key(*parts.keys.issue(user.subject, name=body.name)))

    @router.get(wire.KEYS)
    def show(user: Annotated[Principal, Security(current)]) -> Response:
        """List the user's keys."""
        return respond(wire.keys(parts.key_rows.of(user.subject)))

    @router.delete(wire.KEYS + "/{key_id}", status_code=204, responses=raises(KeyNotFound))
    def revoke(key_id: str, user: Annotated[Principal, Security(current)]) -> Response:
        """End a key."""
        record = parts.key_rows.get(key_id)
        if record is None or record.owner != user.subject or not parts.keys.revoke(key_id):
            raise KeyNotFound
        return respond(wire.done())

    @router.get(wire.MACHINE, responses=raises(NotAuthenticated, InvalidToken))
    def machine(x_api_key: Annotated[str | None, Header()] = None) -> Response:
        """Return whom a machine works for."""
        if x_api_key is None:
            raise NotAuthenticated
        return respond(wire.machine(parts.keys.verify(x_api_key)))
