"""Message templates, like `Seat {seat} is taken`: which parameters they name, filling them in, reading them back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from string import Formatter
from typing import Any, TypeAlias

Piece: TypeAlias = "tuple[str, str | None]"
"""A literal text, and the field after it, with conversion and format; None at the end."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WIDE = re.compile(r"\d{4}|[{}]")


@lru_cache(maxsize=1024)
def fields(template: str) -> tuple[str, ...]:
    """Return the parameters that a template names plainly, each once, in order; none if it is no template."""
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name]
    except ValueError:
        return ()
    return tuple(dict.fromkeys(name for name in names if _PLAIN.fullmatch(name)))


def fill(template: str, params: Mapping[str, Any]) -> str | None:
    """Return the template with its parameters, or None where one is missing or cannot be shown."""
    try:
        return template.format_map(params)
    except Exception:  # noqa: BLE001 - a parameter's own __format__ may raise anything
        return None


def faults(template: str, allowed: frozenset[str]) -> Iterator[str]:
    """Say what is wrong with a template that came from outside the code: a catalogue of translations.

    Only plain names, for `{user.password}` in a file of texts would reach into objects; no `!r`, which shows what
    only logs should; no width of a thousand, which fills memory.
    """
    try:
        found = list(Formatter().parse(template))
    except ValueError as error:
        yield f"is no template: {error}"
        return
    for _, name, spec, conversion in found:
        if name is None:
            continue
        if not _PLAIN.fullmatch(name):
            yield f"has {{{name}}}, and a parameter is a plain name"
        elif name not in allowed:
            yield f"has the parameter {{{name}}}, which the original does not have"
        if conversion or _WIDE.search(spec or ""):
            yield f"has a conversion or a width at {{{name}}} that a text may not have"


def read_back(template: str, text: str) -> dict[str, str] | None:
    """Return the parameters from which `template` gave `text`, or None where that is not certain.

    Each literal is sought from the left and from the right. If both find the same places, there is one way to
    read the text; this takes time in proportion to its length, which a pattern of several `.*` would not.
    """
    if text == template:
        return {}
    pieces = _pieces(template)
    if pieces is None:
        return None
    literals = [literal for literal, _ in pieces]
    spans = _from_left(literals, text)
    if spans is None or spans != _from_right(literals, text):
        return None
    names = [name for _, name in pieces if name is not None]
    values = [text[left:right] for left, right in spans]
    params = dict(zip(names, values, strict=True))
    return params if fill(template, params) == text else None


@lru_cache(maxsize=1024)
def _pieces(template: str) -> tuple[Piece, ...] | None:
    """Return literals and names in turn, a literal last; None where a field is not read back from its text alone."""
    out: list[Piece] = []
    before = ""
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            before += literal  # a doubled brace ends a literal without a field after it
            if name is None:
                continue
            if spec or conversion or not _PLAIN.fullmatch(name):
                return None
            out.append((before, name))
            before = ""
    except ValueError:
        return None
    return (*out, (before, None))


def _from_left(literals: list[str], text: str) -> list[tuple[int, int]] | None:
    """Return where the fields lie if every literal stands as far to the left as it can."""
    first, *others = literals
    if not text.startswith(first):
        return None
    spans: list[tuple[int, int]] = []
    at = len(first)
    for literal in others[:-1]:
        found = text.find(literal, at)
        if found < 0:
            return None
        spans.append((at, found))
        at = found + len(literal)
    return _closed(spans, at, others[-1], text) if others else None


def _closed(
    spans: list[tuple[int, int]], at: int, last: str, text: str
) -> list[tuple[int, int]] | None:
    end = len(text) - len(last)
    if not text.endswith(
        last
    ):  # that it may overlap what comes before shows when the text is made again
        return None
    return [*spans, (at, end)]


def _from_right(literals: list[str], text: str) -> list[tuple[int, int]] | None:
    """Do the same from the other side, by reading everything backwards."""
    spans = _from_left([literal[::-1] for literal in reversed(literals)], text[::-1])
    if (
        spans is None
    ):  # pragma: no cover - what can be read from the left can be read from the right
        return None
    size = len(text)
    return [(size - right, size - left) for left, right in reversed(spans)]
