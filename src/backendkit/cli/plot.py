"""A simulation as a picture: requests over time, admitted and denied, as SVG by hand or PNG by matplotlib."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from backendkit.cli.loading import UsageError
from backendkit.cli.simulation import BINS, Outcome
from backendkit.core.clock import SECOND_US
from backendkit.core.errors import MissingExtra

_WIDTH, _HEIGHT, _LEFT, _TOP = 960, 320, 60, 36
_ADMITTED, _DENIED = "#3f51b5", "#c62828"


def write_plot(path: Path, outcome: Outcome, title: str) -> None:
    """Write the picture; the file's name says which kind.

    Raises:
        UsageError: it ends in neither `.svg` nor `.png`, or cannot be written; PNG, and matplotlib is not installed.
    """
    try:
        if path.suffix == ".svg":
            path.write_text(svg(outcome, title), encoding="utf-8")
        elif path.suffix == ".png":
            _png(path, outcome, title)
        else:
            raise UsageError(f"cannot plot to {path}: it must end in .svg or .png")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def svg(outcome: Outcome, title: str) -> str:
    """Return the picture as SVG."""
    tallest = max(1, *map(sum, zip(outcome.admitted_by_bin, outcome.denied_by_bin, strict=True)))
    width = (_WIDTH - _LEFT - 20) / BINS
    room = _HEIGHT - _TOP - 40
    bars: list[str] = []
    for place in range(BINS):
        base = float(_TOP + room)
        for count, colour in (
            (outcome.admitted_by_bin[place], _ADMITTED),
            (outcome.denied_by_bin[place], _DENIED),
        ):
            height = room * count / tallest
            base -= height
            if count:
                bars.append(
                    f'<rect x="{_LEFT + place * width:.1f}" y="{base:.1f}" width="{width * 0.9:.1f}" '
                    f'height="{height:.1f}" fill="{colour}"/>'
                )
    bottom = _HEIGHT - 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
            "<style>text { font: 13px sans-serif }</style>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            f'<text x="{_LEFT}" y="22">{_escaped(title)}</text>',
            f'<text x="{_LEFT - 8}" y="{_TOP + 10}" text-anchor="end">{tallest}</text>',
            f'<text x="{_LEFT - 8}" y="{_TOP + room}" text-anchor="end">0</text>',
            f'<text x="{_LEFT}" y="{bottom}">{moment(outcome.begin_us)}</text>',
            f'<text x="{_WIDTH - 20}" y="{bottom}" text-anchor="end">{moment(outcome.end_us)}</text>',
            *bars,
            "</svg>",
            "",
        ]
    )


def moment(us: int) -> str:
    """Return a time as text, in UTC."""
    return datetime.fromtimestamp(us / SECOND_US, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _png(path: Path, outcome: Outcome, title: str) -> None:
    try:
        figures: Any = import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        missing = MissingExtra("a plot as PNG", "matplotlib", "plot")
        raise UsageError(str(missing)) from error
    figure = figures.Figure(figsize=(9.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(BINS), outcome.admitted_by_bin, color=_ADMITTED, label="admitted")
    axes.bar(
        range(BINS),
        outcome.denied_by_bin,
        bottom=outcome.admitted_by_bin,
        color=_DENIED,
        label="denied",
    )
    axes.set_title(title, loc="left")
    axes.set_xticks([0, BINS - 1], [moment(outcome.begin_us), moment(outcome.end_us)])
    axes.legend()
    figure.savefig(path)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
