"""The operators' door: a name and a password, and few wrong ones.

What is counted is failures alone. An attempt takes one of five places before the password is looked at, and gives it
back if it was right: so fifty guesses at once get no further than five, and whoever knows the password is never
refused for knowing it often.
"""

from collections.abc import Mapping
from typing import Protocol

from backendkit.errors import Unauthorized
from backendkit.passwords import PasswordHasher
from backendkit.ratelimit import Reservation


class WrongPassword(Unauthorized):
    """Nobody has this name, or the password is not theirs: which of the two, nobody is told."""

    code = "WRONG_PASSWORD"
    message = "Name or password is wrong"


class Attempts(Protocol):
    """What counts attempts: a `RateLimiter`."""

    def reserve(self, key: str) -> Reservation:
        """Take a place for as long as the attempt is undecided."""
        ...


class Door:
    """Lets operators in.

    Args:
        hasher: checks passwords.
        stored: the hash of each operator's password, by name.
        attempts: how many may fail.
    """

    def __init__(
        self, hasher: PasswordHasher, stored: Mapping[str, str], attempts: Attempts
    ) -> None:
        self._hasher = hasher
        self._stored = stored
        self._attempts = attempts

    def enter(self, name: str, password: str) -> None:
        """Return if the password is this operator's.

        Raises:
            WrongPassword: it is not.
            RateLimited: too many attempts at this name have failed, or are undecided.
        """
        with self._attempts.reserve(name) as attempt:
            if self._hasher.verify(self._stored.get(name), password).ok:
                return
            attempt.commit()
        raise WrongPassword
