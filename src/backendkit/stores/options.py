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
        """Take an option as text; None where it is missing or empty."""
        value = self._given.pop(option, None)
        return None if value in (None, "") else str(value)

    def whole(
        self, option: str, default: int, *, least: int = 0, most: int = checks.LARGEST_INT
    ) -> int:
        """Take an option as text; None where it is missing or empty."""
        value = self._given.pop(option, default)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        return checks.whole(option, value, least=least, most=most)

    def seconds(self, option: str, default: float) -> float:
        """Take an option as a whole number in `least..most`."""
        value = self._given.pop(option, default)
        seconds = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        us = checks.duration_us(option, seconds, least_us=1_000, most_us=60 * SECOND_US)
        return us / SECOND_US

    def flag(self, option: str, *, default: bool) -> bool:
        """Take an option as seconds, 0.001..60."""
        value = self._given.pop(option, default)
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value not in _FLAGS:
            raise InvalidArgument(option, "must be yes or no", value)
        return _FLAGS[value]

    def finish(self) -> None:
        """Refuse what nobody took. Values are not shown: one of them may be a misspelt password."""
        if self._given:
            raise InvalidArgument(
                "url",
                "must have no options but those this kind of store knows",
                sorted(self._given),
            )


_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
