"""What a new password must be: NIST SP 800-63B-4 section 3.1.1, and nothing that it forbids.

Length, a list of common passwords, words of the context, and whether it was ever breached. No composition rules and
no rotation: they make passwords worse.
"""

from __future__ import annotations

import importlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backendkit.core import checks
from backendkit.core.errors import InvalidArgument, MissingExtra
from backendkit.passwords.breach import BreachCheck
from backendkit.passwords.errors import PasswordRefused
from backendkit.passwords.text import LONGEST_POINTS, too_long

LONGEST_ESTIMATED = 72
"""Characters that the strength estimate sees: zxcvbn's time grows faster than the length."""

SHORTEST_WORD = 4
"""Context words below this would forbid half the language."""


@dataclass(frozen=True, slots=True)
class PasswordIssue:
    """One rule that a password breaks: a stable `code`, and a sentence."""

    code: str
    message: str

    def as_detail(self, field: str = "password") -> dict[str, str]:
        """Return it as a line of the error envelope."""
        return {"field": field, "issue": self.message, "code": self.code}


class PasswordPolicy:
    """Rules for new passwords.

    Args:
        minimum: characters of a password that stands alone (NIST: at least 15).
        minimum_with_factor: where a second factor is used as well (NIST: at least 8).
        maximum: characters, 64..1,024.
        blocklist: common passwords, compared without case; see `common_passwords`.
        breach: the breach check; None: none.
        strength: the least zxcvbn score, 0..4; None: no estimate. Needs the extra `zxcvbn`.
    """

    def __init__(
        self,
        *,
        minimum: int = 15,
        minimum_with_factor: int = 8,
        maximum: int = LONGEST_POINTS,
        blocklist: Iterable[str] = (),
        breach: BreachCheck | None = None,
        strength: int | None = None,
    ) -> None:
        self.minimum = checks.whole("minimum", minimum, least=1, most=64)
        self.minimum_with_factor = checks.whole(
            "minimum_with_factor", minimum_with_factor, least=1, most=64
        )
        self.maximum = checks.whole("maximum", maximum, least=64, most=LONGEST_POINTS)
        self._blocked = frozenset(_folded(word) for word in blocklist)
        self._breach = breach
        self._strength = None if strength is None else checks.whole("strength", strength, most=4)

    def check(
        self, password: str, *, context: Iterable[str] = (), second_factor: bool = False
    ) -> list[PasswordIssue]:
        """Return all rules that a password breaks; empty: it may be used.

        Args:
            password: the candidate.
            context: the user's name and address, the service's name: not to be used as passwords.
            second_factor: whether the account has one.

        Cost: microseconds, without breach check and estimate; with a breach check one HTTPS request.
        """
        issues = self.check_here(password, context=context, second_factor=second_factor)
        if not issues and self._breach is not None and self._breach.is_breached(password):
            issues.append(_BREACHED)
        return issues

    async def check_async(
        self, password: str, *, context: Iterable[str] = (), second_factor: bool = False
    ) -> list[PasswordIssue]:
        """Return all rules that a password breaks, without blocking the loop; see `check`."""
        issues = self.check_here(password, context=context, second_factor=second_factor)
        if (
            not issues
            and self._breach is not None
            and await self._breach.is_breached_async(password)
        ):
            issues.append(_BREACHED)
        return issues

    def require(
        self, password: str, *, context: Iterable[str] = (), second_factor: bool = False
    ) -> None:
        """Raise `PasswordRefused` with one line for each rule that a password breaks."""
        refuse(self.check(password, context=context, second_factor=second_factor))

    def check_here(
        self, password: str, *, context: Iterable[str] = (), second_factor: bool = False
    ) -> list[PasswordIssue]:
        """Return the rules that a password breaks, without asking anybody."""
        if too_long(password) or len(password) > self.maximum:
            return [PasswordIssue("too_long", f"must be at most {self.maximum} characters")]
        issues: list[PasswordIssue] = []
        least = self.minimum_with_factor if second_factor else self.minimum
        if len(unicodedata.normalize("NFC", password)) < least:
            issues.append(PasswordIssue("too_short", f"must be at least {least} characters"))
        folded = _folded(password)
        if folded in self._blocked or len(set(folded)) <= 2:
            issues.append(PasswordIssue("common", "is among the most used passwords"))
        if _is_made_of(folded, context):
            issues.append(
                PasswordIssue("context", "must not be made of your name, address or this service")
            )
        if (
            self._strength is not None
            and not issues
            and self._score(password, context) < self._strength
        ):
            issues.append(PasswordIssue("weak", "is easy to guess"))
        return issues

    def _score(self, password: str, context: Iterable[str]) -> int:
        zxcvbn: Any = _zxcvbn("zxcvbn").zxcvbn
        score: int = zxcvbn(password[:LONGEST_ESTIMATED], user_inputs=[*context])["score"]
        return score


def refuse(issues: list[PasswordIssue]) -> None:
    """Raise `PasswordRefused` if there are issues."""
    if issues:
        codes = ", ".join(issue.code for issue in issues)
        raise PasswordRefused(codes, details=[issue.as_detail() for issue in issues])


def common_passwords(count: int = 30_000) -> list[str]:
    """Return the most used passwords, the frequency list of the `zxcvbn` package.

    Raises:
        MissingExtra: it is not installed.
    """
    checks.whole("count", count, least=1)
    lists: dict[str, list[str]] = _zxcvbn("zxcvbn.frequency_lists").FREQUENCY_LISTS
    return list(lists["passwords"])[:count]


def _zxcvbn(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra("the list of common passwords", "zxcvbn", "zxcvbn") from None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _is_made_of(folded: str, context: Iterable[str]) -> bool:
    """Tell whether a password is a word of its context, give or take a few characters."""
    if isinstance(context, str):
        raise InvalidArgument("context", "must be a list of words", "a text")
    words: set[str] = set()
    for entry in context:
        whole = _folded(entry)
        words |= {whole, *whole.replace("@", " ").replace(".", " ").replace("-", " ").split()}
    rest = folded
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= SHORTEST_WORD:
            rest = rest.replace(word, "")
    return len(rest) <= len(folded) // 2 and rest != folded


_BREACHED = PasswordIssue("breached", "has appeared in a data breach")
