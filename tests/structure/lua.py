"""Lua that counts right: what a script's text must not contain.

Lua 5.1 has one kind of number, and turns it into text with 14 digits: `..`, `tostring` and `%s` make
`1.79e+15` of a microsecond timestamp. Plain arguments to `redis.call` pass exactly. A floor is spelled
`(a - a % b) / b`, as in Python. A global survives the script on a server that allows it, and fails on one that does not.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from backendkit.core.operation import Script
from tests.structure.tree import dotted, modules

REFUSED = {
    r"(?<!\.)\.\.(?!\.)": "`..` turns numbers into text with 14 digits; string.format('%.0f', x)",
    r"\btostring\b": "tostring turns numbers into text with 14 digits; string.format('%.0f', x)",
    r"\bmath\.floor\b": "math.floor; a floor is spelled (a - a % b) / b",
    r":\s*format\b": "a format as a method; string.format('%.0f', x)",
    r"\bloadstring\b|\bsetfenv\b|\b_G\b": "code or globals made at run time",
}

FORMAT = re.compile(r"""string\.format\s*\(\s*(?:'([^']*)'|"([^"]*)")?""")
COMMENT = re.compile(r"--\[\[.*?\]\]|--[^\n]*", re.DOTALL)
TEXT = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
TABLE = re.compile(r"\{[^{}]*\}")
LOCAL = re.compile(r"\blocal\s+(?:function\s+)?([\w\s,]+?)\s*(?=[=(;\n]|$|\blocal\b)")
LOOP = re.compile(r"\bfor\s+([\w\s,]+?)\s*(?:=|\bin\b)")
PARAMETERS = re.compile(r"\bfunction\b[^(]*\(([^)]*)\)")
ASSIGNED = re.compile(r"(?<![\w.\[\]:])([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*(?<![=<>~])=(?!=)")
FUNCTION = re.compile(r"(?<!local )\bfunction\s+(\w+)\s*\(")
WORDS = {
    "and",
    "do",
    "else",
    "elseif",
    "end",
    "for",
    "if",
    "in",
    "local",
    "not",
    "or",
    "repeat",
    "return",
    "then",
    "until",
    "while",
}


def faults(text: str) -> list[str]:
    """Return what is wrong with a script's text; empty if nothing is."""
    code = COMMENT.sub("", text)
    bare = TEXT.sub("''", code)
    found = [why for pattern, why in REFUSED.items() if re.search(pattern, bare)]
    for match in FORMAT.finditer(code):
        template = match[1] if match[1] is not None else match[2]
        if template is None or set(re.findall(r"%[^%a-zA-Z]*[%a-zA-Z]", template)) - {"%.0f", "%%"}:
            found.append(f"string.format({template!r}): numbers travel as %.0f only")
    return found + [f"{name} is a global" for name in sorted(_globals(bare))]


def _globals(bare: str) -> set[str]:
    while TABLE.search(bare):
        bare = TABLE.sub("", bare)  # `{a = 1}` assigns a field, not a name
    declared = {"now"}  # the store declares it
    for pattern in (LOCAL, LOOP, PARAMETERS):
        for match in pattern.finditer(bare):
            declared |= set(re.findall(r"\w+", match[1]))
    assigned = {name for match in ASSIGNED.finditer(bare) for name in re.findall(r"\w+", match[1])}
    return (assigned | set(FUNCTION.findall(bare))) - declared - WORDS


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield where and what, for each Lua text that can be read in the source without running it."""
    for module in modules(root):
        for node in ast.walk(module.syntax):
            yield from (
                (module.breach(getattr(node, "lineno", 1), ""), text) for text in _spelled(node)
            )


def _spelled(node: ast.AST) -> Iterator[str]:
    """Yield the text of `LUA = "..."`, `X_LUA = "..."` and `Script(..., lua="...")`."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [dotted(target).lstrip("_").upper() for target in targets]
        if any(name.startswith("LUA") or name.endswith("_LUA") for name in names):
            yield from _strings(node.value)
    elif isinstance(node, ast.Call):
        yield from (t for k in node.keywords if k.arg == "lua" for t in _strings(k.value))


def _strings(value: ast.expr | None) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value


def scripts(package: ModuleType) -> dict[str, str]:
    """Return name and Lua of each Script that importing a whole package makes reachable, made by whatever code."""
    found: dict[str, str] = {}
    for module in _import_all(package):
        for holder in (module, *(v for v in vars(module).values() if isinstance(v, type))):
            for value in list(vars(holder).values()):
                found |= {script.name: script.lua for script in _within(value)}
    return found


def _import_all(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def _within(value: object) -> Iterator[Script]:
    if isinstance(value, Script):
        yield value
    elif isinstance(value, dict):
        yield from (item for item in value.values() if isinstance(item, Script))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (item for item in value if isinstance(item, Script))


def lua(root: Path) -> list[str]:
    """Return the faults of every Lua text in a tree."""
    return [f"{where}{fault}" for where, text in texts(root) for fault in faults(text)]
