"""Passwords: argon2id off the event loop, old formats upgraded at login, one deadline for every failure.

    hasher = PasswordHasher()                        # argon2id, 64 MiB, three passes, one lane
    stored = hasher.hash("correct horse battery staple")
    result = hasher.verify(stored, attempt)          # Verification(ok, new_hash)
    result = await hasher.aio.verify(stored, attempt)
    hasher.verify(None, attempt)                     # unknown user: as late as any failure, never ok

Store `result.new_hash` where there is one: the stored hash is weaker than the policy, or of a format that the
application came from (`legacy=("bcrypt",)`). `PasswordPolicy` says what a new password must be.
"""

from __future__ import annotations

from backendkit.passwords.breach import BreachCheck
from backendkit.passwords.calibrate import Calibration, calibrate
from backendkit.passwords.errors import PasswordRefused
from backendkit.passwords.hasher import AsyncPasswordHasher, PasswordHasher, Verification
from backendkit.passwords.pepper import PepperRing
from backendkit.passwords.policy import PasswordIssue, PasswordPolicy, common_passwords
from backendkit.passwords.profiles import (
    OWASP,
    RFC_9106_HIGH_MEMORY,
    RFC_9106_LOW_MEMORY,
    SERVER,
    Profile,
)

__all__ = [
    "OWASP",
    "RFC_9106_HIGH_MEMORY",
    "RFC_9106_LOW_MEMORY",
    "SERVER",
    "AsyncPasswordHasher",
    "BreachCheck",
    "Calibration",
    "PasswordHasher",
    "PasswordIssue",
    "PasswordPolicy",
    "PasswordRefused",
    "PepperRing",
    "Profile",
    "Verification",
    "calibrate",
    "common_passwords",
]
