"""What goes wrong with passwords. None of them ever holds a password or a hash.

AppError
└── PasswordRefused           422  PASSWORD_REFUSED       against the policy, or not hashable; `details` says why
"""

from __future__ import annotations

from collections.abc import Iterable

from backendkit.core.errors import AppError, Detail


class PasswordRefused(AppError):
    """A new password breaks rules; `details` holds one coded line for each."""

    code = "PASSWORD_REFUSED"
    status = 422
    message = "The password cannot be used"

    def __init__(self, reason: str = "", /, *, details: Iterable[Detail] = ()) -> None:
        super().__init__(reason, details=details)
