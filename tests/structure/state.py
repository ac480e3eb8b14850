"""No hidden state and no hidden inputs: module-level state, patched classes, clocks, chance, environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.structure.tree import Module, dotted, per_module

STATEFUL_MODULES = ("core/fork.py",)
"""`os.register_at_fork` is process-wide and cannot be undone, so that its registry has to be, too."""

MAKERS = {
    "list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter", "ChainMap",
    "WeakSet", "WeakKeyDictionary", "WeakValueDictionary", "LRUCache", "TTLCache", "Cache",
    "Lock", "RLock", "Condition", "Event", "Semaphore", "local", "count", "cycle",
}  # fmt: skip
"""Calls whose result changes: containers, locks, and counters."""

MUTATORS = {
    "append", "appendleft", "extend", "insert", "add", "update", "setdefault", "pop", "popitem",
    "popleft", "remove", "discard", "clear", "sort", "reverse", "__setitem__",
}  # fmt: skip

SOURCES: dict[str, tuple[str, ...]] = {
    "time": ("core/clock.py",),
    "random": ("resilience/chance.py",),
    "os.environ": ("settings",),
    "os.environb": ("settings",),
    "os.getenv": ("settings",),
    "os.putenv": ("settings",),
    "datetime.datetime.now": ("core/clock.py",),
    "datetime.datetime.utcnow": ("core/clock.py",),
    "datetime.datetime.today": ("core/clock.py",),
    "datetime.date.today": ("core/clock.py",),
}
"""What depends on when and where a program runs, and the start of the paths that may read it."""


def _check_state(module: Module) -> Iterator[str]:
    if module.path in STATEFUL_MODULES:
        return
    names = dict(_module_values(module.syntax.body))
    for name, value in names.items():
        if not _is_constant(name) and _is_mutable(value):
            yield module.breach(value.lineno, f"module-level state: {name}")
    for node in ast.walk(module.syntax):
        if isinstance(node, ast.Global):
            yield module.breach(node.lineno, f"module-level state: global {', '.join(node.names)}")
        changed = _changed_name(node)
        if changed in names and _is_mutable(names[changed]):
            yield module.breach(
                getattr(node, "lineno", 1), f"module-level state: {changed} is changed"
            )


def _module_values(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Yield each name that is given a value at module level, inside `if` and `try` as well."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield from ((t.id, node.value) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            for inner in ("body", "orelse", "finalbody", "handlers"):
                for part in getattr(node, inner, []):
                    yield from _module_values(
                        part.body if isinstance(part, ast.ExceptHandler) else [part]
                    )


def _is_constant(name: str) -> bool:
    return name.lstrip("_").isupper() or name in {"__all__", "__slots__"}


def _is_mutable(value: ast.expr) -> bool:
    displays = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    if isinstance(value, ast.Call):
        function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return dotted(function).split(".")[-1] in MAKERS
    return isinstance(value, displays)


def _changed_name(node: ast.AST) -> str:
    """Return the bare name whose value a node changes, or an empty string."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in MUTATORS
    ):
        return dotted(node.func.value)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return dotted(node.value)
    if isinstance(node, ast.AugAssign):
        return dotted(node.target)
    return ""


def _check_patches(module: Module) -> Iterator[str]:
    foreign = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(module.syntax)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(module.syntax):
        patched = _patched(node)
        if patched and patched.split(".")[0] in foreign:
            yield module.breach(getattr(node, "lineno", 1), f"patches {patched}, which it imports")


def _patched(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        return dotted(node)
    if isinstance(node, ast.Call) and dotted(node.func) in {"setattr", "delattr"} and node.args:
        return dotted(node.args[0])
    return ""


def _check_sources(module: Module) -> Iterator[str]:
    """Resolve names through the module's imports, so that an alias hides nothing."""
    known = _import_names(module.syntax)
    for node in ast.walk(module.syntax):
        for used in _uses(node, known):
            for source, allowed in SOURCES.items():
                if f"{used}.".startswith(f"{source}.") and not module.path.startswith(
                    allowed or ("\0",)
                ):
                    yield module.breach(
                        getattr(node, "lineno", 1), f"reads {source}; take it as an argument"
                    )


def _import_names(tree: ast.AST) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                for a in node.names
            }
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def _uses(node: ast.AST, known: dict[str, str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute):
        head, _, rest = dotted(node).partition(".")
        return [f"{known[head]}.{rest}"] if head in known and rest else []
    return []


state = per_module(_check_state)
patches = per_module(_check_patches)
sources = per_module(_check_sources)
