"""Reading the command line, and finding the command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

import backendkit
from backendkit.cli import commands
from backendkit.cli.loading import UsageError


class Command(Protocol):
    """What a module in `commands/` has; the command's name is the module's."""

    HELP: str
    """One line."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do what was asked, and return the exit status.

        Raises:
            UsageError: told to the user, with status 2.
        """
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 where the command line is wrong, 141 where nobody reads on.

    Args:
        argv: arguments without the program's name; None: those of the process.
    """
    parser = argparse.ArgumentParser(prog="backendkit", description="Tools of backendkit.")
    parser.add_argument("--version", action="version", version=backendkit.__version__)
    names = parser.add_subparsers(title="commands", metavar="command", required=True)
    for name, command in _commands():
        own = names.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    try:
        status = cast("int", args.run(args))
        sys.stdout.flush()
    except UsageError as error:
        print(f"backendkit: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, like `head`
        # At its end the interpreter flushes once more, and would tell of the same (Python's manual, module signal).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CUT
    return status


_CUT = 141
"""128 and the number of SIGPIPE, as shells tell it."""


def _commands() -> Iterator[tuple[str, Command]]:
    for module in sorted(iter_modules(commands.__path__), key=lambda module: module.name):
        found = import_module(f"{commands.__name__}.{module.name}")
        yield module.name.replace("_", "-"), cast("Command", found)
