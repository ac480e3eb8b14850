"""How users prove who they are: passwords, second factors, links by mail, keys for machines.

The library computes and checks; what is kept, and who may do what, is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backendkit.http.login import Identity, Login, SecondFactorRequired
from backendkit.passwords import PasswordHasher, PasswordPolicy
from backendkit.ratelimit import RateLimiter
from backendkit.tokens import Grants, OneTime, SecondFactor, Tokens
from backendkit.tokens.totp import Enrolment
from examples.accounts.domain.accounts import Accounts
from examples.accounts.domain.errors import WrongCode, WrongPassword
from examples.accounts.domain.ports import Mail, Storage
from examples.accounts.domain.user import EmailAddress, PersonName, User, parse_email

ADMIN = "admin"
"""The role that may look into every account."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """What the library brings: hashes, rules, tokens, factors, and a limit on guessing."""

    hasher: PasswordHasher
    policy: PasswordPolicy
    tokens: Tokens
    resets: OneTime
    factors: SecondFactor
    attempts: RateLimiter


class Logins:
    """Signing up, logging in, and everything about passwords. Safe to share between threads."""

    def __init__(self, storage: Storage, accounts: Accounts, proofs: Proofs, mail: Mail) -> None:
        self._storage = storage
        self._accounts = accounts
        self._by = proofs
        self._mail = mail

    def sign_up(self, email: EmailAddress, name: PersonName, password: str) -> User:
        """Add a user with a password.

        Raises:
            PasswordRefused: the password breaks rules.
            EmailTaken: the address is registered.
        """
        self._by.policy.require(password, context=[email, name, "accounts"])
        hashed = self._by.hasher.hash(password)  # before the transaction: nobody shall wait for it
        user = self._accounts.register(email, name)
        with self._storage.unit() as unit:
            unit.credentials.put(user.id, hashed)
        return user

    def authenticate(self, login: Login) -> Identity | None:
        """Tell who logs in; what `session_router` and `session_blueprint` ask.

        Raises:
            RateLimited: too many attempts on this address.
            SecondFactorRequired: the password is right, and a code is needed.
        """
        address = login.username.strip().lower()[:300]
        # Failures alone count, and take their place before they are known: guesses at once get no further.
        with self._by.attempts.reserve(address) as attempt:
            who = self._proved(address, login)
            if who is None:
                attempt.commit()
            return who

    def grants(self, subject: str) -> Grants | None:
        """Read what a user may do now, at each refresh; None: there is no such user any more."""
        with self._storage.unit() as unit:
            found = unit.credentials.get(int(subject))
        return None if found is None else Grants(roles=found.roles)

    def change_password(self, user_id: int, current: str, new: str) -> None:
        """Put a new password in the place of the old one, and end all sessions, this one as well.

        Raises:
            WrongPassword: `current` is not the user's.
            PasswordRefused: the new one breaks rules.
        """
        with self._storage.unit() as unit:
            found = unit.credentials.get(user_id)
        if not self._by.hasher.verify(found.hashed if found else None, current).ok:
            raise WrongPassword
        self._set(self._accounts.get(user_id), new)

    def ask_reset(self, email: str) -> None:
        """Mail a link that resets the password; whether there is such a user, nobody is told."""
        address = email.strip().lower()[:300]
        if not self._by.attempts.hit(("reset", address)).allowed:
            return
        with self._storage.unit() as unit:
            found = unit.credentials.of(address)
        if found is not None:
            token = self._by.resets.issue(str(found.user_id), bound=found.hashed)
            self._mail.send(parse_email(address), f"Reset your password with {token}")

    def reset_password(self, token: str, new: str) -> None:
        """Set a new password by a link's token, once, and end all sessions.

        Raises:
            TokenError: the token is none, was taken, or the password has changed since.
            PasswordRefused: the new one breaks rules; the token still works.
        """
        user = self._accounts.get(int(self._by.resets.peek(token).subject))
        self._by.policy.require(new, context=[user.email, user.name, "accounts"])
        with self._storage.unit() as unit:
            found = unit.credentials.get(user.id)
        self._by.resets.take(token, bound=found.hashed if found else "")
        self._set(user, new)

    def enrol_factor(self, user_id: int) -> Enrolment:
        """Begin with a second factor; it counts once a code was confirmed."""
        return self._by.factors.enrol(str(user_id), label=self._accounts.get(user_id).email)

    def confirm_factor(self, user_id: int, code: str) -> None:
        """Show that the app has the seed.

        Raises:
            WrongCode: it has not.
        """
        if not self._by.factors.verify(str(user_id), code):
            raise WrongCode

    def roles_of(self, user_id: int) -> Sequence[str]:
        """Return a user's roles."""
        with self._storage.unit() as unit:
            found = unit.credentials.get(user_id)
        return () if found is None else found.roles

    def _proved(self, address: str, login: Login) -> Identity | None:
        with self._storage.unit() as unit:
            found = unit.credentials.of(address)
        result = self._by.hasher.verify(found.hashed if found else None, login.password)
        if found is None or not result.ok:
            return None
        subject, factors = str(found.user_id), self._by.factors
        enrolled = factors.is_enrolled(subject)
        if enrolled and login.code is None:
            raise SecondFactorRequired
        if enrolled and not (
            factors.verify(subject, login.code or "") or factors.recover(subject, login.code or "")
        ):
            return None
        if result.new_hash is not None:
            with self._storage.unit() as unit:
                unit.credentials.put(found.user_id, result.new_hash)
        return Identity(
            subject=subject, roles=found.roles, methods=["pwd", "otp"] if enrolled else ["pwd"]
        )

    def _set(self, user: User, password: str) -> None:
        self._by.policy.require(password, context=[user.email, user.name, "accounts"])
        hashed = self._by.hasher.hash(password)
        with self._storage.unit() as unit:
            unit.credentials.put(user.id, hashed)
        # Afterwards: a session that ended although the password did not change harms nobody, the reverse does.
        self._by.tokens.revoke_all(str(user.id))
