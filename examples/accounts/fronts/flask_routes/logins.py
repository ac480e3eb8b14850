"""Signing up, passwords, keys and second factors on Flask; logging in is the library's blueprint."""

from flask import Blueprint, Response, request

import backendkit.flask
from backendkit.flask.tokens import Guard, principal
from backendkit.tokens import NotAuthenticated, fresh, has_roles, owner_or_roles, require
from examples.accounts.composition import Services
from examples.accounts.domain.errors import KeyNotFound
from examples.accounts.domain.logins import ADMIN
from examples.accounts.fronts.flask_routes.respond import respond
from examples.accounts.wire import logins as wire
from examples.accounts.wire.users import PageQuery, UserPath, listed

SELF_OR_ADMIN = owner_or_roles(lambda _, user_id: user_id, ADMIN)


def logins_blueprint(parts: Services) -> Blueprint:
    """Return the routes of those who are logged in, and of those who would be."""
    blueprint = Blueprint("logins", __name__)
    logins, accounts = parts.logins, parts.accounts
    guard = Guard(parts.tokens)

    @blueprint.post(wire.SIGN_UP)
    def sign_up() -> Response:
        """Sign up with a password."""
        body = backendkit.flask.body(wire.SignUp)
        return respond(
            wire.signed_up(logins.sign_up(body.email, body.name, body.password.get_secret_value()))
        )

    @blueprint.get(wire.ME)
    @guard()
    def me() -> Response:
        """Return who asks."""
        return respond(wire.me(accounts.get(_user_id())))

    @blueprint.get(wire.ACCOUNT.replace("{user_id}", "<user_id>"))
    @guard()
    def account(user_id: str) -> Response:
        """Return an account to its owner and to administrators."""
        wanted = backendkit.flask.path(UserPath).user_id
        require(principal(), SELF_OR_ADMIN, thing=wanted)
        return respond(wire.account(accounts.get(wanted), [*logins.roles_of(wanted)]))

    @blueprint.get(wire.ADMIN)
    @guard(has_roles(ADMIN))
    def all_users() -> Response:
        """List users, for administrators."""
        query = backendkit.flask.query(PageQuery)
        return respond(listed(accounts.page(after=query.after, limit=query.limit), query))

    _add_proofs(blueprint, parts, guard)
    _add_keys(blueprint, parts, guard)
    return blueprint


def _add_proofs(blueprint: Blueprint, parts: Services, guard: Guard) -> None:
    logins = parts.logins

    @blueprint.post(wire.PASSWORD)
    @guard()
    def change() -> Response:
        """Change the password; ends all sessions."""
        body = backendkit.flask.body(wire.PasswordChange)
        current, new = body.current.get_secret_value(), body.new.get_secret_value()
        logins.change_password(_user_id(), current, new)
        return respond(wire.done())

    @blueprint.post(wire.RESET)
    def ask_reset() -> Response:
        """Mail a link that resets the password."""
        logins.ask_reset(backendkit.flask.body(wire.ResetRequest).email)
        return respond(wire.asked())

    @blueprint.post(wire.RESET + "/confirm")
    def reset() -> Response:
        """Set a new password by a link's token."""
        body = backendkit.flask.body(wire.Reset)
        logins.reset_password(body.token.get_secret_value(), body.new.get_secret_value())
        return respond(wire.done())

    @blueprint.post(wire.FACTOR)
    @guard(fresh(600, clock=parts.kit.clock))
    def enrol() -> Response:
        """Begin with a second factor; wants a login of the last ten minutes."""
        return respond(wire.enrolled(logins.enrol_factor(_user_id())))

    @blueprint.post(wire.FACTOR + "/confirm")
    @guard()
    def confirm() -> Response:
        """Confirm it by a code."""
        logins.confirm_factor(_user_id(), backendkit.flask.body(wire.Code).code)
        return respond(wire.done())


def _add_keys(blueprint: Blueprint, parts: Services, guard: Guard) -> None:
    @blueprint.post(wire.KEYS)
    @guard()
    def add() -> Response:
        """Make an API key."""
        name = backendkit.flask.body(wire.NewKey).name
        return respond(wire.key(*parts.keys.issue(principal().subject, name=name)))

    @blueprint.get(wire.KEYS)
    @guard()
    def show() -> Response:
        """List the user's keys."""
        return respond(wire.keys(parts.key_rows.of(principal().subject)))

    @blueprint.delete(wire.KEYS + "/<key_id>")
    @guard()
    def revoke(key_id: str) -> Response:
        """End a key."""
        record = parts.key_rows.get(key_id)
        if record is None or record.owner != principal().subject or not parts.keys.revoke(key_id):
            raise KeyNotFound
        return respond(wire.done())

    @blueprint.get(wire.MACHINE)
    def machine() -> Response:
        """Return whom a machine works for."""
        key = request.headers.get(wire.API_KEY)
        if key is None:
            raise NotAuthenticated
        return respond(wire.machine(parts.keys.verify(key)))


def _user_id() -> int:
    return int(principal().subject)
