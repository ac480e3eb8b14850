"""`backendkit simulate-cache`: what a first tier of a given size would have hit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backendkit.cli.loading import UsageError
from backendkit.cli.progress import Bar
from backendkit.cli.trace import Look, Trace

if TYPE_CHECKING:
    from backendkit.cli.replay import Row

HELP = (
    "Replay a trace of keys through the first tier of the cache, beside LRU, LFU and the optimum."
)

USUAL = "1%,3%,10%,30%"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "trace",
        metavar="TRACE",
        help="one key a line, CSV of key and bytes, or an access log; plain or gzip; - is standard input",
    )
    parser.add_argument(
        "--items",
        default=USUAL,
        metavar="N",
        help=f"entries to try, numbers or shares of the keys, parted by commas; default: {USUAL}",
    )
    parser.add_argument(
        "--bytes", dest="most_bytes", type=_bytes, metavar="B", help="bound in bytes, like 64M"
    )
    parser.add_argument(
        "--format", choices=("auto", "keys", "csv", "log"), default="auto", help="default: auto"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="an .svg or .png of it by size")


def run(args: argparse.Namespace) -> int:
    """Simulate and report."""
    from backendkit.cli.replay import UNBOUNDED_BYTES, replay  # noqa: PLC0415 - only this command needs it

    source, bar = Trace(args.trace, args.format), Bar()
    trace: list[Look] = []
    for look in source.looks():
        trace.append(look)
        bar.show("reading", source.read, source.size)
    if not trace:
        raise UsageError(f"{args.trace} tells of no look-up")
    trace.sort(key=lambda look: look.at_us)
    keys = len({look.key for look in trace})
    rows = replay(
        trace,
        _sizes(args.items, keys),
        args.most_bytes or UNBOUNDED_BYTES,
        lambda done, of: bar.show("playing", done, of),
    )
    bar.clear()
    print(_report(rows, len(trace), keys, args.most_bytes, source.malformed))
    if args.plot is not None:
        from backendkit.cli.curves import write_curves  # noqa: PLC0415 - as above

        title = f"{len(trace)} look-ups of {keys} keys: hits in %, by entries"
        write_curves(args.plot, rows, len(trace), title)
    return 0


def _report(
    rows: Sequence[Row], looks: int, keys: int, most_bytes: int | None, malformed: int
) -> str:
    lines = [f"{looks} look-ups of {keys} keys"]
    if most_bytes:
        lines[0] += f", at most {most_bytes} bytes"
    if malformed:
        lines.append(f"{malformed} malformed lines left out")
    names = list(rows[0].hits)
    lines += ["", "   entries  of keys" + "".join(f"{name:>12}" for name in names)]
    lines += [
        f"{row.items:>10}  {100 * row.items / keys:>5.1f} %"
        + "".join(f"{100 * row.hits[name] / looks:>10.2f} %" for name in names)
        for row in rows
    ]
    return "\n".join(lines)


def _sizes(text: str, keys: int) -> list[int]:
    sizes: set[int] = set()
    for piece in text.split(","):
        number = piece.strip()
        try:
            size = int(keys * float(number[:-1]) / 100) if number.endswith("%") else int(number)
        except (ValueError, OverflowError):
            raise UsageError(f"--items must be numbers or shares like 10%, got {piece!r}") from None
        if not 0 < size <= 10**9 and not number.endswith("%"):
            raise UsageError(f"--items must be 1..1000000000, got {piece!r}")
        sizes.add(max(size, 1))
    return sorted(sizes)


def _bytes(text: str) -> int:
    units = {"K": 10, "M": 20, "G": 30}
    shift = units.get(text[-1:].upper(), 0)
    size = int(text[:-1] if shift else text) << shift
    if size < 1_024:
        raise argparse.ArgumentTypeError("must be at least 1024")
    return size
