"""`backendkit simulate-limit`: what a limit would have done to the requests in a web server's log."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backendkit.cli.access_log import AccessLog, Entry
from backendkit.cli.loading import UsageError
from backendkit.cli.progress import Bar
from backendkit.core.errors import InvalidArgument

if TYPE_CHECKING:
    from backendkit.cli.simulation import Outcome
    from backendkit.ratelimit import Limit

HELP = "Replay an access log through a rate limit, and tell who would have been limited."

KEYS: dict[str, Callable[[Entry], str]] = {
    "ip": lambda entry: entry.ip,
    "user": lambda entry: entry.user,
    "path": lambda entry: f"{entry.method} {entry.path}",
    "ip+path": lambda entry: f"{entry.ip} {entry.method} {entry.path}",
    "all": lambda _: "all",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "access_log",
        metavar="ACCESS_LOG",
        help="common or combined format, plain or gzip; - is standard input",
    )
    parser.add_argument(
        "--limit", required=True, help="like 100/minute, or a group: '1000/day;10/second'"
    )
    parser.add_argument("--key", choices=KEYS, default="ip", help="whom to count by; default: ip")
    parser.add_argument(
        "--algorithm",
        choices=("sliding-log", "sliding-buckets", "gcra", "fixed-window"),
        default="sliding-log",
        help="default: sliding-log, which is exact",
    )
    parser.add_argument("--top", type=int, default=10, help="rows of the table; default: 10")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="an .svg or .png of it over time")


def run(args: argparse.Namespace) -> int:
    """Simulate and report."""
    from backendkit.cli.simulation import simulate  # noqa: PLC0415 - only this command needs it

    limits = _limits(args.limit, args.algorithm)
    log = AccessLog(args.access_log)
    bar = Bar()
    entries: list[Entry] = []
    for entry in log.requests():
        entries.append(entry)
        bar.show("reading", log.read, log.size)
    outcome = simulate(
        entries, limits, KEYS[args.key], lambda done, of: bar.show("playing", done, of)
    )
    bar.clear()
    print(_report(outcome, args.limit, args.key, args.top, log.malformed))
    if args.plot is not None:
        from backendkit.cli.plot import write_plot  # noqa: PLC0415 - as above

        write_plot(args.plot, outcome, f"{args.limit} by {args.key}: {_share(outcome)}")
    return 0


def _limits(text: str, algorithm: str) -> tuple[Limit, ...]:
    from backendkit.ratelimit import (  # noqa: PLC0415 - only this command needs it
        GCRA,
        Algorithm,
        FixedWindow,
        SlidingBuckets,
        SlidingLog,
        parse,
    )

    kinds: dict[str, Algorithm] = {
        "sliding-log": SlidingLog(),
        "sliding-buckets": SlidingBuckets(),
        "gcra": GCRA(),
        "fixed-window": FixedWindow(),
    }
    try:
        return tuple(replace(limit, algorithm=kinds[algorithm]) for limit in parse(text))
    except InvalidArgument as error:
        raise UsageError(str(error)) from error


def _report(outcome: Outcome, limit: str, key: str, top: int, malformed: int) -> str:
    from backendkit.cli.plot import moment  # noqa: PLC0415 - only this command needs it

    lines = [f"{limit} by {key}: {_share(outcome)}"]
    if outcome.requests:
        lines.append(f"from {moment(outcome.begin_us)} to {moment(outcome.end_us)} UTC")
    limited = outcome.limited
    lines.append(f"{len(limited)} of {len(outcome.clients)} would have been limited")
    if malformed:
        lines.append(f"{malformed} malformed lines left out")
    if len(outcome.denied_by_limit) > 1:
        lines += [f"  by {name}: {n}" for name, n in sorted(outcome.denied_by_limit.items())]
    if limited and top > 0:
        width = max(len(name) for name in (key, *(name for name, _ in limited[:top])))
        lines += ["", f"{key:<{width}}  requests    denied  first denied at (UTC)"]
        lines += [
            f"{name:<{width}}  {client.requests:>8}  {client.denied:>8}  {moment(client.first_us)}"
            for name, client in limited[:top]
        ]
    return "\n".join(lines)


def _share(outcome: Outcome) -> str:
    share = 100 * outcome.denied / outcome.requests if outcome.requests else 0.0
    return f"{outcome.denied} of {outcome.requests} requests denied ({share:.2f} %)"
