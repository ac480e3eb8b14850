"""`backendkit passwords calibrate`: argon2id parameters for the machine it runs on."""

from __future__ import annotations

import argparse

from backendkit.cli.loading import UsageError
from backendkit.core.errors import InvalidArgument

HELP = "Measure this machine and recommend parameters for hashing passwords."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", choices=("calibrate",))
    parser.add_argument("--target-ms", type=float, default=100, help="for one hash; default: 100")
    parser.add_argument("--memory-mib", type=int, default=256, help="for all workers; default: 256")
    parser.add_argument("--concurrency", type=int, help="workers; default: as many as cores")


def run(args: argparse.Namespace) -> int:
    """Measure and report."""
    from backendkit.passwords import calibrate  # noqa: PLC0415 - only this command needs argon2

    try:
        found = calibrate(args.target_ms, memory_mib=args.memory_mib, concurrency=args.concurrency)
    except InvalidArgument as error:
        raise UsageError(str(error)) from None
    print(found.report())
    return 0
