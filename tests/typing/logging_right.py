"""Uses of logging that a type checker must accept, with the types it must see."""

from __future__ import annotations

from typing import assert_type

from backendkit.logging import AccessLog, Configured, audit, carry, configure_logging, get_logger


def add(one: int, other: int = 2) -> int:
    """Add."""
    return one + other


async def later(one: str) -> str:
    """Wait."""
    return one


async def use() -> None:
    """Carried functions keep their signatures."""
    assert_type(carry(add)(1, other=3), int)
    assert_type(await carry(later)("a"), str)


assert_type(configure_logging("auto", level="debug"), Configured)
assert_type(audit("a", "b", "success"), bool)
get_logger("x").info("event", any_field=object())
AccessLog().write(None, "GET", "/", 200, 1, route=None)
