"""Who may import whom: floors, no sideways imports, third-party libraries only in their rooms."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.structure.tree import Module, dotted, per_module

PACKAGE = "backendkit"

FEATURES = ("errors", "logging", "passwords", "tokens", "ratelimit", "cache", "resilience")

FLOORS = {
    "core": 0,
    "stores": 1,
    **dict.fromkeys(FEATURES, 2),
    "kit": 3,
    "settings": 3,
    "http": 3,
    "fastapi": 4,
    "flask": 4,
    "cli": 5,
    "testing": 5,
}

NEIGHBOURS = {("kit", "settings")}
"""The one import allowed on a floor: the composition root reads the settings."""

ABOVE_STORES = (*FEATURES, "kit", "settings", "http", "fastapi", "flask", "cli", "testing")

HOMES: dict[str, tuple[str, ...]] = {
    "argon2": ("passwords/",),
    "bcrypt": ("passwords/",),
    "zxcvbn": ("passwords/",),
    "jwt": ("tokens/",),
    "cryptography": ("tokens/", "cache/"),
    "structlog": ("logging/",),
    "pybreaker": ("resilience/",),
    "tenacity": ("resilience/",),
    "redis": ("stores/redis/", "stores/connect"),
    "hiredis": ("stores/redis/", "stores/connect"),
    "fastapi": ("fastapi/",),
    "starlette": ("fastapi/",),
    "flask": ("flask/",),
    "werkzeug": ("flask/",),
    "jinja2": ("flask/",),
    "pydantic_settings": ("settings",),
    "pydantic": ("settings", "kit", "errors/", "cache/", "http/", "fastapi/", "flask/", "testing/"),
    "msgpack": ("cache/",),
    "msgspec": ("cache/",),
    "zstandard": ("cache/",),
    "pytest": ("testing/",),
    "hypothesis": ("testing/",),
    "matplotlib": ("cli/",),
    "cachetools": ("stores", *ABOVE_STORES),
    "orjson": ABOVE_STORES,
    "opentelemetry": ABOVE_STORES,
    "prometheus_client": ABOVE_STORES,
    "httpx": ABOVE_STORES,
    "requests": ABOVE_STORES,
}
"""Where a third-party library may be imported, as the start of the module's path; nowhere else."""

PURE = {"asyncio", "threading", "socket", "select", "subprocess", "concurrent", "time", "random"}
"""What a room of pure decisions (`decide.py`) never touches."""


class Import(NamedTuple):
    """One name that a module imports: `backendkit.core.keys`, on a line, for checkers only or at run time."""

    name: str
    line: int
    typing_only: bool


def imports(module: Module) -> Iterator[Import]:
    """Yield all imports of a module: top-level, lazy, for checkers only, and `import_module("...")`."""
    guarded = {
        id(node)
        for branch in ast.walk(module.syntax)
        if isinstance(branch, ast.If) and dotted(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(module.syntax):
        for name in _imported(module, node):
            yield Import(name, getattr(node, "lineno", 1), id(node) in guarded)


def _imported(module: Module, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _from(module, node)
        # `from backendkit import kit` names a room only together with what it imports.
        return [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
    if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in {
        "import_module",
        "__import__",
    }:
        first = node.args[0] if node.args else None
        return (
            [first.value]
            if isinstance(first, ast.Constant) and isinstance(first.value, str)
            else []
        )
    return []


def _from(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = [PACKAGE, *module.path.split("/")[:-1]]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, node.module] if node.module else kept)


def _check_floors(module: Module) -> Iterator[str]:
    own = FLOORS.get(module.room)
    if own is None and module.path != "__init__.py":
        yield module.breach(
            1, f"the house has no room called {module.room!r}; give it a floor first"
        )
        return
    for found in imports(module):
        top, _, rest = found.name.partition(".")
        target = rest.split(".")[0]
        if top == PACKAGE and target in FLOORS:
            wrong = _crossing(module.room, target, typing_only=found.typing_only)
            if wrong:
                yield module.breach(found.line, wrong)


def _crossing(room: str, target: str, *, typing_only: bool) -> str | None:
    """Say what is wrong with one room importing another, or None."""
    if room == "__init__":
        return None if typing_only else f"the front door imports {target} at run time"
    if FLOORS[target] > FLOORS[room]:
        return f"{room} (floor {FLOORS[room]}) imports upward: {target} (floor {FLOORS[target]})"
    if room != target and FLOORS[target] == FLOORS[room] and (room, target) not in NEIGHBOURS:
        return f"{room} imports sideways: {target}"
    return None


def _check_homes(module: Module) -> Iterator[str]:
    for found in imports(module):
        library = found.name.split(".")[0]
        if library == PACKAGE or library in sys.stdlib_module_names or not library:
            continue
        homes = HOMES.get(library)
        if homes is None:
            yield module.breach(found.line, f"{library} is not a library that the house knows")
        elif not module.path.startswith(homes):
            yield module.breach(found.line, f"{library} belongs to {', '.join(homes)}")


def _check_pure(module: Module) -> Iterator[str]:
    parts = module.path.removesuffix(".py").split("/")
    if "decide" not in parts[1:]:
        return
    for found in imports(module):
        top = found.name.split(".")[0]
        if top in PURE or found.name.startswith((f"{PACKAGE}.stores", f"{PACKAGE}.core.clock")):
            yield module.breach(found.line, f"a pure decision imports {found.name}")


floors = per_module(_check_floors)
homes = per_module(_check_homes)
pure = per_module(_check_pure)
