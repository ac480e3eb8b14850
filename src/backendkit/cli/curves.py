"""Hit ratios by size as a picture, a line for each cache."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backendkit.cli.picture import HEIGHT, LEFT, TOP, WIDTH, framed, text, write_picture

if TYPE_CHECKING:
    from backendkit.cli.replay import Row

_COLOURS = ("#3f51b5", "#c62828", "#ef6c00", "#616161")
_RIGHT, _BOTTOM = 130, 44


def write_curves(path: Path, rows: Sequence[Row], looks: int, title: str) -> None:
    """Write the picture; see `write_picture`."""
    write_picture(
        path, lambda: svg(rows, looks, title), lambda axes: _draw(axes, rows, looks, title)
    )


def svg(rows: Sequence[Row], looks: int, title: str) -> str:
    """Return the picture as SVG; sizes stand on a logarithmic scale."""
    span = log(rows[-1].items / rows[0].items) or 1.0
    room = HEIGHT - TOP - _BOTTOM
    across = [
        LEFT + (WIDTH - LEFT - _RIGHT) * log(row.items / rows[0].items) / span for row in rows
    ]
    parts: list[str] = []
    for percent in (0, 25, 50, 75, 100):
        y = TOP + room * (1 - percent / 100)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y + 4, percent, "end"))
    parts += [
        text(x, HEIGHT - 18, row.items, "middle") for x, row in zip(across, rows, strict=True)
    ]
    for place, (name, colour) in enumerate(zip(rows[0].hits, _COLOURS, strict=True)):
        points = [
            f"{x:.1f},{TOP + room * (1 - row.hits[name] / looks):.1f}"
            for x, row in zip(across, rows, strict=True)
        ]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(text(WIDTH - _RIGHT + 12, TOP + 16 + 20 * place, name, fill=colour))
    return framed(title, parts)


def _draw(axes: Any, rows: Sequence[Row], looks: int, title: str) -> None:
    sizes = [row.items for row in rows]
    for name, colour in zip(rows[0].hits, _COLOURS, strict=True):
        hits = [100 * row.hits[name] / looks for row in rows]
        axes.plot(sizes, hits, color=colour, label=name, marker="o")
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.set_title(title, loc="left")
    axes.legend()
