"""What logging may be told: how much of a value is written, what counts as secret, which access lines are kept."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from backendkit.core.checks import Duration, duration_us, whole
from backendkit.core.errors import InvalidArgument

Format: TypeAlias = Literal["json", "console", "auto"]
"""`json`: one object a line; `console`: for eyes; `auto`: `console` on a terminal, else `json`."""

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
"""The names of levels, as they are written."""

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The levels and the numbers that the standard library gives them."""

MASK = "[redacted]"
"""What stands in place of a secret."""

SECRET_KEYS = (
    "authorization",
    "cookie",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "session",
    "sessid",
    "csrf",
    "xsrf",
    "api_key",
    "access_key",
    "private_key",
    "encryption_key",
    "signing_key",
    "credential",
    "card_number",
)
"""Keys that hold secrets, anywhere inside a name and however it is spelt: `api_key` finds `X-Api-Key` and `myApiKey2`."""

SECRET_WORDS = ("auth", "cvc", "cvv", "jwt", "otp", "pass", "pwd", "sid", "sig", "signature", "ssn")
"""Keys that are too short to look for inside a name: they count as a whole word of it, as in `user_pwd`."""

KNOWN_KEYS = (
    "completion_tokens",
    "input_tokens",
    "max_tokens",
    "output_tokens",
    "prompt_tokens",
    "token_count",
    "token_type",
    "tokenizer",
    "total_tokens",
)
"""Keys that look secret and are not."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is taken out of records before they are written.

    By pattern go, whatever the options say: JWTs, `Bearer` and `Basic` credentials, user info and secret parameters of
    URLs and DSNs, private keys in PEM, the keys of well-known providers, and card numbers whose check digit is right.

    Args:
        keys: found anywhere inside a key's name, spelt in any way.
        words: found only as whole words of a key's name.
        keep: names that are shown although one of the above is in them.
        patterns: regular expressions whose matches go as well, from any text; their cost is paid for each.
        emails: whether e-mail addresses go.
        mask: what is written instead.

    Raises:
        InvalidArgument: a pattern that is no regular expression, or a key without letters or digits.
    """

    keys: tuple[str, ...] = SECRET_KEYS
    words: tuple[str, ...] = SECRET_WORDS
    keep: tuple[str, ...] = KNOWN_KEYS
    patterns: tuple[str, ...] = ()
    emails: bool = False
    mask: str = MASK

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _check_pattern(pattern)
        for name in (*self.keys, *self.words):
            if not any(character.isalnum() for character in name):
                raise InvalidArgument("keys", "must have letters or digits", name)

    def also(self, *keys: str) -> Redaction:
        """Return the same with more keys."""
        return Redaction(
            (*self.keys, *keys), self.words, self.keep, self.patterns, self.emails, self.mask
        )


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidArgument("patterns", "must be regular expressions", pattern) from error


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one record is written; what is left out is named in its place.

    Args:
        depth: containers inside containers, 1..32.
        items: members of one container, 1..10,000.
        values: values in one record, 16..100,000.
        string: characters of one text, 64..1,000,000.
        line: bytes of one line, 1,024..1,048,576. Docker cuts lines at 16 KiB, most collectors at 256 KiB.
    """

    depth: int = 8
    items: int = 100
    values: int = 2_000
    string: int = 8_192
    line: int = 65_536

    def __post_init__(self) -> None:
        whole("depth", self.depth, least=1, most=32)
        whole("items", self.items, least=1, most=10_000)
        whole("values", self.values, least=16, most=100_000)
        whole("string", self.string, least=64, most=1_000_000)
        whole("line", self.line, least=1_024, most=1_048_576)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Which access lines are written, and at which level.

    Args:
        sample: the share of lines that are kept, 0..1. Which ones follows from the request id, so that every service that
            sees the same id keeps the same requests.
        keep_status: answers from this status on are always kept.
        slow: requests that took as long are always kept; a `timedelta` or seconds.
        exclude: paths or route templates of which only errors are written, like those that probes ask for.
        levels: the level of 5xx, of 4xx, and of all others.
    """

    sample: float = 1.0
    keep_status: int = 400
    slow: Duration = 1.0
    exclude: frozenset[str] = frozenset()
    levels: tuple[Level, Level, Level] = ("error", "warning", "info")
    slow_us: int = field(init=False)

    def __post_init__(self) -> None:
        share(self.sample)
        whole("keep_status", self.keep_status, least=100, most=600)
        for level in self.levels:
            level_number(level)
        object.__setattr__(self, "slow_us", duration_us("slow", self.slow, least_us=0))
        object.__setattr__(self, "exclude", _texts("exclude", self.exclude))


def _texts(argument: str, values: Iterable[object]) -> frozenset[str]:
    if isinstance(values, str):
        raise InvalidArgument(argument, "must be several texts, not one", values)
    return frozenset(str(value) for value in values)


def share(value: object) -> None:
    """Refuse what is no share, 0..1.

    Raises:
        InvalidArgument: naming the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgument("sample", "must be a number in 0..1", value)


def level_number(level: object) -> int:
    """Return the number of a level's name, in any case.

    Raises:
        InvalidArgument: there is no such level.
    """
    number = LEVELS.get(level.lower()) if isinstance(level, str) else None
    if number is None:
        raise InvalidArgument("level", f"must be one of {', '.join(LEVELS)}", level)
    return number
