"""Run the named benchmarks, or all: `python -m tests.benchmarks [NAME ...]`."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.benchmarks as package
from tests.benchmarks.measure import awake

_TOOLS = {"__main__", "measure", "report", "web"}


def main(names: list[str]) -> int:
    """Write one page per benchmark and print it; exit 2 for a name that there is not."""
    known = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in _TOOLS)
    unknown = set(names) - set(known)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return 2
    for name in names or known:
        with awake():
            print(importlib.import_module(f"tests.benchmarks.{name}").page(), flush=True)
    return 0


sys.exit(main(sys.argv[1:]))
