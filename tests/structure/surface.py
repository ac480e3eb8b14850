"""What users can reach: every public name with its signature, as text that a review can read.

usage: python -m tests.structure.surface --write

One file a room stands in `snapshots/`; a change of the surface is a change of one of them, seen in the same
review. Read from the source, not by importing it: the text is the same on every Python.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.structure.tree import SRC, Module, dotted, modules

SNAPSHOTS = Path(__file__).parent / "snapshots"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def surface(root: Path) -> dict[str, str]:
    """Return the public names of a tree, room by room."""
    rooms: dict[str, list[str]] = {}
    for module in modules(root):
        if not any(_is_private(part) for part in _name(module).split(".")):
            rooms.setdefault(module.room, []).extend(_lines(module))
    return {room: "\n".join(lines) + "\n" for room, lines in rooms.items() if lines}


def saved() -> dict[str, str]:
    """Return what was last written down."""
    return {path.stem: path.read_text(encoding="utf-8") for path in SNAPSHOTS.glob("*.txt")}


def write() -> None:
    """Write the surface of the source tree down, and forget rooms that are gone."""
    now = surface(SRC)
    SNAPSHOTS.mkdir(exist_ok=True)
    for stale in saved().keys() - now.keys():
        (SNAPSHOTS / f"{stale}.txt").unlink()
    for room, text in now.items():
        (SNAPSHOTS / f"{room}.txt").write_text(text, encoding="utf-8")


def _name(module: Module) -> str:
    parts = ["backendkit", *module.path.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_private(name: str) -> bool:
    return name.startswith("_")


def _lines(module: Module) -> Iterator[str]:
    """Yield one line per public name of a module: what it defines and, in a package, what it hands on."""
    name = _name(module)
    for node in _statements(module.syntax.body):
        if isinstance(node, Definition):
            yield from _definition(name, node)
        elif isinstance(node, ast.ImportFrom):
            yield from _handed_on(name, node, is_package=module.path.endswith("__init__.py"))
        else:
            yield from _values(name, node)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])
        else:
            yield node


def _definition(prefix: str, node: Definition) -> Iterator[str]:
    if _is_private(node.name) and node.name != "__init__":
        return
    decorators = "".join(f"@{ast.unparse(d)} " for d in node.decorator_list)
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, [*node.bases, *(k.value for k in node.keywords)]))
        yield f"{decorators}class {prefix}.{node.name}({bases})"
        for inner in _statements(node.body):
            path = f"{prefix}.{node.name}"
            yield from (
                _definition(path, inner) if isinstance(inner, Definition) else _values(path, inner)
            )
        return
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    yield f"{decorators}{kind} {prefix}.{node.name}({ast.unparse(node.args)}){returns}"


def _handed_on(prefix: str, node: ast.ImportFrom, *, is_package: bool) -> Iterator[str]:
    source = "." * node.level + (node.module or "")
    for alias in node.names:
        public = alias.asname or alias.name
        ours = node.level or source.startswith("backendkit")
        if is_package and ours and not _is_private(public):
            yield f"{prefix}.{public} from {source}"


def _values(prefix: str, node: ast.stmt) -> Iterator[str]:
    """Yield constants and annotated attributes: their names and types, not their values."""
    if isinstance(node, ast.AnnAssign):
        name = dotted(node.target)
        if name == "_HOMES" and isinstance(node.value, ast.Dict):
            yield from _lazy(prefix, node.value)
        elif not _is_private(name):
            yield f"{prefix}.{name}: {ast.unparse(node.annotation)}"
    elif isinstance(node, ast.Assign) and not _is_typing_aid(node):
        yield from (
            f"{prefix}.{name}" for name in map(dotted, node.targets) if not _is_private(name)
        )


def _lazy(prefix: str, table: ast.Dict) -> Iterator[str]:
    """Yield the names that the front door imports on first use."""
    for name, home in zip(table.keys, table.values, strict=True):
        if name is not None:
            yield f"{prefix}.{ast.literal_eval(name)} from {ast.literal_eval(home)}"


def _is_typing_aid(node: ast.Assign) -> bool:
    """Tell whether an assignment speaks to checkers only: a type variable, or the TYPE_CHECKING flag."""
    made = dotted(node.value.func) if isinstance(node.value, ast.Call) else ""
    return made in {"TypeVar", "ParamSpec"} or dotted(node.targets[0]) == "TYPE_CHECKING"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
