"""Sizes, docstrings and sleeps."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.structure.tree import Module, dotted, functions, per_module

FILE_LINES = 400
FUNCTION_LINES = 40

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines after its signature and docstring."""
    first = node.body[0]
    start = first.end_lineno if ast.get_docstring(node) is not None else first.lineno - 1
    return (node.end_lineno or 0) - (start or 0)


def _check_sizes(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > FILE_LINES:
        yield module.breach(
            1, f"{lines} lines; a noun too many for one file ({FILE_LINES} at most)"
        )
    for function in functions(module.syntax):
        length = body_lines(function)
        if length > FUNCTION_LINES:
            yield module.breach(
                function.lineno, f"{function.name} has {length} lines ({FUNCTION_LINES} at most)"
            )


def _check_docstrings(module: Module) -> Iterator[str]:
    for name, node in _public(module.syntax, "module"):
        if not ast.get_docstring(node):
            yield module.breach(getattr(node, "lineno", 1), f"{name} has no docstring")


def _public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """Yield a node and the public classes, functions and methods inside it; not those nested in functions."""
    yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in _definitions(node.body):
        if not child.name.startswith("_") and not _is_silent(child):
            yield from _public(child, child.name)


def _definitions(
    body: list[ast.stmt],
) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement
        elif isinstance(statement, ast.If):
            yield from _definitions([*statement.body, *statement.orelse])


def _is_silent(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a definition is documented elsewhere: an overload, or the setter of a property."""
    marks = {dotted(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(marks & {"overload", "setter", "deleter"})


def _check_sleeps(module: Module) -> Iterator[str]:
    asleep = {
        alias.asname or alias.name
        for node in ast.walk(module.syntax)
        if isinstance(node, ast.ImportFrom) and node.module in {"time", "asyncio", "anyio"}
        for alias in node.names
        if alias.name == "sleep"
    }
    for node in ast.walk(module.syntax):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if (
            name in asleep or name in {"time.sleep", "asyncio.sleep", "anyio.sleep"}
        ) and not _is_yield(node):
            yield module.breach(node.lineno, f"{name} waits for real; move a manual clock instead")


def _is_yield(call: ast.Call) -> bool:
    """Tell whether a sleep only lets other tasks run: `asyncio.sleep(0)`."""
    first = call.args[0] if call.args else None
    return isinstance(first, ast.Constant) and first.value == 0


sizes = per_module(_check_sizes)
docstrings = per_module(_check_docstrings)
sleeps = per_module(_check_sleeps)
