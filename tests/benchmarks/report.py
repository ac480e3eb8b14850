"""A page of results: a table, the plot beside it, and what one needs to measure it again."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from matplotlib.figure import Figure

PAGES = Path("docs/benchmarks")

_AWAKE = "A process per core, which gives way to everybody, keeps the cores awake: waking them would take longer than all else."


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, against what, and what we had set ourselves.

    Attributes:
        what: the case.
        ours: our figure, with its unit.
        rival: the rival's name, or the floor's.
        theirs: its figure, with its unit; "" for a bound without a rival.
        ratio: ours / theirs, or ours / bound; what the plot shows.
        target: the ratio at most; None: it is a floor, to judge the others by.
    """

    what: str
    ours: str
    rival: str
    theirs: str
    ratio: float
    target: float | None

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.target is None or self.ratio <= self.target


def write(
    name: str,
    title: str,
    text: str,
    rows: Sequence[Row],
    packages: Sequence[str],
    *,
    notes: str = "",
) -> str:
    """Write `<name>.md` and `<name>.svg` and return the page."""
    PAGES.mkdir(parents=True, exist_ok=True)
    _plot(PAGES / f"{name}.svg", rows)
    lines = [
        f"# {title}",
        "",
        text.strip(),
        "",
        "| what | ours | beside | theirs | ratio | target | |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
        f"![Ratios to the rivals, shorter is faster; the marks are the targets]({name}.svg)",
        "",
        *([notes.strip(), ""] if notes else []),
        f"Measured with `python -m tests.benchmarks {name}` on {_machine()}; {_versions(packages)}.",
        _AWAKE,
        "",
    ]
    page = "\n".join(lines)
    (PAGES / f"{name}.md").write_text(page)
    return page


def _line(row: Row) -> str:
    figures = f"| {row.what} | {row.ours} | {row.rival} | {row.theirs} | {row.ratio:.2f} |"
    if row.target is None:
        return f"{figures} | floor |"
    return f"{figures} <= {row.target:.2f} | {'met' if row.met else '**missed**'} |"


def _plot(path: Path, rows: Sequence[Row]) -> None:
    figure = Figure(figsize=(8, 0.45 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    colours = [
        "#9e9e9e" if row.target is None else "#3f51b5" if row.met else "#c62828" for row in rows
    ]
    axes.barh(places, [row.ratio for row in rows], color=colours, height=0.6)
    marks = [(row.target, place) for place, row in enumerate(rows) if row.target is not None]
    axes.plot(*zip(*marks, strict=True), "|", color="black", markersize=16)
    axes.set_yticks(places, [row.what for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the rival or the bound (mark: target)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"


def _versions(packages: Sequence[str]) -> str:
    found: list[str] = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)
