"""The command line: `backendkit <command>`.

A command is one file in `commands/`; adding it there is all that it takes. Each imports its feature when it runs, so
that help and the other commands do not pay for it.
"""

from backendkit.cli.main import main

__all__ = ["main"]
