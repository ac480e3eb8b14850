"""Reading a source tree: what every rule of this folder walks over.

A rule is a function from a tree to a list of breaches, each one line that names file, line and what is wrong.
That is what lets a test hand it a tiny tree of its own and see it bite.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "backendkit"


@dataclass(frozen=True, slots=True)
class Module:
    """One source file, parsed.

    Attributes:
        path: relative to the walked tree, like `core/clock.py`.
        text: its content.
        syntax: its syntax tree.
    """

    path: str
    text: str
    syntax: ast.Module

    @property
    def room(self) -> str:
        """The top-level name it belongs to: `core`, `kit`, or `__init__` for the package itself."""
        return self.path.split("/")[0].removesuffix(".py")

    def breach(self, line: int, what: str) -> str:
        """Say what is wrong in one line that editors can jump to."""
        return f"{self.path}:{line}: {what}"


Rule: TypeAlias = Callable[[Path], list[str]]


def modules(root: Path) -> Iterator[Module]:
    """Yield every Python file under a folder, parsed; nothing where the folder does not exist yet."""
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield Module(path.relative_to(root).as_posix(), text, ast.parse(text))


def per_module(check: Callable[[Module], Iterator[str]]) -> Rule:
    """Make a rule of a check that looks at one module at a time."""

    def rule(root: Path) -> list[str]:
        return [breach for module in modules(root) for breach in check(module)]

    return rule


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of names, or an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function below a node, methods and nested ones included."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
