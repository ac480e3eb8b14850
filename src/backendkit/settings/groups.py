"""What groups of settings are made of, and what is told of wrong ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Secret

from backendkit.core.errors import AppError

PREFIX = "BACKENDKIT_"
"""How the names of our variables begin."""


class Fault(NamedTuple):
    """One thing that is wrong with the settings.

    Attributes:
        variable: its name as in the environment.
        rule: what it should be.
        value: what it is; None where it is or may be a secret.
    """

    variable: str
    rule: str
    value: str | None


class SettingsError(AppError, ValueError):
    """Settings are wrong. `faults` has all that are; no secret is in any of them."""

    code = "SETTINGS_ERROR"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [f"{f.variable} {f.rule}" + _shown(f.value) for f in self.faults]
        super().__init__("wrong settings:\n  " + "\n  ".join(lines))


class SecretText(Secret[str]):
    """Text that shows only through `get_secret_value()`."""

    def _display(self) -> str:
        return "***"


class Group(BaseModel):
    """Settings that belong together; frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _shown(value: str | None) -> str:
    return "" if value is None else f", got {value}"
