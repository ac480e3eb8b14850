"""Pictures of what a command found: SVG by hand, PNG by matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from backendkit.cli.loading import UsageError
from backendkit.core.errors import MissingExtra

WIDTH, HEIGHT, LEFT, TOP = 960, 320, 60, 36


def write_picture(path: Path, svg: Callable[[], str], draw: Callable[[Any], None]) -> None:
    """Write a picture; the file's name says which kind.

    Args:
        path: where to.
        svg: makes it as SVG.
        draw: draws it on matplotlib's axes.

    Raises:
        UsageError: it ends in neither `.svg` nor `.png`, or cannot be written; PNG, and matplotlib is not installed.
    """
    try:
        if path.suffix == ".svg":
            path.write_text(svg(), encoding="utf-8")
        elif path.suffix == ".png":
            _png(path, draw)
        else:
            raise UsageError(f"cannot plot to {path}: it must end in .svg or .png")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def framed(title: str, parts: Sequence[str]) -> str:
    """Return a whole SVG."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
            "<style>text { font: 13px sans-serif }</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            text(LEFT, 22, title),
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x: float, y: float, content: object, anchor: str = "start", fill: str = "black") -> str:
    """Return a text's SVG."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{fill}">{_escaped(content)}</text>'


def _png(path: Path, draw: Callable[[Any], None]) -> None:
    try:
        figures: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        missing = MissingExtra("a plot as PNG", "matplotlib", "plot")
        raise UsageError(str(missing)) from error
    figure = figures.Figure(figsize=(WIDTH / 100, HEIGHT / 100), layout="constrained")
    draw(figure.add_subplot())
    figure.savefig(path)


def _escaped(content: object) -> str:
    return str(content).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
