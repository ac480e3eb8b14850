"""The options of a store's URL: each taken once, by name; what nobody takes is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backendkit.core import checks
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import InvalidArgument


class Options:
    """Options by name, each taken once; what nobody took is an error."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = dict(given)

    def default(self, option: str, value: object) -> None:
        """Give an option a value unless it has one."""
        self._given.setdefault(option, value)

    def text(self, option: str) -> str | None:
        """Take an option as text; None where it is missing or empty. No error shows its value."""
        value = self._given.pop(option, None)
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(option, "must be text", type(value))
        return value or None

    def whole(
        self, option: str, default: int, *, least: int = 0, most: int = checks.LARGEST_INT
    ) -> int:
        """Take an option as a whole number in `least..most`."""
        value = self._given.pop(option, default)
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        return checks.whole(option, value, least=least, most=most)

    def seconds(self, option: str, default: float) -> float:
        """Take an option as seconds, 0.001..60."""
        value = self._given.pop(option, default)
        seconds = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        us = checks.duration_us(option, seconds, least_us=1_000, most_us=60 * SECOND_US)
        return us / SECOND_US

    def flag(self, option: str, *, default: bool) -> bool:
        """Take an option as yes or no."""
        value = self._given.pop(option, default)
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value not in _FLAGS:
            raise InvalidArgument(option, "must be yes or no", value)
        return _FLAGS[value]

    def finish(self) -> None:
        """Refuse what nobody took. Values are not shown, nor what is no name: part of a password may stand there."""
        if self._given:
            names = sorted(name if _NAME.fullmatch(name) else HIDDEN for name in self._given)
            raise InvalidArgument(
                "url", "must have no options but those this kind of store knows", names
            )


HIDDEN = "***"
"""Stands in an error for a piece of a URL: where one is wrong, a password that was not escaped may be why."""

_NAME = re.compile(r"[a-z]+(_[a-z]+)*")
_DIGITS = re.compile(r"[0-9]{1,16}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")
_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
