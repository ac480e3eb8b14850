"""A simulation as a picture: requests over time, admitted and denied, as SVG by hand or PNG by matplotlib."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backendkit.cli.picture import HEIGHT, LEFT, TOP, WIDTH, framed, text, write_picture
from backendkit.cli.simulation import BINS, Outcome
from backendkit.core.clock import SECOND_US

_ADMITTED, _DENIED = "#3f51b5", "#c62828"


def write_plot(path: Path, outcome: Outcome, title: str) -> None:
    """Write the picture; see `write_picture`."""
    write_picture(path, lambda: svg(outcome, title), lambda axes: _draw(axes, outcome, title))


def svg(outcome: Outcome, title: str) -> str:
    """Return the picture as SVG."""
    tallest = max(1, *map(sum, zip(outcome.admitted_by_bin, outcome.denied_by_bin, strict=True)))
    width = (WIDTH - LEFT - 20) / BINS
    room = HEIGHT - TOP - 40
    bars: list[str] = []
    for place in range(BINS):
        base = float(TOP + room)
        for count, colour in (
            (outcome.admitted_by_bin[place], _ADMITTED),
            (outcome.denied_by_bin[place], _DENIED),
        ):
            height = room * count / tallest
            base -= height
            if count:
                bars.append(
                    f'<rect x="{LEFT + place * width:.1f}" y="{base:.1f}" width="{width * 0.9:.1f}" '
                    f'height="{height:.1f}" fill="{colour}"/>'
                )
    bottom = HEIGHT - 16
    return framed(
        title,
        [
            text(LEFT - 8, TOP + 10, tallest, "end"),
            text(LEFT - 8, TOP + room, 0, "end"),
            text(LEFT, bottom, moment(outcome.begin_us)),
            text(WIDTH - 20, bottom, moment(outcome.end_us), "end"),
            *bars,
        ],
    )


def moment(us: int) -> str:
    """Return a time as text, in UTC."""
    return datetime.fromtimestamp(us / SECOND_US, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _draw(axes: Any, outcome: Outcome, title: str) -> None:
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
