"""The figure of the circuit's modes, drawn from the table that the circuit is made of."""

from __future__ import annotations

from html import escape
from pathlib import Path

from backendkit.resilience.decide.circuit import MODES, MOVES

FIGURE = Path("docs/explanation/figures/circuit.svg")

_PLACES = {"closed": (110, 70), "open": (610, 70), "half-open": (360, 210)}
_WIDTH, _HEIGHT = 130, 40
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0L10 5L0 10z" fill="#3f51b5"/></marker></defs>'
)


def drawn() -> str:
    """Return the figure as SVG."""
    by_hand = [mode for mode in MODES if mode not in _PLACES]
    boxes = dict(_PLACES) | {mode: (160 + 200 * at, 320) for at, mode in enumerate(by_hand)}
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 370" font-family="sans-serif" font-size="12">',
        _TIP,
        '<rect width="720" height="370" fill="white"/>',
    ]
    for old, new, why in MOVES:
        lines += _arrow(_PLACES[old], _PLACES[new], why, back=(new, old) in _pairs())
    lines += [_box(mode, place, by_hand=mode in by_hand) for mode, place in boxes.items()]
    lines.append(
        '<text x="360" y="285" text-anchor="middle" fill="#555">set and left by hand</text>'
    )
    return "\n".join([*lines, "</svg>", ""])


def _pairs() -> set[tuple[str, str]]:
    return {(old, new) for old, new, _ in MOVES}


def _box(mode: str, place: tuple[int, int], *, by_hand: bool) -> str:
    x, y = place
    dashes = ' stroke-dasharray="4"' if by_hand else ""
    return (
        f'<rect x="{x - _WIDTH // 2}" y="{y - _HEIGHT // 2}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#e8eaf6" '
        f'stroke="#3f51b5"{dashes}/><text x="{x}" y="{y + 4}" text-anchor="middle">{escape(mode)}</text>'
    )


def _arrow(old: tuple[int, int], new: tuple[int, int], why: str, *, back: bool) -> list[str]:
    """Return an arrow from edge to edge; two that run both ways stand apart."""
    (x1, y1), (x2, y2) = old, new
    if y1 == y2:
        side = _WIDTH // 2 if x2 > x1 else -_WIDTH // 2
        x1, x2 = x1 + side, x2 - side
    else:
        down = _HEIGHT // 2 if y2 > y1 else -_HEIGHT // 2
        shift = (30 if y2 > y1 else -30) if back else 0
        x1, x2, y1, y2 = x1 + shift, x2 + shift, y1 + down, y2 - down
    middle_x, middle_y = (x1 + x2) // 2, (y1 + y2) // 2
    lift = -8 if y1 == y2 else (-14 if y2 > y1 else 22)
    style = 'text-anchor="middle" fill="#222" stroke="white" stroke-width="4" paint-order="stroke"'
    return [
        f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#3f51b5" fill="none" marker-end="url(#tip)"/>',
        f'<text x="{middle_x}" y="{middle_y + lift}" {style}>{escape(why)}</text>',
    ]


if __name__ == "__main__":
    FIGURE.write_text(drawn())
